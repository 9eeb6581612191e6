"""A re-tuning before its first run: the data, the challengers and all options, checked; nothing is written."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric

from letsam import checks
from letsam.decision import FEWEST_SEEDS
from letsam.operation.challengers import Challenger, RadiusHistory, challengers
from letsam.operation.champion import Champion
from letsam.operation.new_data import NewData, TunedTask
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric

__all__ = ["EPOCHS", "LR_FACTOR", "RetuneOptions", "RetunePlan", "training_rate"]

EPOCHS = 20
"""Passes over the new data where the user says nothing else."""
LR_FACTOR = 0.3
"""The learning rate, as a part of that of training, where the user gives none.

Both are measured: ``docs/retuning.md``.
"""


@dataclass(frozen=True, kw_only=True)
class RetuneOptions:
    """The options of `letsam.operation.retune` that decide on its numbers."""

    radius: str
    epochs: int
    lr: float | None
    seeds: tuple[int, ...]
    validation_share: float
    evaluate_shift: str | None
    minimum_effect: float

    def __post_init__(self) -> None:
        checks.whole("epochs", self.epochs, 1)
        if len(self.seeds) < FEWEST_SEEDS:
            raise ValueError(f"`seeds` must be at least {FEWEST_SEEDS}, as fewer show nothing, got {len(self.seeds)}")
        checks.not_negative("minimum_effect", self.minimum_effect)
        if self.lr is not None:
            checks.positive("lr", self.lr)


@dataclass(frozen=True)
class RetunePlan:
    """What a re-tuning is going to do.

    Args:
        champion: the model in use.
        tuned: the task.
        config: the options of its runs.
        compared: the challengers.
        fabric: where it runs.
        options: those of the re-tuning, as JSON values.
        data: the hashes of the data.
    """

    champion: Champion
    tuned: TunedTask
    config: TrialConfig
    compared: tuple[Challenger, ...]
    fabric: Fabric
    options: dict[str, Any]
    data: dict[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same when it is resumed."""
        return {"parent": self.champion.fingerprint, "options": self.options, "data": self.data["fingerprint"]}

    @property
    def recorded(self) -> dict[str, Any]:
        """The options of its results."""
        return {**self.config.as_json(), "retune": {**self.options, "parent": self.champion.fingerprint}}

    @classmethod
    def of(cls, champion: Champion, data: NewData, asked: RetuneOptions, device: str = "auto") -> RetunePlan:
        """Read the data, and make the challengers.

        Raises:
            DataError: the data cannot be used.
            ValueError: an option that does not fit.
        """
        tuned = TunedTask.of(champion, data)
        trained_with = training_rate(champion, tuned)
        rate = asked.lr if asked.lr is not None else LR_FACTOR * trained_with
        tuned = tuned.with_learning_rate(rate)
        history = RadiusHistory.of(champion, tuned.task)
        compared = challengers(history, asked.radius)
        config = dataclasses.replace(
            champion.options,
            task=data.path,
            methods=tuple(one.method for one in compared),
            seeds=asked.seeds,
            epochs=asked.epochs,
            validation_share=asked.validation_share,
            evaluate_shift=asked.evaluate_shift,
            data_options=tuned.data_options,
            model_options=dataclasses.replace(champion.model_options, lr=rate),
            **_ONCE,
        ).for_task(tuned.task)
        options = {
            **dataclasses.asdict(asked),
            "seeds": list(asked.seeds),
            "lr": rate,
            "old": data.old,
            "test": data.test,
            "training_lr": trained_with,
            "radius_history": history.as_json(),
            "roles": {one.method.name: one.role for one in compared},
        }
        fabric = make_fabric(device, precision=config.precision)
        if fabric.world_size > 1:
            raise ValueError(f"a model is re-tuned by one process, got {fabric.world_size} under torchrun")
        return cls(champion, tuned, config, compared, fabric, options, data.hashes(tuned))


def training_rate(champion: Champion, tuned: TunedTask) -> float:
    """The learning rate that a model was first trained with, before any re-tuning."""
    earlier: Any = champion.results.config.get("retune") or {}
    return float(earlier.get("training_lr") or tuned.learning_rate)


_ONCE: dict[str, Any] = {
    **dict.fromkeys(("rho", "folds", "validation_shift", "deployed", "learned_shift", "release")),
    **dict.fromkeys(("train_size", "data_dir", "found_lr")),
    **dict.fromkeys(("search", "search_trials", "search_pruner")),
    "label_noise": 0.0,
    "refit": False,
}
"""Options of the training that a re-tuning does not repeat."""
