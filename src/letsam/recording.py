"""The radii of a run, kept step by step, so that a network can be trained again with them on all the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import checks
from .optimizer import SharpnessAware
from .radius import LearnedRadius, ReplayedRadius

CHUNK = 1024  # steps whose radii are put into one tensor


class RadiusRecord:
    """rho_0, rho_1, ... of an optimizer's steps from now on; `replayed` makes a schedule of them.

    A step gets one small copy on its device; the host waits only where the radii are asked for.

    Args:
        optimizer: any sharpness-aware optimizer of letsam; only the steps by `step` are recorded.

    Raises:
        TypeError: another optimizer.

    Example:
        >>> import torch, letsam
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> opt = letsam.SAM(torch.optim.SGD([weight], lr=0.1), rho=letsam.LinearRadius(0.1, 0.3, steps=2))
        >>> record = letsam.RadiusRecord(opt)
        >>> def closure():
        ...     opt.zero_grad()
        ...     loss = weight.square().sum()
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(3):
        ...     loss = opt.step(closure)
        >>> [round(rho, 2) for rho in record.schedule]
        [0.1, 0.2, 0.3]
        >>> record.replayed(steps=6).steps
        6

    Reference:
        docs/how-to/refit.md; the refit of `letsam trial` does the same.
    """

    def __init__(self, optimizer: SharpnessAware) -> None:
        if not isinstance(optimizer, SharpnessAware):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"`optimizer` must be a letsam.SharpnessAware, got {checks.shown(optimizer)}")
        self._optimizer = optimizer
        self._chunks: list[Tensor] = []
        self._latest: list[Tensor] = []
        optimizer.register_step_post_hook(self._record)

    def _record(self, *_: Any) -> None:
        self._latest.append(self._optimizer.metrics["rho"].detach().clone())
        if len(self._latest) == CHUNK:
            self._pack()

    def _pack(self) -> None:
        """Put the latest radii into one tensor, on their device."""
        if self._latest:
            self._chunks.append(torch.stack(self._latest))
            self._latest = []

    def _all(self) -> Tensor:
        self._pack()
        if len(self._chunks) > 1:
            self._chunks = [torch.cat(self._chunks)]
        return self._chunks[0] if self._chunks else torch.empty(0)

    def __len__(self) -> int:
        """The number of recorded steps."""
        return sum(map(len, self._chunks)) + len(self._latest)

    @property
    def schedule(self) -> list[float] | list[list[float]]:
        """The radius of each step; with `per="group"` or "layer", a list of radii for each step."""
        return self._all().tolist()

    def replayed(self, steps: int) -> ReplayedRadius:
        """The recorded radii, stretched to another number of steps, for a new optimizer.

        In the burn-in of a learned radius, where it still depends on its initial value, the schedule is limited as
        `ReplayedRadius` says. Radii that are not finite, of a run that diverged, are left out.

        Args:
            steps: of the run that replays them, >= 1.

        Raises:
            ValueError: nothing has been recorded, or no radius is finite.
        """
        radii, radius = self._all(), self._optimizer.radius
        finite = radii.reshape(len(radii), radii[:1].numel()).isfinite().all(1)
        if not finite.any():
            raise ValueError(f"`RadiusRecord` must hold a step with finite radii, got {len(radii)} steps, none with")
        burn_in = radius.rule.burn_in if isinstance(radius, LearnedRadius) else 0
        return ReplayedRadius(radii[finite].tolist(), steps, burn_in=burn_in, per=radius.per)

    def state_dict(self) -> dict[str, Tensor]:
        """The radii, for a checkpoint."""
        return {"radii": self._all().clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on after the steps of `state`, as `state_dict` returned it, instead of those recorded so far."""
        self._chunks, self._latest = [state["radii"].clone()] if len(state["radii"]) else [], []
