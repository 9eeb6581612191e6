"""Descending on the samples of a batch whose loss the perturbation raises most: ESAM's choice of data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import checks
from .closure import Closure


def selected(losses_on: Callable[[Tensor | None], Tensor], optimizer: Optimizer, share: float = 0.5) -> Closure:
    """A closure for one step: first the mean loss of the batch, then that of the samples which the perturbation hurts.

    The first call takes the gradient of the mean over all samples. The second measures, without a backward pass, by how
    much each sample's loss has risen since, and takes the gradient of the mean over the `share` of the samples where it
    has risen most. That choice holds for every later call. Make a new closure for each step, as with any batch.
    The authors' code keeps what has risen by more than the last of these, and so one sample fewer.

    With a learned radius use `hypergradient="finite_difference"` and `prior_rise=None`: the secant would take the
    difference between gradients of different samples, and the limit of the prior that of their lengths. The training
    loss that a radius sees in later passes is that of the chosen samples.

    Args:
        losses_on: the losses of the samples with these indices (int64, shape (n,)), of all of them for None; one number
            for each, shape (n,), no `backward()`.
        optimizer: whose gradients are cleared first.
        share: of the samples, above 0 to 1; the paper's gamma. At least one is chosen.

    Returns:
        A closure for `step`; it returns the mean loss (0-dim, detached).

    Raises:
        ValueError: `share` is out of range; from the closure, losses that are not one number for each sample.
        TypeError: an argument of the wrong type.

    Example:
        >>> import torch, letsam
        >>> weight = torch.nn.Parameter(torch.tensor(1.0))
        >>> data = torch.tensor([1.0, 3.0])
        >>> opt = letsam.SAM(torch.optim.SGD([weight], lr=0.01), rho=0.5)
        >>> closure = selected(lambda chosen: (weight * (data if chosen is None else data[chosen])) ** 2, opt)
        >>> opt.step(closure), weight.detach()  # 1 - 0.01 * 18 * 1.5: of the second sample alone
        (tensor(5.), tensor(0.7300))

    Reference:
        Du et al., arXiv:2110.03141.
    """
    if not isinstance(optimizer, Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"`optimizer` must be a torch.optim.Optimizer, got {checks.shown(optimizer)}")
    part = checks.positive_share("share", share)
    seen: list[Tensor] = []  # the losses at the weights, then the indices chosen

    def measured(chosen: Tensor | None) -> Tensor:
        losses = losses_on(chosen)
        if losses.ndim != 1:
            raise ValueError(f"`losses_on` must return one loss for each sample, got shape {tuple(losses.shape)}")
        return losses

    @torch.enable_grad()
    def closure() -> Tensor:
        optimizer.zero_grad()
        if len(seen) == 1:
            with torch.no_grad():
                rise = measured(None) - seen[0]
            seen.append(rise.topk(max(1, int(part * len(rise)))).indices)
        losses = measured(seen[1] if seen else None)
        if not seen:
            seen.append(losses.detach())
        loss = losses.mean()
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        return loss.detach()

    return closure
