"""A cheaper ascent: its gradient is that of a part of the batch, the descent's that of the whole batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import checks
from ..checks import checked_scaler
from .accumulation import chosen_of, descended
from .closure import Closure, InParts
from .returned import packed

Batch = TypeVar("Batch")


def subset_ascent(
    loss_on: Callable[[Batch], Any],
    batch: Batch,
    optimizer: Optimizer,
    share: float = 0.25,
    *,
    grad_scaler: torch.amp.GradScaler | None = None,
) -> Closure:
    """A closure for one step: g_0 is the gradient over the first samples of the batch, g_rho that over all of them.

    A step of SAM then costs 1 + share passes instead of 2. Where the radius builds its hypergradient, which compares
    the gradients of the two passes, both are over all samples; a larger `interval` of `LearnedRadius` makes such steps
    rarer. The samples must be in random order. The training loss of a step, and the first update of running statistics,
    are those of the part. Perturbations that descend with g_0 (GSAM, WSAM) or reuse gradients of the samples
    (FunctionalSAM) are refused by the step, and so is m-sharpness.

    Args:
        loss_on: computes the mean loss of a batch (a scalar), or a pair (loss, outputs); must not call `backward()`.
        batch: tensors and arrays whose first dimension is that of the samples, in tuples, lists and mappings; whatever
            else is in it is passed on.
        optimizer: the optimizer whose gradients the closure clears first.
        share: fraction of the samples that the ascent uses, above 0 to 1; at least one sample.
        grad_scaler: scales the losses; pass it to `step` as well.

    Returns:
        A closure for `step`; it returns the loss (0-dim, detached, not scaled), or a pair of it and the outputs.

    Raises:
        ValueError: `share` is out of range, or tensors with different numbers of samples.
        TypeError: an argument of the wrong type; from the closure, if `loss_on` returns no tensor.

    Example:
        >>> import letsam
        >>> weight = torch.nn.Parameter(torch.tensor(1.0))
        >>> opt = letsam.SAM(torch.optim.SGD([weight], lr=0.01), rho=0.5)
        >>> data = torch.tensor([1.0, 1.0, 3.0, 3.0])
        >>> closure = subset_ascent(lambda x: ((weight * x) ** 2).mean(), data, opt, 0.5)
        >>> opt.step(closure), weight.detach()  # 1 - 0.01 * 10 * 1.5, the gradient of all samples at 1.5
        (tensor(1.), tensor(0.8500))

    Reference:
        Bahri, Mobahi, Tay, arXiv:2110.08529: an ascent with a quarter of the samples is as good on language models.
    """
    if not isinstance(optimizer, Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"`optimizer` must be a torch.optim.Optimizer, got {checks.shown(optimizer)}")
    fraction, scaler = checks.positive_share("share", share), checked_scaler(grad_scaler)
    count = samples_in(batch)
    part = first_samples(batch, count, chosen_of(count, fraction))

    def on(chosen: Batch) -> Closure:
        @torch.enable_grad()
        def closure() -> object:
            optimizer.zero_grad()
            return packed(*descended(loss_on, chosen, 1.0, scaler))

        return closure

    whole = on(batch)
    return InParts(whole, [whole], None if fraction == 1 else on(part))


def samples_in(batch: object) -> int:
    """The number of samples: the first dimension of its tensors.

    Raises:
        ValueError: there are no tensors of samples, or they differ in their number.
    """
    sizes = {len(tensor) for tensor in _tensors(batch)}
    if len(sizes) != 1:
        found = "tensors of " + " and ".join(map(str, sorted(sizes))) + " samples" if sizes else "no tensor"
        raise ValueError(f"`batch` must have tensors with one number of samples, got {found}")
    return sizes.pop()


def first_samples(batch: Batch, count: int, chosen: int) -> Batch:
    """The batch without all but the first `chosen` of its `count` samples; nests of tensors keep their types."""
    return cast("Batch", _cut(batch, count, chosen))


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.ndim else []
    parts: list[object] = []
    if isinstance(value, Mapping):
        parts = list(cast("Mapping[object, object]", value).values())
    elif isinstance(value, list | tuple):
        parts = list(cast("list[object]", value))
    return [tensor for part in parts for tensor in _tensors(part)]


def _cut(value: Any, count: int, chosen: int) -> Any:
    if hasattr(value, "__array__"):  # a tensor, or an array of numpy
        return value[:chosen] if value.ndim and len(value) == count else value
    kind = cast("Any", type(value))
    if isinstance(value, Mapping):
        cut = {key: _cut(entry, count, chosen) for key, entry in cast("Mapping[Any, Any]", value).items()}
        try:
            return cut if kind is dict else kind(cut)
        except TypeError:  # such as a defaultdict, which is made from something else
            made = copy.copy(cast("Any", value))
            made.update(cut)
            return made
    if isinstance(value, list | tuple):
        parts = [_cut(part, count, chosen) for part in cast("list[Any]", value)]
        return kind(*parts) if hasattr(kind, "_fields") else kind(parts)
    return value
