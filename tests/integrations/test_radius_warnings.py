"""A radius at its bound is told of once, in the log, by every adapter."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import letsam
from integrations.cases import cross_entropy, data, network
from letsam.integrations import EndlessBatches

pytestmark = pytest.mark.filterwarnings("ignore")

AT_BOUND = "the learned radius is at its upper bound, 0.05: it would be larger if it could (`LogAdam(bounds=...)`)"


def at_its_bound() -> letsam.LearnedRadius:
    return letsam.LearnedRadius(0.05, rule=letsam.LogAdam(lr=1e-9, prior=None, bounds=(1e-4, 0.05)))


def optimizer(model: nn.Module) -> letsam.SAM:
    return letsam.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=at_its_bound())


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "letsam"]


def test_lightning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from lightning.pytorch import LightningModule, Trainer

    from letsam.integrations.lightning import SharpnessAwareCallback

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return cross_entropy(self.model, batch)

        def configure_optimizers(self) -> Any:
            return optimizer(self.model)

    callback = SharpnessAwareCallback(DataLoader(data(12, 2), batch_size=4))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=3, callbacks=[callback], default_root_dir=tmp_path, **quiet)
    with caplog.at_level(logging.WARNING, logger="letsam"):
        trainer.fit(Module(), DataLoader(data(32, 1), batch_size=8))
    assert told(caplog) == [AT_BOUND]


def test_the_trainer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

    from letsam.integrations.transformers import SharpnessAwareTrainer

    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    rows = [{"input_ids": row, "labels": row[0] % 2} for row in torch.randint(20, (24, 4))]
    arguments = TrainingArguments(
        str(tmp_path), num_train_epochs=2, logging_steps=1, report_to=[], use_cpu=True, save_strategy="no"
    )
    trainer = SharpnessAwareTrainer(
        BertForSequenceClassification(config),
        arguments,
        train_dataset=rows[:16],
        radius_dataset=rows[16:],
        sharpness_aware=functools.partial(letsam.SAM, rho=at_its_bound()),
    )
    with caplog.at_level(logging.WARNING, logger="letsam"):
        trainer.train()
    assert told(caplog) == [AT_BOUND]


@pytest.mark.usefixtures("_fresh_state")
def test_accelerate(caplog: pytest.LogCaptureFixture) -> None:
    from accelerate import Accelerator

    from letsam.integrations.accelerate import log_step, step

    accelerator, model = Accelerator(cpu=True), network()
    opt = optimizer(model)
    loader, held_out = accelerator.prepare(DataLoader(data(32, 1), 8), DataLoader(data(12, 2), 4))
    batches = EndlessBatches(held_out)
    with caplog.at_level(logging.WARNING, logger="letsam"):
        for number, batch in enumerate(loader):
            step(accelerator, opt, functools.partial(cross_entropy, model), [batch], batches)
            log_step(accelerator, opt, step=number)
    assert told(caplog) == [AT_BOUND]
