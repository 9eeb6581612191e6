"""Shifted validation data in the real loops of the adapters: the passes of the radius see them, and nothing else does.

Each loop runs once with shifted held-out data and once without. All inputs that the network has seen are compared with
the rows of both.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

import letsam
from integrations.cases import cross_entropy, data, learned, network
from learned_radius import learned_radius
from letsam.integrations.accelerate import step
from letsam.integrations.lightning import SharpnessAwareCallback
from letsam.integrations.transformers import SharpnessAwareTrainer
from letsam.validation import shifted

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("_fresh_state")]
TRAIN, HELD_OUT = data(32, 1), data(16, 2)
SHIFT = "noisy:3,missing:4"
LETS = functools.partial(letsam.SAM, rho=learned_radius(0.05, interval=1, burn_in=0))


class Watched:
    """The rows that a network has seen, as numbers that tell them apart."""

    def __init__(self, model: nn.Module) -> None:
        self.rows = set[float]()
        model.register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = args[0] if args else kwargs.get("pixel_values", kwargs.get("input_ids"))
        self.rows |= numbers(inputs)


def numbers(inputs: Tensor) -> set[float]:
    """A number for each row: a weighted sum that two rows hardly share."""
    flat = inputs.detach().double().flatten(1)
    return set((flat @ torch.arange(1, flat.shape[1] + 1).double().sqrt()).mul(1e6).round().tolist())


def check(seen: Watched, rho: Tensor, plain: Watched, plain_rho: Tensor, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    """Compare two runs.

    Args:
        seen: by the network with shifted held-out data.
        rho: its radius at the end.
        plain: by the network with the held-out data as they are.
        plain_rho: its radius.
        inputs: of the training data, of the held-out data as they are, and shifted.
    """
    train, clean, drifted = map(numbers, inputs)
    assert len(drifted - clean) > len(drifted) / 2
    assert plain.rows == train | clean
    assert seen.rows == train | drifted
    assert not torch.equal(rho, plain_rho)
    assert float(rho) != 0.05


class Lazy(Dataset[Any]):
    """The same samples, one by one: a `DataLoader` then asks the shifted data set for whole batches."""

    def __init__(self, samples: TensorDataset) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.samples[index]  # pyright: ignore[reportReturnType]


class Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = network()

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return cross_entropy(self.model, batch)

    def configure_optimizers(self) -> Any:
        self.sam = LETS(torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9))
        return self.sam


@pytest.mark.parametrize("form", [lambda rows: rows, Lazy, lambda rows: Subset(rows, range(16))])
def test_lightning(form: Any, tmp_path: Path) -> None:
    held_out = form(HELD_OUT)

    def fit(validation: Dataset[Any]) -> tuple[Watched, Tensor]:
        module = Module()
        seen = Watched(module.model)
        trainer = Trainer(
            default_root_dir=tmp_path,
            max_epochs=4,
            callbacks=[SharpnessAwareCallback(DataLoader(validation, batch_size=4, shuffle=True))],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(TRAIN, batch_size=8))
        return seen, module.sam.rho

    drifted = shifted(held_out, SHIFT, seed=4)
    inputs = torch.stack([drifted[i][0] for i in range(16)])
    check(*fit(drifted), *fit(held_out), (TRAIN.tensors[0], HELD_OUT.tensors[0], inputs))


def test_accelerate() -> None:
    def run(validation: Dataset[Any]) -> tuple[Watched, Tensor]:
        accelerator = Accelerator(cpu=True)
        torch.manual_seed(0)
        model = network()
        seen = Watched(model)
        opt = learned(model.parameters(), model)
        loaders = DataLoader(TRAIN, 8), DataLoader(validation, 4, shuffle=True)
        prepared: Any = accelerator.prepare(model, opt, *loaders)
        model, optimizer, loader, held_out = prepared
        batches = letsam.endless(held_out)
        for _ in range(6):
            for batch in loader:
                step(accelerator, optimizer, lambda one: cross_entropy(model, one), [batch], batches, model=model)
        return seen, optimizer.optimizer.rho

    drifted = shifted(Lazy(HELD_OUT), SHIFT, seed=4)
    inputs = torch.stack([drifted[i][0] for i in range(16)])
    check(*run(drifted), *run(HELD_OUT), (TRAIN.tensors[0], HELD_OUT.tensors[0], inputs))


def hugging_face(
    model: nn.Module, train: list[Any], validation: Any, path: Path, **options: Any
) -> tuple[Watched, Tensor]:
    arguments = TrainingArguments(
        str(path),
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        per_device_train_batch_size=4,
        num_train_epochs=4,
        learning_rate=0.01,
        remove_unused_columns=False,
    )
    seen = Watched(model)
    trainer = SharpnessAwareTrainer(
        model, arguments, train_dataset=train, radius_dataset=validation, sharpness_aware=LETS, **options
    )
    trainer.train()
    assert trainer.optimizer is not None
    return seen, trainer.optimizer.optimizer.rho


class Pictures(nn.Module):
    """A classifier of pictures as those of transformers are called."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.layers(pixel_values)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def test_the_trainer_with_pictures(tmp_path: Path) -> None:
    stream = torch.Generator().manual_seed(0)
    pictures = torch.rand(28, 3, 8, 8, generator=stream)
    rows = [{"pixel_values": one, "labels": i % 3} for i, one in enumerate(pictures)]
    train, held_out = rows[:16], rows[16:]
    drifted: Any = shifted(held_out, "noise:3,blur:4", seed=4, key="pixel_values")  # pyright: ignore[reportArgumentType]
    inputs = torch.stack([drifted[i]["pixel_values"] for i in range(12)])
    check(
        *hugging_face(Pictures(), train, drifted, tmp_path),
        *hugging_face(Pictures(), train, held_out, tmp_path),
        (pictures[:16], pictures[16:], inputs),
    )


def test_the_trainer_with_texts_that_are_shifted_before_they_are_tokenized(tmp_path: Path) -> None:
    words = ["good", "bad", "film", "plot", "never", "dull", "slow", "quiet", "very"]
    rows = [{"text": " ".join(words[(i * k + k) % 9] for k in range(2, 9)), "labels": i % 3} for i in range(36)]

    def tokenized(one: dict[str, Any]) -> dict[str, Any]:
        letters = [ord(letter) % 28 for letter in one["text"].ljust(48)[:48]]
        return {"input_ids": torch.tensor(letters), "labels": one["labels"]}

    def bert() -> nn.Module:
        torch.manual_seed(0)
        size: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = BertConfig(vocab_size=28, intermediate_size=16, max_position_embeddings=48, num_labels=3, **size)
        return BertForSequenceClassification(config)

    train, held_out = list(map(tokenized, rows[:20])), list(map(tokenized, rows[20:]))
    drifted = [tokenized(one) for one in shifted(rows[20:], "typos:4", seed=4, key="text")]  # pyright: ignore
    ids = [torch.stack([one["input_ids"] for one in part]) for part in (train, held_out, drifted)]
    check(
        *hugging_face(bert(), train, drifted, tmp_path),
        *hugging_face(bert(), train, held_out, tmp_path),
        (ids[0], ids[1], ids[2]),
    )
