"""One run: a method with a seed on a task, from the initial weights to its record, a `results.Run`."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset, Subset

from letsam import checks
from letsam.closures.accumulation import chosen_of
from letsam.closures.closure import Closure, InParts
from letsam.closures.subset_ascent import first_samples, samples_in
from letsam.optimizer import SharpnessAware
from letsam.radius import ReplayedRadius, radius_warning
from letsam.results import Run
from letsam.step.clipping import clipping
from letsam.step.wrapper import STATE_KEY
from letsam.tasks import Task
from letsam.tasks.model_outputs import model_outputs, of_outputs
from letsam.tensors import gradients_of, scale_
from letsam.training.batches_ahead import ended_workers_are_named
from letsam.training.config import TrialConfig
from letsam.training.devices import gathered, scattered, sharded
from letsam.training.evaluation import check_scalar, evaluate_on
from letsam.training.feed import Batches, Feed
from letsam.training.held_out_loss import adapt, held_out_loss
from letsam.training.methods import Method, PlannedRun
from letsam.training.predictions import Finished, OutputCollector
from letsam.training.sampling import RANKS, Splits, generator, make_splits
from letsam.training.shifted_tests import evaluate_under_shifts, mean_of_shifted_tests
from letsam.training.user_code import called


class Training:
    """A run in progress: `advance` trains one epoch; `state_dict` and `load_state_dict` save and restore it.

    Args:
        task: data, model, loss, metric, base optimizer.
        method: makes the optimizer.
        seed: >= 0; splits, label noise, initial weights and batch order depend on it alone.
        config: the trial's options.
        fabric: where it runs.
        searched: the run whose learned schedule is replayed on all the training data (a refit); None: no refit.
        splits: of this task and seed, with held-out samples for a learned radius only; None: they are made here.

    Raises:
        ValueError: too few samples to split, or `loss` or `metric` that do not give a scalar.
    """

    def __init__(
        self,
        task: Task,
        method: Method,
        seed: int,
        config: TrialConfig,
        fabric: Fabric,
        searched: Run | None = None,
        splits: Splits | None = None,
    ) -> None:
        self.task, self.method, self.seed, self.fabric, self.searched = task, method, seed, fabric, searched
        self.learns = method.is_learned and searched is None
        self.epochs = config.epochs or task.epochs
        self.batch_size = config.batch_size or task.batch_size
        self.micro_batches = config.accumulate * method.kind.sub_batches
        splits = splits or make_splits(task, seed, **config.split_options, hold_out=self.learns)
        self.order = splits.order
        self.feed = Feed(
            splits,
            task,
            fabric,
            seed,
            batch_size=self.batch_size,
            micro_batches=self.micro_batches,
            workers=config.workers,
        )
        self.train, self.measured, self.test = self.feed.train, self.feed.measured, self.feed.test
        self.validation = self.feed.validation
        batches = self.feed.order(0)
        self._check_divisible(len(batches[0]))
        self.samples = len(batches[0]) // (fabric.world_size * self.micro_batches)  # of a micro-batch
        self.steps_per_epoch = len(batches)
        steps = self.epochs * self.steps_per_epoch

        torch.manual_seed(seed)
        model = called("model", task.model)
        if not isinstance(model, nn.Module):
            raise ValueError(f"`model` must return a torch.nn.Module, got {type(model).__name__}")
        self.model = fabric.setup_module(model)
        if fabric.world_size > 1:  # each rank has dropout masks of its own
            torch.manual_seed(generator(seed, RANKS, fabric.global_rank).initial_seed())
        self.rho_initial = method.initial_rho(task, config.rho)
        replayed = None
        if searched is not None:
            kind = method.kind
            replayed = ReplayedRadius(_schedule(searched, kind.per), steps, burn_in=kind.burn_in, per=kind.per)
        base = called("optimizer", task.optimizer, self.model.parameters())
        if not isinstance(base, Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"`optimizer` must return a torch.optim.Optimizer, got {type(base).__name__}")
        self.release = None if splits.released is None else splits.released[0]
        if self.release is not None and self.release >= self.epochs:
            raise ValueError(f"`release` must leave an epoch after it, got {config.release} of {self.epochs} epochs")
        until = None if self.release is None else self.release * self.steps_per_epoch
        self.optimizer: Optimizer = method.optimizer(
            base, self.rho_initial, replayed, steps, model=self.model, until=until
        )
        self.held_out_loss = task.loss
        if self.learns and splits.validation is not None:
            trained = splits.train if splits.released is None else Subset(splits.train, splits.released[1].tolist())
            self.held_out_loss = held_out_loss(task, trained, splits.validation, fabric.device)
            if self.held_out_loss is not task.loss:
                adapt(self.optimizer)
        self.max_grad_norm, self.evaluate_shift = config.max_grad_norm, config.evaluate_shift
        if isinstance(self.optimizer, SharpnessAware):
            self.optimizer.max_grad_norm = self.max_grad_norm
            self.climbs = steps if until is None else max(1, round(CLIMBING * steps))
            self.optimizer.active = None if until is None else range(self.climbs)
        self.scheduler = LambdaLR(self.optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1))))

        self.epoch, self.step, self.passes, self.seconds = 0, 0, 0.0, 0.0
        self.plans = [[0, self.epochs]]  # the epoch from which a number of epochs was planned, and that number
        self.skipped_steps = 0
        self.metrics: dict[str, float] = {}  # of the last evaluation, on the test set
        self.rho_schedule: list[float] | list[list[float]] = []
        self.slopes: list[float] = []  # hypergradients since the last evaluation
        self.history: dict[str, list[float | None]] = {name: [] for name in _HISTORY}
        self.outputs: OutputCollector | None = None  # of the last evaluation of the test set

    @property
    def name(self) -> str:
        """Of the method; that of a refit says so."""
        return PlannedRun(self.method, self.seed, refit=self.searched is not None).name

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self.epochs

    @ended_workers_are_named()
    def advance(self, steps: int | None = None) -> None:
        """Train to the end of the epoch, and evaluate if it is due.

        Args:
            steps: stop after so many steps if the epoch has more, >= 1; the next call goes on from there.
        """
        self.model.train()
        logged: list[Tensor] = []
        started = time.perf_counter()
        first = self.step - self.epoch * self.steps_per_epoch
        stop = self.steps_per_epoch if steps is None else min(first + steps, self.steps_per_epoch)
        for batch in self.feed.steps(self.epoch, first, stop, self._validates):
            logged.append(self._step(batch))
            self.scheduler.step()
            self.step += 1
        values = [row for row in torch.stack(logged).tolist() if row]
        self.seconds += time.perf_counter() - started
        if isinstance(self.optimizer, SharpnessAware):
            self.skipped_steps = int(self.optimizer.metrics["skipped_steps"])
        self.rho_schedule += [row[1:] if self.method.kind.per != "all" else row[1] for row in values]
        self.slopes += [row[0] for row in values]
        if stop < self.steps_per_epoch:
            return
        self.epoch += 1
        if self.finished or self.epoch % math.ceil(self.epochs / self.task.evaluations) == 0:
            self.record()

    @ended_workers_are_named()
    def one_step(self) -> None:
        """Train on the first batch, and record nothing: for a rehearsal."""
        self.model.train()
        for batch in self.feed.steps(0, 0, 1, self._validates):
            self._step(batch)
            self.scheduler.step()

    def _check_divisible(self, size: int) -> None:
        """All ranks and micro-batches must have equally many samples: the mean over their means is then the mean."""
        sub_batches = self.method.kind.sub_batches
        factors = {"ranks": self.fabric.world_size, "accumulate": self.micro_batches // sub_batches}
        if sub_batches > 1:
            factors[f"the sub-batches of {self.method.name}"] = sub_batches
        if size % math.prod(factors.values()):
            shares = f"{' x '.join(factors)} ({' x '.join(map(str, factors.values()))})"
            raise ValueError(f"`batch_size` must be a multiple of {shares}, got {size}")

    def _validates(self, step: int) -> bool:
        """Whether a coming step is going to need its validation batch."""
        radius = self.optimizer.radius if isinstance(self.optimizer, SharpnessAware) else None
        return radius is not None and self.learns and radius.wants(step).validation is not None

    def _step(self, batch: Sequence[tuple[Any, Any]]) -> Tensor:
        """One optimizer step; returns the mean hypergradient and the radii on the device; nothing without a radius."""
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        closure = self._closure(lambda: batch, len(batch), self.method.kind.ascent_share)
        logged = torch.empty(0)
        if isinstance(self.optimizer, SharpnessAware):
            held_out = None
            if self.learns and self.validation is not None:
                held_out = self._closure(self._held_out, loss=self.held_out_loss)
            self.optimizer.step(closure, held_out, grad_scaler=scaler)
            metrics = self.optimizer.metrics
            rho = (metrics["rho"] if self.step < self.climbs else self.optimizer.rho).reshape(-1)
            logged = torch.cat([metrics.get("hypergradient", torch.zeros_like(rho)).mean().reshape(1), rho])
        else:
            closure()
            self._clip(scaler)
            self.optimizer.step() if scaler is None else scaler.step(self.optimizer)
        if scaler is not None:
            scaler.update()
        return logged

    @torch.no_grad()
    def _clip(self, scaler: torch.amp.GradScaler | None) -> None:
        """Clip as a sharpness-aware step does, so that a radius of 0 equals the base optimizer bit for bit."""
        if self.max_grad_norm is None:
            return
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        gradients = gradients_of(list(self.model.parameters()))
        scale_(gradients, clipping(gradients, self.max_grad_norm)[0])

    def _held_out(self) -> list[tuple[Any, Any]]:
        """The validation batch of this step, read only in the steps that need it."""
        return [self.feed.held_out(self.step)]

    def _closure(
        self,
        read: Callable[[], Sequence[tuple[Any, Any]]],
        count: int = 1,
        ascent_share: float = 1.0,
        loss: Callable[..., Any] | None = None,
    ) -> Closure:
        """A closure for a pass over `count` micro-batches, and for each of them; they are read when it is called.

        Without a loss, it is the task's.
        """
        backward = partial(self._backward, function=loss or self.task.loss)

        def run(places: Sequence[int]) -> Tensor:
            self.optimizer.zero_grad()
            batches = read()
            losses = [backward(batches[i], count, last=i == places[-1]) for i in places]
            self.passes += len(places) / count
            return losses[0] if count == 1 else torch.stack(losses).sum() / count

        def ascend() -> Tensor:
            """On a part of the samples, or of the micro-batches if there are several."""
            self.optimizer.zero_grad()
            batches = list(read())
            total = self.samples if count == 1 else count
            chosen = chosen_of(total, ascent_share)
            batches = [self._first_samples(batches[0], chosen)] if count == 1 else batches[:chosen]
            losses = [backward(one, len(batches), last=one is batches[-1]) for one in batches]
            self.passes += chosen / total
            return losses[0] if count == 1 else torch.stack(losses).sum() / len(losses)

        parts = [partial(run, [i]) for i in range(count)]
        return InParts(partial(run, range(count)), parts, None if ascent_share == 1 else ascend)

    def _first_samples(self, batch: tuple[Any, Any], chosen: int) -> tuple[Any, Any]:
        """A batch of the first `chosen` samples of this one."""
        if self.task.first_samples is not None:
            return called("first_samples", self.task.first_samples, *batch, chosen)
        return first_samples(batch, samples_in(batch), chosen)

    def _backward(self, batch: tuple[Any, Any], parts: int, *, last: bool, function: Callable[..., Any]) -> Tensor:
        """Forward and backward pass of one of the `parts` of a batch; with the last, ranks average their gradients."""
        inputs, targets = batch
        with self.fabric.no_backward_sync(self.model, enabled=not last):
            loss = called("loss", of_outputs, function, called("model", model_outputs, self.model, inputs), targets)
            check_scalar("loss", loss)
            if not loss.requires_grad:
                raise ValueError("`loss` must depend on the model's outputs, got a tensor that leaves no gradients")
            called("loss", self.fabric.backward, loss if parts == 1 else loss / parts)
        return loss.detach()

    def record(self) -> None:
        """Evaluate, and add the values to the history."""
        train_loss = self.evaluate(self.measured)[0]
        self.outputs = OutputCollector(self.task) if self.finished else None
        tested = evaluate_on(self.task, self.model, self.test, whole=True, collector=self.outputs)
        test_loss, test_accuracy, self.metrics = tested.loss, tested.metric, tested.metrics
        if self.task.score is not None:
            test_accuracy = self.score_on(self.test.dataset)
        held_out = None
        if self.validation is not None and not (self.release is not None and self.epoch > self.release):
            held_out = evaluate_on(self.task, self.model, self.validation, only=self.feed.fold(self.step - 1)).loss
        point: dict[str, float | None] = {
            "epoch": self.epoch,
            "train_loss": train_loss,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "validation_loss": held_out,
            "generalization_gap": test_loss - train_loss,
            "rho": _mean(self.rho_schedule[-1]) if self.rho_schedule else None,
            "hypergradient": sum(self.slopes) / len(self.slopes) if self.learns and self.slopes else None,
        }
        for name, value in point.items():
            self.history[name].append(value)
        self.slopes = []

    def evaluate(self, batches: Batches) -> tuple[float, float]:
        """Mean loss and mean metric over all samples, in evaluation mode."""
        found = evaluate_on(self.task, self.model, batches)
        return found.loss, found.metric

    @torch.no_grad()
    def score_on(self, dataset: Dataset[Any]) -> float:
        """The score of the task, which has one, in evaluation mode. The random states of the training are restored."""
        training = self.model.training
        self.model.eval()
        kept = {name: get() for name, (get, _) in self._generators().items()}
        assert self.task.score is not None
        value = called("score", self.task.score, self.model.module, dataset)
        for name, (_, put) in self._generators().items():
            put(kept[name])
        self.model.train(training)
        return checks.number("score", value)

    def result(self) -> Run:
        """The record of the finished run; a refit counts the passes and seconds of its search as well."""
        last = {name: column[-1] for name, column in self.history.items()}
        history: dict[str, list[Any]] = dict(self.history)
        if self.learns:
            history["rho_schedule"] = list(self.rho_schedule)
        return Run(
            method=self.name,
            seed=self.seed,
            rho_initial=self.searched.rho_initial if self.searched else self.rho_initial,
            rho_final=last["rho"],
            test_accuracy=_float(last["test_accuracy"]),
            test_loss=_float(last["test_loss"]),
            train_loss=_float(last["train_loss"]),
            validation_loss=last["validation_loss"],
            generalization_gap=_float(last["generalization_gap"]),
            gradient_passes=round(self.passes) + (self.searched.gradient_passes if self.searched else 0),
            seconds=self.seconds + (self.searched.seconds if self.searched else 0.0),
            history=history,
            metric=self.task.metric_name,
            steps=self.step,
            skipped_steps=self.skipped_steps,
            radius_warning=radius_warning(self.optimizer) if self.learns else None,
            metrics=dict(self.metrics),
            lower_is_better=self.task.lower_is_better,
            continued_at=tuple(epoch for epoch, _ in self.plans[1:]),
        )

    def finish(self) -> Finished:
        """The record of the finished run with its predictions; a run restored at its end evaluates for them again."""
        run = self.result()
        if self.evaluate_shift is not None:
            tests = evaluate_under_shifts(self.task, self.model, self.fabric.device, self.evaluate_shift)
            mean = mean_of_shifted_tests(self.task, tests)
            run = dataclasses.replace(run, metrics={**run.metrics, **mean}, shifted=tests)
        if self.outputs is None:
            self.outputs = OutputCollector(self.task)
            evaluate_on(self.task, self.model, self.test, collector=self.outputs)
        return Finished(run, self.outputs.predictions(run.method, run.seed))

    def state_dict(self) -> dict[str, Any]:
        """Everything that a new `Training` with the same arguments needs to continue bit for bit.

        All ranks must call it together. All get the same: whole tensors, and the random states of every rank.
        """
        random = {name: get() for name, (get, _) in self._generators().items()}
        return {
            "model": gathered(self.model.state_dict()),
            "optimizer": gathered(self.optimizer.state_dict()),
            "scheduler": {"last_epoch": self.scheduler.last_epoch},
            "rng": self._of_all_ranks(random),
            "progress": {name: getattr(self, name) for name in _PROGRESS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. With another number of ranks, random states are not restored."""
        if self.method.kind.per != "all" and not all(
            isinstance(step, list) for step in state["progress"]["rho_schedule"]
        ):
            raise ValueError("`state` must hold every learned radius, got the means that an older letsam kept")
        self.model.load_state_dict(scattered(state["model"], self.model.state_dict()))
        self.optimizer.load_state_dict(self._scattered_optimizer(state["optimizer"]))
        self.scheduler.last_epoch = state["scheduler"]["last_epoch"]
        self.scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]
        if len(state["rng"]) == self.fabric.world_size:
            random = state["rng"][self.fabric.global_rank]
            for name, (_, put) in self._generators().items():
                if name in random:  # on another type of device the run continues, but not bit for bit
                    put(random[name])
        # Older checkpoints lack these.
        progress = {"skipped_steps": 0, "metrics": {}, "plans": self.plans} | state["progress"]
        for name in _PROGRESS:
            setattr(self, name, progress[name])
        if self.plans[-1][1] != self.epochs:
            self._replan()

    def _replan(self) -> None:
        """Go on with another number of epochs: from here on, the learning rate is that of a run with so many."""
        self.plans = [*self.plans, [self.epoch, self.epochs]]
        for group, start, decay in zip(
            self.optimizer.param_groups, self.scheduler.base_lrs, self.scheduler.lr_lambdas, strict=True
        ):
            lr = start * decay(self.scheduler.last_epoch)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        self.scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _scattered_optimizer(self, state: dict[str, Any]) -> dict[str, Any]:
        """The state of the optimizer, with the tensors of each parameter sharded like the parameter."""
        if not sharded(self.fabric):
            return state
        params = dict(enumerate(p for group in self.optimizer.param_groups for p in group["params"]))
        state = state | {"state": scattered(state["state"], params)}
        radius = state.get(STATE_KEY, {}).get("radius", {})
        if "Z" in radius:
            trainable = dict(enumerate(p for p in params.values() if p.requires_grad))
            own = state[STATE_KEY]
            state[STATE_KEY] = own | {"radius": radius | {"Z": scattered(radius["Z"], trainable)}}
        return state

    def _of_all_ranks(self, value: Any) -> list[Any]:
        if self.fabric.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(values, value)
        return values

    def _generators(self) -> dict[str, tuple[Callable[[], Tensor], Callable[[Tensor], None]]]:
        """The functions that read and set the state of each random generator that the model may use."""
        device, cuda = self.fabric.device, torch.cuda
        cpu = {"cpu": (torch.get_rng_state, torch.set_rng_state)}
        if device.type != "cuda":
            return cpu
        return cpu | {"cuda": (lambda: cuda.get_rng_state(device), lambda state: cuda.set_rng_state(state, device))}


_PROGRESS = (
    "plans",
    "epoch",
    "step",
    "skipped_steps",
    "metrics",
    "passes",
    "seconds",
    "rho_schedule",
    "slopes",
    "history",
)
CLIMBING = 0.9  # share of the steps of a run with `release` that climb: later, the learning rate is below 2.5%
_HISTORY = (
    "epoch",
    "train_loss",
    "test_loss",
    "test_accuracy",
    "validation_loss",
    "generalization_gap",
    "rho",
    "hypergradient",
)


def _schedule(searched: Run, per: str) -> list[float] | list[tuple[float, ...]]:
    """The learned radii, without the steps at which one is not finite (of a run that diverged)."""
    start, steps = float(searched.rho_initial or 0), searched.radii
    known = [step for step in steps if all(map(math.isfinite, step))] or [(start,) * len(steps[0])]
    return known if per != "all" else [step[0] for step in known]


def _mean(rho: float | list[float]) -> float:
    return sum(rho) / len(rho) if isinstance(rho, list) else rho


def _float(value: float | None) -> float:
    return math.nan if value is None else value
