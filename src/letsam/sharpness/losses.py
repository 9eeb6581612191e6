"""Shared by all measures: restoring the model, and means over batches weighted by their number of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .. import checks
from ..step.snapshot import Snapshot

LossFunction = Callable[[Any, Any], Tensor]
Batch = tuple[Any, Any]
Shares = list[tuple[Batch, float]]
"""The batches, each with its fraction of all samples."""


@contextmanager
def measured(model: nn.Module) -> Iterator[list[Tensor]]:
    """Put the model in evaluation mode; on exit, restore weights, buffers, gradients and modes bit for bit.

    Args:
        model: its weights may be overwritten inside.

    Yields:
        Copies of the trainable weights, in the order of `trainable`.

    Raises:
        ValueError: no parameter is trainable.
    """
    trainable(model)
    params, before = list(model.parameters()), Snapshot()
    before.take_all(list(model.modules()), params, devices=())
    try:
        model.eval()
        yield [w for w, p in zip(before.weights, params, strict=True) if p.requires_grad]
    finally:
        before.restore()
        before.restore_gradients()


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters with `requires_grad`; the others are not changed by any measure.

    Raises:
        ValueError: there is none.
    """
    params = [p for p in model.parameters() if p.requires_grad]
    if not params:
        raise ValueError("`model` must have at least one parameter with requires_grad=True, got none")
    return params


def shares(batches: Iterable[Any]) -> Shares:
    """Read the batches once, so that every pass sees the same ones, and weight them by their number of targets.

    Args:
        batches: (inputs, targets) pairs; the targets have a length.

    Returns:
        The batches, each with its fraction of all samples; the fractions add up to 1. Empty batches are dropped.

    Raises:
        TypeError: an item is not an (inputs, targets) pair.
        ValueError: there are no samples.

    Example:
        >>> [share for _, share in shares([(torch.ones(3, 1), torch.ones(3)), (torch.ones(1, 1), torch.ones(1))])]
        [0.75, 0.25]
    """
    kept: list[Batch] = []
    sizes: list[int] = []
    for batch in batches:
        if not isinstance(batch, Sequence) or len(batch) != 2:
            raise TypeError(f"`batches` must hold (inputs, targets) pairs, got {type(batch).__name__}")
        try:
            sizes.append(len(batch[1]))
        except TypeError as error:
            raise TypeError(f"`batches`: targets must have a length, got {checks.shown(batch[1])}") from error
        kept.append((batch[0], batch[1]))
    if not sum(sizes):
        raise ValueError("`batches` must hold at least one sample, got none")
    return [(batch, size / sum(sizes)) for batch, size in zip(kept, sizes, strict=True) if size]


def loss_of(model: nn.Module, loss_fn: LossFunction, batch: Batch) -> Tensor:
    """The mean loss of one batch (0-dim).

    Args:
        model: the network.
        loss_fn: (outputs, targets) -> mean loss, a scalar.
        batch: an (inputs, targets) pair.

    Returns:
        The loss, with its graph.

    Raises:
        TypeError: `loss_fn` returns no tensor.
        ValueError: `loss_fn` returns no scalar.
    """
    loss = loss_fn(model(batch[0]), batch[1])
    if not isinstance(loss, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"`loss_fn` must return the loss as a tensor, got {checks.shown(loss)}")
    if loss.numel() != 1:
        raise ValueError(f"`loss_fn` must return a scalar (the mean), got a tensor of shape {tuple(loss.shape)}")
    return loss.reshape(())


@torch.no_grad()
def mean_loss(model: nn.Module, loss_fn: LossFunction, parts: Shares) -> float:
    """The mean loss over all samples, accumulated in float64."""
    return float(sum(share * loss_of(model, loss_fn, batch).cpu().double() for batch, share in parts))


def mean_gradient(model: nn.Module, loss_fn: LossFunction, parts: Shares) -> list[Tensor | None]:
    """The gradient of the mean loss, one tensor per trainable parameter; None if the loss does not depend on it."""
    params = trainable(model)
    total: list[Tensor | None] = [None] * len(params)
    with torch.enable_grad():
        for batch, share in parts:
            loss = loss_of(model, loss_fn, batch)
            if not loss.requires_grad:
                raise ValueError("`loss_fn` must return a loss that depends on the model, got one that does not")
            for i, gradient in enumerate(torch.autograd.grad(share * loss, params, allow_unused=True)):
                if gradient is not None:
                    before = total[i]
                    total[i] = gradient if before is None else before + gradient
    return total
