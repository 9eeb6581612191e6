"""Accelerate: a step with the accelerator's precision, processes and gradient accumulation.

    model, base, train, held_out = accelerator.prepare(model, optimizer, train, held_out)
    validation = letsam.endless(held_out)
    accelerator.register_for_checkpointing(validation)
    for batch in train:
        step(accelerator, optimizer, loss_on, [batch], validation)

`optimizer.step(closure)` of the prepared optimizer does not suffice: it accepts no validation closure, and with float16
it calls the gradient scaler's `step`, which does not support closures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType
from torch import Tensor, nn

from .. import checks
from ..closures.accumulation import accumulated
from ..closures.subset_ascent import subset_ascent
from ..optimizer import SharpnessAware
from .logged_metrics import logged_metrics, warn_once

Batch = TypeVar("Batch")
UNSUPPORTED = (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA)


def step(
    accelerator: Accelerator,
    optimizer: Any,
    loss_on: Callable[[Batch], Any],
    micro_batches: Iterable[Batch],
    validation_batches: Iterator[Batch] | None = None,
    *,
    weights: Sequence[float] | None = None,
    model: nn.Module | None = None,
    ascent_share: float = 1.0,
) -> Tensor:
    """A complete step of a letsam optimizer; every pass runs all micro-batches of the step.

    Do not wrap it in `accelerator.accumulate`: pass all micro-batches of a step together, and gradients are accumulated
    inside. Clip with the optimizer's `max_grad_norm`. Step a prepared scheduler as usual.

    Args:
        accelerator: the accelerator that prepared model, optimizer and loaders.
        optimizer: a letsam optimizer, prepared or not.
        loss_on: computes the loss of one batch with the prepared model (a scalar), or a pair (loss, outputs); must not
            call `backward()`.
        micro_batches: the training batches of this step, at least one.
        validation_batches: an infinite iterator (`letsam.endless`), for a learned radius; each validation pass takes
            one batch.
        weights: weights of the micro-batches (see `letsam.accumulated`); None: equal weights.
        model: the prepared model; with it, several processes exchange gradients only in the last micro-batch.
        ascent_share: fraction of the micro-batches that the ascent uses, above 0 to 1; of a single micro-batch, of its
            samples (see `letsam.subset_ascent`).

    Returns:
        The loss of the first pass (0-dim, detached).

    Raises:
        TypeError: `optimizer` is not a letsam optimizer.
        ValueError: a learned radius without validation batches; a call inside `accelerator.accumulate` for one
            micro-batch of several; or an accelerator with DeepSpeed, Megatron-LM or XLA, which do not leave the step to
            the optimizer.

    Example:
        >>> import torch, letsam
        >>> from accelerate import Accelerator
        >>> from letsam.integrations.accelerate import step
        >>> accelerator, model = Accelerator(cpu=True), torch.nn.Linear(2, 1)
        >>> opt = letsam.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=letsam.LearnedRadius(0.05))
        >>> model, opt = accelerator.prepare(model, opt)
        >>> validation = letsam.endless(torch.eye(2).split(1))
        >>> for batch in torch.randn(6, 4, 2):
        ...     loss = step(accelerator, opt, lambda x: model(x).square().mean(), [batch], validation)
        >>> bool(opt.optimizer.rho != 0.05)
        True
    """
    optimizer = unwrapped(optimizer)
    if not isinstance(optimizer, SharpnessAware):
        raise TypeError(f"`optimizer` must be a letsam optimizer, got {checks.shown(optimizer)}")
    if accelerator.distributed_type in UNSUPPORTED:
        raise ValueError(
            f"`accelerator` must leave the step to the optimizer, got {accelerator.distributed_type.value}"
        )
    if not accelerator.sync_gradients:
        raise ValueError(
            "`micro_batches` must hold all micro-batches of a step, got a call for one of "
            f"{accelerator.gradient_accumulation_steps} inside accelerator.accumulate(): collect them, and call step() "
            "once, outside of it"
        )
    scaler: torch.amp.GradScaler | None = accelerator.scaler
    batches = tuple(micro_batches)
    options: dict[str, Any] = {"grad_scaler": scaler, "model": model, "ascent_share": ascent_share}
    closure = accumulated(loss_on, batches, optimizer, weights=weights, **options)
    if len(batches) == 1 and ascent_share != 1:
        closure = subset_ascent(loss_on, batches[0], optimizer, ascent_share, grad_scaler=scaler)

    def held_out() -> Tensor:
        assert validation_batches is not None
        return accumulated(loss_on, [next(validation_batches)], optimizer, grad_scaler=scaler)()

    loss = optimizer.step(closure, None if validation_batches is None else held_out, grad_scaler=scaler)
    if scaler is not None:
        scaler.update()
    return loss


def log_step(accelerator: Accelerator, optimizer: Any, step: int | None = None) -> None:
    """Log radius, learning rate, losses, generalization gap and hypergradient with the accelerator's trackers.

    Args:
        accelerator: after `accelerator.init_trackers(...)`.
        optimizer: a letsam optimizer that has taken at least one step, prepared or not.
        step: the number of the step, as `accelerator.log` takes it.

    Raises:
        TypeError: `optimizer` is not a letsam optimizer.

    Example:
        >>> import torch, letsam
        >>> from accelerate import Accelerator
        >>> from letsam.integrations.accelerate import log_step, step
        >>> accelerator, model = Accelerator(cpu=True), torch.nn.Linear(2, 1)
        >>> opt = letsam.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)
        >>> loss = step(accelerator, opt, lambda x: model(x).square().mean(), [torch.eye(2)])
        >>> log_step(accelerator, opt, step=1)
    """
    optimizer = unwrapped(optimizer)
    if not isinstance(optimizer, SharpnessAware):
        raise TypeError(f"`optimizer` must be a letsam optimizer, got {checks.shown(optimizer)}")
    accelerator.log({name: value.item() for name, value in logged_metrics(optimizer).items()}, step=step)
    if accelerator.is_main_process:
        warn_once(optimizer)


def unwrapped(optimizer: Any) -> Any:
    """The optimizer inside Accelerate's wrapper."""
    while isinstance(optimizer, AcceleratedOptimizer):
        optimizer = optimizer.optimizer
    return optimizer
