"""What is wrong with a training loop, before it trains: `letsam.check`, and `letsam doctor` on the command line.

`findings` has one function for each thing that may be wrong; `bench` runs the closures and puts everything back.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .. import checks
from ..closures.closure import Closure, checked_closure
from ..optimizer import SharpnessAware
from ..step.snapshot import checked_model
from . import findings
from .bench import Bench, Broken
from .findings import Finding

__all__ = ["Finding", "check"]


def check(
    optimizer: SharpnessAware,
    closure: Closure,
    validation_closure: Closure | None = None,
    model: nn.Module | None = None,
    *,
    scheduler: object = None,
) -> list[Finding]:
    """Look for mistakes in a training loop that would not raise, or not where they are made.

    The closures run a few times, at the weights and near them. No step is taken: weights, gradients, moments,
    buffers, radius, metrics and random generators are afterwards what they were. What a closure uses up itself, such
    as the batches of an iterator, stays used up.

    Args:
        optimizer: of letsam.
        closure: as for `step`.
        validation_closure: as for `step`; defaults to the optimizer's own.
        model: the network, for the weights that the optimizer should hold; defaults to the optimizer's own.
        scheduler: a learning rate scheduler of `torch.optim.lr_scheduler`, or anything with its `optimizer`.

    Returns:
        What was found, errors first; [] when all is well.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: no closure, or a model with none of the optimizer's weights.

    Example:
        >>> import torch, letsam
        >>> model = torch.nn.Linear(2, 1)
        >>> opt = letsam.SAM(torch.optim.SGD(model.parameters(), lr=0.1))
        >>> def closure():
        ...     loss = model(torch.ones(4, 2)).square().mean()
        ...     loss.backward()
        ...     return loss
        >>> for finding in letsam.check(opt, closure):
        ...     print(finding.severity, finding.code)
        warning gradients-not-cleared
    """
    if not isinstance(optimizer, SharpnessAware):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"`optimizer` must be one of letsam's, got {checks.shown(optimizer)}")
    checked_closure(closure)
    validation_closure = validation_closure or optimizer.validation_closure
    if validation_closure is not None and not callable(validation_closure):
        raise TypeError(f"`validation_closure` must be a function or None, got {checks.shown(validation_closure)}")
    model = optimizer.model if model is None else model
    if model is not None:
        checked_model(model, [p for group in optimizer.param_groups for p in group["params"]])
    if scheduler is not None and not hasattr(scheduler, "optimizer"):
        raise TypeError(f"`scheduler` must be a learning rate scheduler or None, got {checks.shown(scheduler)}")

    with Bench(optimizer, model) as bench:
        found = list(_examine(bench, closure, validation_closure, scheduler))
    return sorted(found, key=lambda finding: finding.severity)  # "error" comes before "warning"


def _examine(
    bench: Bench, closure: Closure, validation_closure: Closure | None, scheduler: object
) -> Iterator[Finding]:
    optimizer = bench.optimizer
    yield from findings.no_validation_closure(optimizer, validation_closure)
    yield from findings.weights_not_held(optimizer, bench.model)
    yield from findings.stale_scheduler(optimizer, scheduler)
    try:
        here = bench.run(closure, "closure")
        yield from findings.not_finite(here)
        yield from findings.weights_without_gradient(here, bench.weight_names)
        yield from findings.moving_buffers(here, optimizer)
        yield from findings.not_deterministic(here, bench.run(closure, "closure"))
        yield from findings.not_recomputed(here, bench.run_nearby(closure, here))
        yield from findings.gradients_not_cleared(here, bench.run(closure, "closure", gradients=here.gradients))
        if validation_closure is not None:
            held_out = bench.run(validation_closure, "validation_closure")
            yield from findings.not_finite(held_out)
            yield from findings.not_recomputed(held_out, bench.run_nearby(validation_closure, held_out))
            yield from findings.same_batch(here, held_out)
        elif optimizer.radius.learns:
            return
        yield from findings.radius_out_of_proportion(optimizer, here, bench.climb(closure, validation_closure))
    except Broken as broken:
        yield broken.finding
