"""ESAM's data selection: descend on the samples of a batch whose loss the perturbation raises most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import checks
from .closure import Closure
from .returned import detached, packed, unpacked


def selected(losses_on: Callable[[Tensor | None], Any], optimizer: Optimizer, share: float = 0.5) -> Closure:
    """A closure for one step: g_0 is the gradient over all samples, g_rho that over the most sensitive ones.

    The first call computes the gradient of the mean loss over all samples. The second call first runs a forward pass to
    measure how much the loss of each sample has increased since. It then computes the gradient of the mean loss over
    the fraction `share` of the samples with the largest increase. Later calls use the same samples. Make a new closure
    for each step. (The authors' code keeps the samples above the threshold and drops the one at it, so one fewer.)

    With a learned radius, use `hypergradient=FiniteDifference()` and `rule=LogAdam(prior=Prior(rise=None))`. The secant
    estimate and the curvature limit of the prior compare gradients of the two passes, which here are of different
    samples. The training loss of later passes is that of the selected samples.

    Args:
        losses_on: computes the losses of the samples with the given indices (int64, shape `(k,)`), or of all samples
            for None; returns one loss per sample, shape `(k,)`, or a pair (losses, outputs); must not call
            `backward()`.
        optimizer: the optimizer whose gradients the closure clears first.
        share: fraction of the samples that are selected, above 0 to 1; the paper's gamma. At least one is selected.

    Returns:
        A closure for `step`; it returns the mean loss (0-dim, detached), or a pair of it and the outputs.

    Raises:
        ValueError: `share` is out of range; from the closure, if `losses_on` does not return one loss per sample.
        TypeError: an argument of the wrong type.

    Example:
        >>> import torch, letsam
        >>> weight = torch.nn.Parameter(torch.tensor(1.0))
        >>> data = torch.tensor([1.0, 3.0])
        >>> opt = letsam.SAM(torch.optim.SGD([weight], lr=0.01), rho=0.5)
        >>> closure = selected(lambda chosen: (weight * (data if chosen is None else data[chosen])) ** 2, opt)
        >>> opt.step(closure), weight.detach()  # 1 - 0.01 * 18 * 1.5, the gradient of the second sample
        (tensor(5.), tensor(0.7300))

    Reference:
        Du et al., arXiv:2110.03141, sharpness-sensitive data selection.
    """
    if not isinstance(optimizer, Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"`optimizer` must be a torch.optim.Optimizer, got {checks.shown(optimizer)}")
    part = checks.positive_share("share", share)
    return Selected(losses_on, optimizer, part)


class Selected:
    """The closure that `selected` returns; arguments as there.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, 3.0]))
        >>> def losses_on(indices):
        ...     return (weight if indices is None else weight[indices]) ** 2
        >>> closure = Selected(losses_on, torch.optim.SGD([weight]), 0.5)
        >>> closure.on_all().item()
        5.0
    """

    def __init__(self, losses_on: Callable[[Tensor | None], Any], optimizer: Optimizer, share: float) -> None:
        self._losses_on, self._optimizer, self._share = losses_on, optimizer, share
        self._before: Tensor | None = None  # the losses at the weights, from the first call on
        self._chosen: Tensor | None = None  # the selected indices, from the second call on

    def __call__(self) -> object:
        """The first call: all samples. Later ones: those that are selected in the second call."""
        self._optimizer.zero_grad()
        if self._before is None:
            return self._backward(None)
        if self._chosen is None:
            with torch.no_grad():
                rise = self._measured(None)[0] - self._before
            self._chosen = rise.topk(max(1, int(self._share * len(rise)))).indices
        return self._backward(self._chosen)

    def on_all(self) -> object:
        """As the first call, at any time: the mean loss over all samples; later calls are not changed by it."""
        before = self._before
        try:
            self._optimizer.zero_grad()
            return self._backward(None)
        finally:
            self._before = before

    @torch.enable_grad()
    def _backward(self, chosen: Tensor | None) -> object:
        losses, outputs = self._measured(chosen)
        if chosen is None:
            self._before = losses.detach()
        loss = losses.mean()
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        return packed(loss.detach(), detached(outputs))

    def _measured(self, chosen: Tensor | None) -> tuple[Tensor, Any]:
        losses, outputs = unpacked(self._losses_on(chosen), "losses_on")
        if losses.ndim != 1:
            raise ValueError(f"`losses_on` must return one loss for each sample, got shape {tuple(losses.shape)}")
        return losses, outputs
