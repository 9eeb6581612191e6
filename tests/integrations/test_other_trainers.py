"""TRL's and Sentence Transformers' trainers: data prepared alike, and tokens and metrics counted once a step."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the libraries are loaded

from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.models import Pooling, Transformer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, Trainer
from trl import GRPOTrainer, RLOOTrainer, SFTConfig, SFTTrainer

import letsam
from learned_radius import learned_radius
from letsam.integrations.transformers import SharpnessAwareTrainer

pytestmark = pytest.mark.filterwarnings("ignore")
WORDS = ["a", "flat", "valley", "of", "weights", "has", "no", "steep", "walls", "on", "any", "side"]
QUIET: dict[str, Any] = {"report_to": [], "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
SMALL: dict[str, Any] = {"per_device_train_batch_size": 4, "logging_steps": 1, "learning_rate": 0.01, "max_steps": 6}


def sam(base: torch.optim.Optimizer) -> letsam.SharpnessAware:
    return letsam.SAM(base, rho=learned_radius(0.05, interval=1))


def tokenizer() -> PreTrainedTokenizerFast:
    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[EOS]", *WORDS])}
    model = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    model.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(tokenizer_object=model, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]")


def sentences(count: int, seed: int) -> list[str]:
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 9, (count,), generator=random).tolist()
    return [" ".join(WORDS[int(torch.randint(len(WORDS), (), generator=random))] for _ in range(n)) for n in lengths]


# --- TRL ------------------------------------------------------------------------------------------------------------


class SFT(SharpnessAwareTrainer, SFTTrainer):
    pass


def texts(count: int, seed: int) -> Dataset:
    return Dataset.from_dict({"text": sentences(count, seed)})


def fine_tuned(path: Path, kind: type[Trainer], **options: Any) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "vocab_size": 15}
    model = GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    own = {name: options.pop(name) for name in ("radius_dataset", "sharpness_aware") if name in options}
    args = SFTConfig(str(path), max_length=16, bf16=False, **QUIET, **{**SMALL, **options})
    trainer: Any = kind(model=model, args=args, train_dataset=texts(16, 1), processing_class=tokenizer(), **own)  # pyright: ignore
    trainer.train()
    return trainer


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}], ids=["plain", "accumulated"])
def test_sft_counts_tokens_and_metrics_of_the_first_pass(tmp_path: Path, options: dict[str, Any]) -> None:
    found = fine_tuned(tmp_path, SFT, radius_dataset=texts(8, 2), sharpness_aware=sam, **options)
    plain = fine_tuned(tmp_path, SFTTrainer, **options)
    rows, expected = ([row for row in t.state.log_history if "loss" in row] for t in (found, plain))
    assert [row["num_tokens"] for row in rows] == [row["num_tokens"] for row in expected]
    for name in ("loss", "entropy", "mean_token_accuracy"):
        assert rows[0][name] == pytest.approx(expected[0][name], abs=1e-4)
    assert rows[-1]["rho"] != pytest.approx(0.05)
    assert not any(map(torch.equal, found.model.parameters(), plain.model.parameters()))


def test_sft_prepares_the_held_out_data_as_the_training_data(tmp_path: Path) -> None:
    trainer = fine_tuned(tmp_path, SFT, radius_dataset=texts(8, 2), sharpness_aware=sam, packing=True, max_steps=1)
    assert trainer.radius_dataset.column_names == trainer.train_dataset.column_names
    assert len(trainer.radius_dataset) < 8  # packed
    batch = next(iter(trainer.get_radius_dataloader()))
    assert batch.keys() == next(iter(trainer.get_train_dataloader())).keys()


def test_data_that_are_trained_on_are_named_although_preparing_copies_them(tmp_path: Path) -> None:
    data = texts(8, 1)
    with pytest.raises(ValueError, match=r"`radius_dataset` must be a separate data set, .* got `train_dataset`"):
        SFT(GPT2LMHeadModel(GPT2Config(n_layer=1)), train_dataset=data, radius_dataset=data)  # pyright: ignore


@pytest.mark.parametrize("kind", [GRPOTrainer, RLOOTrainer])
def test_trainers_that_generate_their_batches_are_refused(kind: type[Trainer]) -> None:
    online = type("Online", (SharpnessAwareTrainer, kind), {})
    with pytest.raises(TypeError, match="needs a trainer whose batches are there before a pass, got a Online"):
        online(None, None)


# --- Sentence Transformers --------------------------------------------------------------------------------------------


class Embedding(SharpnessAwareTrainer, SentenceTransformerTrainer):
    pass


class TwoLosses(nn.Module):
    """A loss with two components, which the trainer averages over the logged steps."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Any, labels: Any) -> dict[str, Tensor]:
        left, right = (self.model(each)["sentence_embedding"] for each in features)
        return {"distance": (left - right).square().mean(), "size": 0.1 * left.square().mean()}


def pairs(count: int, seed: int) -> Dataset:
    return Dataset.from_dict({"anchor": sentences(count, seed), "positive": sentences(count, seed + 50)})


def embedded(path: Path, kind: type[Trainer], train: Any, **own: Any) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=15, intermediate_size=16, max_position_embeddings=16, **sizes)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    BertModel(config).save_pretrained(path / "bert")
    tokenizer().save_pretrained(path / "bert")
    model = SentenceTransformer(modules=[Transformer(str(path / "bert")), Pooling(16)], device="cpu")
    args = SentenceTransformerTrainingArguments(str(path), **QUIET, **SMALL)
    loss = {name: TwoLosses(model) for name in train} if isinstance(train, dict) else TwoLosses(model)
    trainer: Any = kind(model=model, args=args, train_dataset=train, loss=loss, **own)  # pyright: ignore
    trainer.train()
    return trainer


def test_sentence_transformers_count_the_losses_of_the_first_pass(tmp_path: Path) -> None:
    found = embedded(tmp_path, Embedding, pairs(24, 1), radius_dataset=pairs(8, 2), sharpness_aware=sam)
    plain = embedded(tmp_path, SentenceTransformerTrainer, pairs(24, 1))
    rows, expected = ([row for row in t.state.log_history if "loss" in row] for t in (found, plain))
    for name in ("loss", "distance", "size"):
        assert rows[0][name] == pytest.approx(expected[0][name], abs=1e-4)
    for row in rows:  # components of one pass add up to its loss
        assert row["distance"] + row["size"] == pytest.approx(row["loss"], abs=2e-4)
    assert rows[-1]["rho"] != pytest.approx(0.05)


def test_sentence_transformers_prepare_several_held_out_sets_alike(tmp_path: Path) -> None:
    train, held_out = ({name: pairs(8, seed + i) for i, name in enumerate("ab")} for seed in (1, 11))
    trainer = embedded(tmp_path, Embedding, train, radius_dataset=held_out, sharpness_aware=sam)
    assert isinstance(trainer.radius_dataset, DatasetDict)
    assert {batch["dataset_name"] for batch in trainer.get_radius_dataloader()} == {"a", "b"}
    assert len(trainer.get_radius_dataloader().dataset) == 16
    assert trainer.state.log_history[-2]["rho"] != pytest.approx(0.05)
