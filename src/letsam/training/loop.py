"""One run: a method with a seed on a task, from the initial weights to a `results.Run`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset

from letsam import _checks
from letsam.optimizer import SharpnessAware
from letsam.radius import ReplayedRadius
from letsam.results import Run
from letsam.tasks import Task
from letsam.training.config import TrialConfig
from letsam.training.data import Batches, make_splits, training_order, validation_batch
from letsam.training.methods import REFIT, Method

LOGGED = ("hypergradient", "rho")


class Training:
    """A run under way: `advance` trains one epoch, `state_dict` and `load_state_dict` move it between processes.

    Args:
        task: data, model, loss, metric, base optimizer.
        method: which optimizer.
        seed: >= 0; splits, label noise, initial weights and batch order depend on it alone.
        config: the trial's options.
        fabric: where it runs.
        searched: the run whose learned schedule is replayed on all the data; None for an ordinary run.

    Raises:
        ValueError: too few samples to split, or `loss` or `metric` that do not give a scalar.
    """

    def __init__(
        self, task: Task, method: Method, seed: int, config: TrialConfig, fabric: Fabric, searched: Run | None = None
    ) -> None:
        self.task, self.method, self.seed, self.fabric, self.searched = task, method, seed, fabric, searched
        self.learns = method.is_learned and searched is None
        self.epochs = config.epochs or task.epochs
        splits = make_splits(
            task, seed, label_noise=config.label_noise, validation_share=config.validation_share, hold_out=self.learns
        )
        self.train = Batches(splits.train, fabric.device, task.collate)
        measured = splits.measured
        plain = measured is splits.train
        self.measured = self.train if plain else Batches(measured, fabric.device, task.collate)
        self.test = Batches(splits.test, fabric.device, task.collate)
        held_out = splits.validation
        self.validation = Batches(held_out, fabric.device, task.collate) if held_out is not None else None
        self.order = splits.order
        self.batch_size = config.batch_size or task.batch_size
        steps = self.epochs * len(training_order(self.order, self.batch_size, seed, 0))

        torch.manual_seed(seed)
        model = task.model()
        if not isinstance(model, nn.Module):
            raise ValueError(f"`model` must return a torch.nn.Module, got {type(model).__name__}")
        self.model = fabric.setup_module(model)
        self.rho_initial = method.initial_rho(task, config.rho)
        replayed = ReplayedRadius(_schedule(searched), steps) if searched is not None else None
        base = task.optimizer(self.model.parameters())
        if not isinstance(base, Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"`optimizer` must return a torch.optim.Optimizer, got {type(base).__name__}")
        self.optimizer: Optimizer = method.optimizer(base, self.rho_initial, replayed, steps, model=self.model)
        self.scheduler = LambdaLR(self.optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1))))

        self.epoch, self.step, self.passes, self.seconds = 0, 0, 0, 0.0
        self.rho_schedule: list[float] = []
        self.slopes: list[float] = []  # hypergradients since the last point of the history
        self.history: dict[str, list[float | None]] = {name: [] for name in _HISTORY}

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self.epochs

    def advance(self) -> None:
        """Train one epoch; evaluate where the history wants a point."""
        self.model.train()
        logged: list[list[Tensor]] = []
        started = time.perf_counter()
        for batch in self.train.take(training_order(self.order, self.batch_size, self.seed, self.epoch)):
            logged.append(self._step(batch))
            self.scheduler.step()
            self.step += 1
        values = torch.stack([torch.stack(row) for row in logged]).tolist() if logged[0] else []
        self.seconds += time.perf_counter() - started
        self.epoch += 1
        self.rho_schedule += [row[LOGGED.index("rho")] for row in values]
        self.slopes += [row[LOGGED.index("hypergradient")] for row in values]
        if self.finished or self.epoch % math.ceil(self.epochs / self.task.evaluations) == 0:
            self._record()

    def _step(self, batch: tuple[Any, Any]) -> list[Tensor]:
        """One optimizer step; returns what is logged of it, still on the device."""
        if not isinstance(self.optimizer, SharpnessAware):
            self._closure(batch)()
            self.optimizer.step()
            return []
        held_out = None
        if self.learns and self.validation is not None:
            indices = validation_batch(len(self.validation), self.batch_size, self.seed, self.step)
            held_out = self._closure(self.validation.one(indices))
        self.optimizer.step(self._closure(batch), held_out)
        metrics = self.optimizer.metrics
        zero = torch.zeros_like(metrics["rho"])
        return [metrics.get(name, zero) for name in LOGGED]

    def _closure(self, batch: tuple[Any, Any]) -> Callable[[], Tensor]:
        inputs, targets = batch

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self.task.loss(self.model(inputs), targets)
            _check_scalar("loss", loss)
            if not loss.requires_grad:
                raise ValueError("`loss` must depend on the model's outputs, got a tensor that leaves no gradients")
            self.fabric.backward(loss)
            self.passes += 1
            return loss

        return closure

    def _record(self) -> None:
        """One point of the history."""
        train_loss = self.evaluate(self.measured)[0]
        test_loss, test_accuracy = self.evaluate(self.test)
        if self.task.score is not None:
            test_accuracy = self._score(self.task.score)
        held_out = self.evaluate(self.validation)[0] if self.validation is not None else None
        point: dict[str, float | None] = {
            "epoch": self.epoch,
            "train_loss": train_loss,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "validation_loss": held_out,
            "generalization_gap": test_loss - train_loss,
            "rho": self.rho_schedule[-1] if self.rho_schedule else None,
            "hypergradient": sum(self.slopes) / len(self.slopes) if self.learns and self.slopes else None,
        }
        for name, value in point.items():
            self.history[name].append(value)
        self.slopes = []

    @torch.no_grad()
    def evaluate(self, batches: Batches) -> tuple[float, float]:
        """Mean loss and mean metric over all samples, in evaluation mode, weighted by the size of each batch."""
        training = self.model.training
        self.model.eval()
        count, size = len(batches), self.task.evaluation_batch
        chunks = [list(range(i, min(i + size, count))) for i in range(0, count, size)]
        loss = metric = torch.zeros((), dtype=torch.float64)
        for chunk, (inputs, targets) in zip(chunks, batches.take(chunks), strict=True):
            outputs = self.model(inputs)
            share = len(chunk) / count
            loss = loss + share * _scalar("loss", self.task.loss(outputs, targets))
            metric = metric + share * _scalar("metric", self.task.metric(outputs, targets))
        self.model.train(training)
        return float(loss), float(metric)

    @torch.no_grad()
    def _score(self, score: Callable[[nn.Module, Dataset[Any]], float]) -> float:
        """The task's own score of the test set, in evaluation mode; it does not move the training's random numbers."""
        training = self.model.training
        self.model.eval()
        kept = {name: get() for name, (get, _) in self._generators().items()}
        value = score(self.model.module, self.test.dataset)
        for name, (_, put) in self._generators().items():
            put(kept[name])
        self.model.train(training)
        return _checks.number("score", value)

    def result(self) -> Run:
        """The record of the finished run; a refit counts the passes and seconds of its search as well."""
        last = {name: column[-1] for name, column in self.history.items()}
        history: dict[str, list[float | None]] = dict(self.history)
        if self.learns:
            history["rho_schedule"] = list(self.rho_schedule)
        return Run(
            method=self.method.name + (REFIT if self.searched else ""),
            seed=self.seed,
            rho_initial=self.searched.rho_initial if self.searched else self.rho_initial,
            rho_final=last["rho"],
            test_accuracy=_float(last["test_accuracy"]),
            test_loss=_float(last["test_loss"]),
            train_loss=_float(last["train_loss"]),
            validation_loss=last["validation_loss"],
            generalization_gap=_float(last["generalization_gap"]),
            gradient_passes=self.passes + (self.searched.gradient_passes if self.searched else 0),
            seconds=self.seconds + (self.searched.seconds if self.searched else 0.0),
            history=history,
            metric=self.task.metric_name,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that a fresh `Training` with the same arguments needs to go on bit for bit."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {"last_epoch": self.scheduler.last_epoch},
            "rng": {name: get() for name, (get, _) in self._generators().items()},
            "progress": {name: getattr(self, name) for name in _PROGRESS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.last_epoch = state["scheduler"]["last_epoch"]
        self.scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]
        for name, (_, put) in self._generators().items():
            if name in state["rng"]:  # a run may go on on another device, then not bit for bit
                put(state["rng"][name])
        for name in _PROGRESS:
            setattr(self, name, state["progress"][name])

    def _generators(self) -> dict[str, tuple[Callable[[], Tensor], Callable[[Tensor], None]]]:
        """How the state of each random generator that the model may draw from is read and set."""
        device, cuda = self.fabric.device, torch.cuda
        cpu = {"cpu": (torch.get_rng_state, torch.set_rng_state)}
        if device.type != "cuda":
            return cpu
        return cpu | {"cuda": (lambda: cuda.get_rng_state(device), lambda state: cuda.set_rng_state(state, device))}


_PROGRESS = ("epoch", "step", "passes", "seconds", "rho_schedule", "slopes", "history")
_HISTORY = (
    "epoch", "train_loss", "test_loss", "test_accuracy", "validation_loss", "generalization_gap", "rho",
    "hypergradient",
)  # fmt: skip


def make_fabric(device: str) -> Fabric:
    """A Fabric on one device.

    Args:
        device: "auto", "cpu", "cuda" or "mps".

    Returns:
        The Fabric.

    Raises:
        ValueError: a device that is not there.
    """
    known = ("auto", "cpu", "cuda", "mps")
    if device not in known:
        raise ValueError(f"`device` must be one of {', '.join(known)}, got {device!r}")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    chosen = next((name for name in ("cuda", "mps") if available[name]), "cpu") if device == "auto" else device
    if not available[chosen]:
        raise ValueError(f"`device` must be available on this machine, got {device!r}")
    return Fabric(accelerator=chosen, devices=1)


def _schedule(searched: Run) -> list[float]:
    """The learned radii; those of a run that diverged may have no value."""
    radii = [float(rho) for rho in searched.history["rho_schedule"] if rho is not None and math.isfinite(rho)]
    return radii or [float(searched.rho_initial or 0)]


def _check_scalar(name: str, value: object) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"`{name}` must return a scalar tensor, got {shape}")


def _scalar(name: str, value: Tensor) -> Tensor:
    _check_scalar(name, value)
    return value.detach().double().cpu().reshape(())


def _float(value: float | None) -> float:
    return math.nan if value is None else value
