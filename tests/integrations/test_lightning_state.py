"""What a LightningModule keeps in `training_step` (outputs, metrics, hidden state) counts once a step."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

import letsam
from integrations.cases import cross_entropy, data, network
from letsam.integrations.lightning import SharpnessAwareCallback

pytestmark = pytest.mark.filterwarnings("ignore")


class Module(LightningModule):
    """Collects outputs as Lightning's guide says, logs a metric object, and carries a hidden state along."""

    def __init__(self) -> None:
        super().__init__()
        self.model = network()
        self.loss = torchmetrics.MeanMetric()
        self.training_outputs: list[dict[str, Tensor]] = []
        self.validation_outputs: list[Tensor] = []
        self.hidden = torch.zeros(())
        self.collected: Any = Collected()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = cross_entropy(self.model, batch)
        self.hidden = 0.5 * self.hidden + loss.detach()
        self.loss(loss.detach())
        self.log("mean loss", self.loss, on_step=False, on_epoch=True)
        self.training_outputs.append({"loss": loss.detach()})
        return loss

    def on_train_epoch_end(self) -> None:
        self.collected.epochs.append(torch.stack([out["loss"] for out in self.training_outputs]))
        self.training_outputs.clear()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.validation_outputs.append(cross_entropy(self.model, batch))

    def on_validation_epoch_end(self) -> None:
        assert len(self.validation_outputs) <= 3
        self.validation_outputs.clear()

    def configure_optimizers(self) -> Any:
        return letsam.SAM(torch.optim.SGD(self.parameters(), lr=0.1), rho=letsam.LearnedRadius(0.5, interval=1))


class Collected:
    def __init__(self) -> None:
        self.epochs: list[Tensor] = []


def test_outputs_metrics_and_hidden_state(tmp_path: Path) -> None:
    module = Module()
    trainer = Trainer(
        default_root_dir=tmp_path,
        max_epochs=2,
        callbacks=[SharpnessAwareCallback(DataLoader(data(12, 2), batch_size=4))],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader, held_out = DataLoader(data(32, 1), batch_size=8), DataLoader(data(12, 3), batch_size=4)
    trainer.fit(module, loader, held_out)
    epochs = module.collected.epochs
    assert [len(losses) for losses in epochs] == [4, 4]
    assert torch.isclose(trainer.callback_metrics["mean loss"].double(), epochs[-1].mean())
    hidden = torch.zeros(())
    for loss in torch.cat(epochs):
        hidden = 0.5 * hidden + loss
    assert torch.isclose(module.hidden.double(), hidden.double())
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm1d)]
    assert [layer.num_batches_tracked for layer in norms] == [8] * len(norms)
    assert module.training
    assert module.trainer is trainer
