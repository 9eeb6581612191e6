"""A learned radius in Lightning: `python examples/lightning_loop.py`, a few seconds on a CPU.

Two things differ from training with SGD: `configure_optimizers` wraps the optimizer, and a callback provides the
validation batches from which the radius is learned.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import letsam
from letsam.integrations.lightning import SharpnessAwareCallback
from letsam.tasks import load_task
from letsam.tasks.label_noise import targets_of, with_label_noise
from letsam.validation import stratified_split


class DigitsModule(LightningModule):
    """A classifier; `training_step` is the same as for plain SGD."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        """LETS-SAM on top of SGD, with a cosine learning rate schedule."""
        base = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        opt = letsam.SAM(base, rho=letsam.LearnedRadius(0.05))
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps)
        return {"optimizer": opt, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_end(self) -> None:
        """Print the radius and the generalization gap."""
        logged = self.trainer.callback_metrics
        gap = logged.get("generalization_gap", torch.nan)
        print(f"epoch {self.current_epoch + 1:2}  rho {logged['rho']:.4f}  generalization gap {gap:+.3f}")


def main(epochs: int = 20) -> float:
    """Train on digits with 40% wrong labels and return the test accuracy."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    task = load_task("digits")
    noisy = with_label_noise(task.train, 0.4, generator=generator)
    assert isinstance(noisy, TensorDataset)
    kept, held_out = stratified_split(targets_of(noisy), 0.1, generator)
    train = DataLoader(TensorDataset(*noisy[kept]), batch_size=64, shuffle=True, drop_last=True, generator=generator)
    validation = DataLoader(TensorDataset(*noisy[held_out]), batch_size=64, shuffle=True)

    module = DigitsModule(task.model())
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[SharpnessAwareCallback(validation)],
        log_every_n_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, train)

    inputs, targets = task.test[:]
    with torch.no_grad():
        accuracy = (module.model.eval()(inputs).argmax(1) == targets).double().mean().item()
    print(f"test accuracy {100 * accuracy:.1f}%")
    return accuracy


if __name__ == "__main__":
    main()
