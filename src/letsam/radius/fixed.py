"""The constant radius of SAM as published (arXiv:2010.01412)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..tangent.blocks import Blocks
from .base import Ascent, Radius, Wants

CLIMBS, RESTS = Wants(first_pass=False), Wants(first_pass=False, climbs=False)


class FixedRadius(Radius):
    """rho_t = rho; in a param group with a number `rho` of its own, rho_t is that number.

    The numbers of the groups are read at every step, so they may be changed during training. If there are any, `rho`
    has one value per group. The direction eps_hat stays that of all groups together: group i is perturbed by
    rho_i eps_hat_i.

    Args:
        rho: > 0, in units of the weights (ASAM: relative to them); 0 gives the base optimizer's own steps, bit for bit,
            in one pass.

    Raises:
        ValueError: `rho`, or that of a param group, is negative, infinite or NaN.
        TypeError: it is not a number.

    Example:
        >>> FixedRadius(0.05).rho
        tensor(0.0500, dtype=torch.float64)
        >>> import letsam
        >>> body, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
        >>> groups = [{"params": body.parameters()}, {"params": head.parameters(), "rho": 0.2}]
        >>> letsam.SAM(torch.optim.SGD(groups, lr=0.1), rho=0.05).rho
        tensor([0.0500, 0.2000])

    Reference:
        arXiv:2010.01412, equation (2).
    """

    takes_group_rho = True

    def __init__(self, rho: float) -> None:
        super().__init__(checks.not_negative("rho", rho, "the base optimizer alone"))
        self._numbers: list[float | None] = []  # of the groups; empty if none has one
        self._shared: Tensor = self.rho  # for the groups without a number
        self._zero: Tensor | None = self.rho if rho == 0 else None  # `_shared`, if the host knows that it is 0

    def attach(self, param_groups: list[dict[str, Any]], ascends: Callable[[int], bool]) -> None:
        """Read the numbers of the param groups."""
        numbers = numbers_of(param_groups)
        if numbers:
            self.blocks = Blocks("group")
            self.blocks.place(param_groups)
        if numbers == self._numbers:
            return
        if not self._numbers:
            self._shared = self.rho
        # filled on the device: copying a number there would make the host wait
        each = [self._shared if number is None else self._shared.new_full((), number) for number in numbers]
        self.rho: Tensor = torch.stack(each) if each else self._shared
        self._numbers = numbers

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the radii to the device and dtype of the weights."""
        super().to(device, dtype)
        self._shared = self._shared.to(device=device, dtype=dtype) if self._numbers else self.rho
        self._zero = self._zero if self._zero is None else self._shared

    def wants(self, step: int) -> Wants:
        """Nothing: the radius is constant."""
        climbs = (self._shared if self._numbers else self.rho) is not self._zero
        if self._numbers:
            climbs = any(climbs if number is None else number > 0 for number in self._numbers)
        return CLIMBS if climbs else RESTS

    def at(self, ascent: Ascent) -> Tensor:
        """The radius (0-dim), or one value per weight if a group has a number of its own."""
        return self.blocks.spread(self.rho) if self._numbers else self.rho

    def metrics(self) -> dict[str, Tensor]:
        """The radius, or one per group, whereas the step uses one per weight."""
        return {"rho": self.rho}

    def state_dict(self) -> dict[str, Any]:
        """The radius of the groups without a number; those of the others are saved with the groups."""
        return {"rho": (self._shared if self._numbers else self.rho).clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned; `attach` adds the numbers of the groups."""
        checks.saved("rho", state["rho"])
        self.rho = self._shared
        super().load_state_dict(state)
        self._numbers, self._shared = [], self.rho
        self._zero = self.rho if self.rho == 0 else None


def numbers_of(param_groups: list[dict[str, Any]]) -> list[float | None]:
    """The number `rho` of each group, None for a group without one; an empty list if no group has one.

    Raises:
        TypeError: it is not a number.
        ValueError: it is negative, infinite or NaN.

    Example:
        >>> numbers_of([{}, {"rho": 0.2}]), numbers_of([{}, {}])
        ([None, 0.2], [])
    """
    if not any("rho" in group for group in param_groups):
        return []
    what = "the group is not perturbed", " of a param group"
    return [checks.not_negative("rho", group["rho"], *what) if "rho" in group else None for group in param_groups]


def as_radius(rho: object) -> Radius:
    """A copy of a radius, or a `FixedRadius` for a number.

    Args:
        rho: a `Radius`, or a number >= 0 (a 0-dim tensor is possible).

    Returns:
        A radius that belongs to the caller.

    Raises:
        TypeError: `rho` is neither.
        ValueError: a number < 0.
    """
    if isinstance(rho, Radius):
        return copy.deepcopy(rho)
    if isinstance(rho, Tensor) and rho.ndim == 0:
        rho = rho.item()
    if isinstance(rho, bool) or not isinstance(rho, (int, float)):
        raise TypeError(f"`rho` must be a number > 0, a schedule or a LearnedRadius, got {checks.shown(rho)}")
    return FixedRadius(checks.number("rho", rho))
