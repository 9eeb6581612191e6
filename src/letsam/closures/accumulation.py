"""Gradient accumulation: one closure over several micro-batches, which every pass of a step runs again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import checks
from ..checks import checked_module, checked_scaler
from .closure import Closure, InParts
from .returned import Returned, detached, outputs_of, packed, unpacked

Batch = TypeVar("Batch")


def accumulated(
    loss_on: Callable[[Batch], Any],
    micro_batches: Iterable[Batch],
    optimizer: Optimizer,
    *,
    weights: Sequence[float] | None = None,
    grad_scaler: torch.amp.GradScaler | None = None,
    model: nn.Module | None = None,
    ascent_share: float = 1.0,
) -> Closure:
    """A closure with loss sum_i (w_i / sum_j w_j) loss_i over micro-batches, run one after the other.

    Every pass of a step runs the same micro-batches with the same dropout masks. If each loss is a mean and the weights
    w_i are the micro-batch sizes, the gradient is that of the whole batch. With `m_sharpness`, each micro-batch climbs
    along its own gradient instead (see `letsam.SubBatchSAM`).

    Args:
        loss_on: computes the loss of one micro-batch (a scalar), or a pair (loss, outputs); must not call `backward()`.
        micro_batches: at least one; read immediately, so it may be a generator.
        optimizer: the optimizer whose gradients the closure clears first.
        weights: w_i > 0, one per micro-batch: their sizes, or numbers of tokens, if these differ. None: equal weights.
        grad_scaler: scales the losses; pass it to `step` as well.
        model: a DistributedDataParallel model: all micro-batches but the last run under its `no_sync()`, so that
            gradients are exchanged once. A model without `no_sync` has no effect.
        ascent_share: fraction of the micro-batches whose gradient the ascent follows, above 0 to 1, at least one: a
            cheaper step, see `letsam.subset_ascent`.

    Returns:
        A closure for `step`; it returns the total loss (0-dim, detached, not scaled), or a pair of it and the list of
        the micro-batches' outputs if `loss_on` returns outputs.

    Raises:
        ValueError: no micro-batch, or a wrong number of weights; from the closure, if `loss_on` returns no scalar.
        TypeError: an argument of the wrong type; from the closure, if `loss_on` returns no tensor.

    Example:
        >>> import torch, letsam
        >>> weight = torch.nn.Parameter(torch.tensor(1.0))
        >>> opt = letsam.SAM(torch.optim.SGD([weight], lr=0.1), rho=0.05)
        >>> closure = accumulated(lambda x: (weight * x) ** 2, iter([1.0, 3.0]), opt)
        >>> closure(), weight.grad
        (tensor(5.), tensor(10.))
    """
    batches = tuple(micro_batches)
    if not batches:
        raise ValueError("`micro_batches` must hold at least one micro-batch, got none")
    if not isinstance(optimizer, Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"`optimizer` must be a torch.optim.Optimizer, got {checks.shown(optimizer)}")
    shares = _shares(weights, len(batches))
    fraction = checks.positive_share("ascent_share", ascent_share)
    scaler = checked_scaler(grad_scaler)
    if model is not None:
        checked_module(model)
    without_exchange: Callable[[], Any] = getattr(model, "no_sync", nullcontext)

    def first(count: int) -> Closure:
        total = sum(shares[:count])

        @torch.enable_grad()
        def closure() -> object:
            optimizer.zero_grad()
            seen: list[Returned] = []
            for position, (batch, share) in enumerate(zip(batches[:count], shares, strict=False), start=1):
                with nullcontext() if position == count else without_exchange():
                    part = share if count == len(batches) else share / total
                    seen.append(descended(loss_on, batch, part, scaler))
            losses, outputs = zip(*seen, strict=True)
            return packed(torch.stack(losses).sum(), outputs_of(outputs))

        return closure

    def part(batch: Batch, share: float) -> Closure:
        @torch.enable_grad()
        def closure() -> object:
            optimizer.zero_grad()
            return packed(*descended(loss_on, batch, share, scaler))

        return closure

    parts = [part(batch, share) for batch, share in zip(batches, shares, strict=True)]
    return InParts(first(len(batches)), parts, None if fraction == 1 else first(chosen_of(len(batches), fraction)))


def descended(
    loss_on: Callable[[Batch], Any], batch: Batch, share: float, scaler: torch.amp.GradScaler | None
) -> Returned:
    """Add the gradient of `share` times the loss of a batch; returns this loss (0-dim, not scaled) and the outputs."""
    loss, outputs = unpacked(loss_on(batch), "loss_on")
    if not isinstance(loss, Tensor):
        raise TypeError(f"`loss_on` must return the loss as a tensor, got {checks.shown(loss)}")
    if loss.numel() != 1:
        raise ValueError(f"`loss_on` must return a scalar loss, got a tensor of shape {tuple(loss.shape)}")
    loss = loss * share
    scaled: Tensor = loss if scaler is None else scaler.scale(loss)
    scaled.backward()  # pyright: ignore[reportUnknownMemberType]
    return Returned(loss.detach().reshape(()), detached(outputs))


def chosen_of(count: int, share: float) -> int:
    """How many of `count` samples or micro-batches an ascent with a share of them uses: rounded up, at least one."""
    return max(1, math.ceil(share * count - 1e-9))


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1 / count] * count
    if len(weights) != count:
        raise ValueError(f"`weights` must be as many as the micro-batches, {count}, got {len(weights)}")
    checked = [checks.positive("weights", weight) for weight in weights]
    return [weight / sum(checked) for weight in checked]
