"""What a learned radius reports of its last update."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..tangent.blocks import grown

NAMES = {"validation_loss", "training_loss", "hypergradient"}


class LastUpdate:
    """The losses and the hypergradient of the last update whose step was finite.

    Example:
        >>> last = LastUpdate()
        >>> for finite, loss in ((True, 0.25), (False, 3.0)):
        ...     last.seen = {"validation_loss": torch.tensor(loss), "training_loss": torch.tensor(0.125)}
        ...     last.seen["hypergradient"] = torch.tensor(0.5)
        ...     last.commit(torch.tensor(finite))
        >>> last.metrics()["generalization_gap"]
        tensor(0.1250)
    """

    def __init__(self) -> None:
        self.seen: dict[str, Tensor] = {}  # in this step; set by the radius
        self._kept: dict[str, Tensor] = {}

    def grow(self, count: int) -> None:
        """From now on there are `count` radii, each with a hypergradient."""
        if self._kept:
            self._kept["hypergradient"] = grown(self._kept["hypergradient"], count, 0.0)

    def commit(self, finite: Tensor) -> None:
        """Keep the measurements of this step if `finite` (0-dim bool)."""
        if self.seen:
            self._kept = {n: torch.where(finite, x, self._kept.get(n, x)) for n, x in self.seen.items()}
        self.seen = {}

    def metrics(self) -> dict[str, Tensor]:
        """Losses, gap and hypergradient; empty before the first update."""
        if not self._kept:
            return {}
        seen = {name: self._kept[name] for name in ("validation_loss", "hypergradient")}
        return {"generalization_gap": self._kept["validation_loss"] - self._kept["training_loss"], **seen}

    def state_dict(self) -> dict[str, Tensor]:
        """The state to be saved; tensors are copies."""
        return {name: value.clone() for name, value in self._kept.items()}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore the state that `state_dict` returned."""
        if state and state.keys() != NAMES:
            raise ValueError(f"`reported` must hold {', '.join(sorted(NAMES))} or nothing, got {', '.join(state)}")
        self._kept = {name: torch.as_tensor(value).to(device) for name, value in state.items()}
        self.seen = {}
