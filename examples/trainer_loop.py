"""A learned radius in the Hugging Face Trainer: `python examples/trainer_loop.py`, a few seconds on a CPU.

Two things differ from a run with `Trainer`: `SharpnessAwareTrainer` wraps the optimizer that the arguments specify, and
`radius_dataset` is the data set from which the radius is learned.
"""

from __future__ import annotations

import functools
import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

import letsam
from letsam.integrations.transformers import SharpnessAwareTrainer
from letsam.tasks import load_task
from letsam.tasks.label_noise import targets_of, with_label_noise
from letsam.validation import stratified_split


class DigitsWithLoss(nn.Module):
    """A classifier that returns its loss, as the Trainer expects."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss of a batch, and the logits."""
        logits = self.model(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class PrintRadius(TrainerCallback):
    """Print the radius after every epoch."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Called with the values that the Trainer logs."""
        if "rho" in logs:
            gap = logs["generalization_gap"]
            print(f"epoch {logs['epoch']:4.1f}  rho {logs['rho']:.4f}  generalization gap {gap:+.3f}")


def rows(inputs: Tensor, labels: Tensor) -> list[dict[str, Tensor]]:
    """A data set of dictionaries, one per sample."""
    return [{"inputs": x, "labels": y} for x, y in zip(inputs, labels, strict=True)]


def main(epochs: int = 20) -> float:
    """Train on digits with 40% wrong labels and return the test accuracy."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    task = load_task("digits")
    noisy = with_label_noise(task.train, 0.4, generator=generator)
    assert isinstance(noisy, TensorDataset)
    kept, held_out = stratified_split(targets_of(noisy), 0.1, generator)

    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=64,
            learning_rate=0.05,
            weight_decay=5e-4,
            optim="sgd",
            optim_args="momentum=0.9",
            lr_scheduler_type="cosine",
            logging_strategy="epoch",
            save_strategy="no",
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
        )
        trainer = SharpnessAwareTrainer(
            DigitsWithLoss(task.model()),
            args,
            train_dataset=rows(*noisy[kept]),
            radius_dataset=rows(*noisy[held_out]),
            sharpness_aware=functools.partial(letsam.SAM, rho=letsam.LearnedRadius(0.05)),
            callbacks=[PrintRadius()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        test: Any = rows(*task.test[:])
        predictions: Any = trainer.predict(test).predictions

    accuracy = (torch.as_tensor(predictions).argmax(1) == task.test[:][1]).double().mean().item()
    print(f"test accuracy {100 * accuracy:.1f}%")
    return accuracy


if __name__ == "__main__":
    main()
