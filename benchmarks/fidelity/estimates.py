"""Real training runs that stop every few steps, and the library's estimates there, made on a copy of the run."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import TensorDataset

import letsam
from benchmarks.fidelity.exact import Batch, Moment, closure_on, hypergradient
from letsam.hypergradient import HYPERGRADIENTS
from letsam.tasks import load_task
from letsam.training.sampling import make_splits, training_order, validation_batch

LABEL_NOISE, VALIDATION_SHARE = 0.4, 0.1
LEARNED = "learned"


def moments(radius: float | str, seed: int, every: int, epochs: int | None = None) -> Iterator[tuple[Moment, float]]:
    """Train with SAM as `letsam trial digits` does, and yield the run before every `every`-th step.

    The radius is fixed, or "learned" for the default `LearnedRadius`, started at the task's. Yields a copy of the run
    before a step, and the radius that this step has used.
    """
    task = load_task("digits")
    epochs = epochs or task.epochs
    splits = make_splits(task, seed, label_noise=LABEL_NOISE, validation_share=VALIDATION_SHARE, hold_out=True)
    train, held_out = _in_float64(splits.train), _in_float64(splits.validation)
    torch.manual_seed(seed)
    model = task.model().double()
    base = task.optimizer(model.parameters())
    assert isinstance(base, torch.optim.SGD)
    opt = letsam.SAM(base, rho=letsam.LearnedRadius(task.sam_rho) if isinstance(radius, str) else radius)
    steps = epochs * len(training_order(splits.order, task.batch_size, seed, 0))
    schedule = LambdaLR(opt, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1))))
    per_epoch = (training_order(splits.order, task.batch_size, seed, epoch) for epoch in range(epochs + 1))
    order = itertools.chain.from_iterable(per_epoch)  # one epoch more, for the last step's next batch
    following = _batch(train, next(order))
    for step in range(steps):
        batch, following = following, _batch(train, next(order))
        validation = _batch(held_out, validation_batch(len(held_out[1]), task.batch_size, seed, step))
        before = copy.deepcopy((model, base.state_dict())) if step % every == 0 else None
        opt.step(closure_on(opt, model, task.loss, batch), closure_on(opt, model, task.loss, validation))
        if before is not None:
            twin = task.optimizer(before[0].parameters())
            assert isinstance(twin, torch.optim.SGD)
            twin.load_state_dict(before[1])
            yield Moment(before[0], twin, task.loss, batch, following, validation), opt.metrics["rho"].item()
        schedule.step()


def _in_float64(data: object) -> Batch:
    assert isinstance(data, TensorDataset)
    return data.tensors[0].double(), data.tensors[1]


def _batch(data: Batch, indices: list[int]) -> Batch:
    return data[0][indices], data[1][indices]


ESTIMATORS = ("secant", "finite_difference", "diagonal")
OBJECTIVES = {"validation_loss": letsam.ValidationLoss, "squared_gap": letsam.SquaredGap}
TRAINING_BATCHES = ("next", "same")


@dataclass(frozen=True, order=True)
class Variant:
    """A way to estimate the hypergradient; the fields are arguments of `LearnedRadius`."""

    objective: str
    training_batch: str
    length_invariant: bool
    estimator: str

    @property
    def target(self) -> tuple[str, str, bool]:
        """The quantity that is estimated: variants with the same target share one exact value."""
        return (self.objective, self.training_batch, self.length_invariant)


VARIANTS = tuple(
    Variant(*fields)
    for fields in itertools.product(OBJECTIVES, TRAINING_BATCHES, (True, False), ESTIMATORS)
    if fields[:2] != ("validation_loss", "same")  # no training loss in it: the same number as with "next"
)


def estimates(moment: Moment, rho: float, variant: Variant, per: str = "all") -> Tensor:
    """`metrics["hypergradient"]` of one step by the real optimizer, on copies of model and base optimizer."""
    model = copy.deepcopy(moment.model)
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    base.load_state_dict(copy.deepcopy(moment.base.state_dict()))
    objective = OBJECTIVES[variant.objective](training_batch=variant.training_batch)
    hypergradient = HYPERGRADIENTS[variant.estimator](length_invariant=variant.length_invariant)
    rule = letsam.LogAdam(bounds=(1e-6, 1e3), prior=None, burn_in=0)  # nothing but `rho` sets the radius of the step
    parts = {"objective": objective, "hypergradient": hypergradient, "rule": rule}
    radius = letsam.LearnedRadius(rho, **parts, interval=1, per=per)
    opt = letsam.SAM(base, rho=radius)
    closure, validation = (closure_on(opt, model, moment.loss, data) for data in (moment.batch, moment.validation))
    opt.step(closure, validation)
    if variant.training_batch == "next":  # its update comes with the first pass of the step after
        opt.step(closure_on(opt, model, moment.loss, moment.next_batch), validation)
    return opt.metrics["hypergradient"]


def compare(moment: Moment, rho: float) -> dict[Variant, tuple[float, float]]:
    """(estimate, exact) of every variant at one step."""
    truths = {
        target: hypergradient(moment, rho, target[0], target[1], keeps_length=target[2])
        for target in dict.fromkeys(variant.target for variant in VARIANTS)
    }
    return {variant: (estimates(moment, rho, variant).item(), truths[variant.target]) for variant in VARIANTS}
