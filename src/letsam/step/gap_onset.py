"""A learned onset: the base optimizer steps alone until the generalization gap has begun to grow."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from .. import checks

STARTING = 10  # gaps whose mean is the start
SMOOTHING = 0.1  # weight of the newest gap in the moving average, once there are more of them
NAMES = ("onset", "count", "start", "average", "variance")


class GapOnset:
    """active(t) = t >= onset: the first step after mean gap - start > errors * standard error, or `latest`.

    For `active=` of the optimizers. Before the onset a step takes one pass: ascents pay where a network overfits. The
    gap is validation loss - training loss. Its start is the mean of the first ten that are observed, its mean a moving
    average over about twenty. A constant that is added to both losses, or a factor, changes nothing.

    Args:
        latest: the step, >= 1, from which ascents are made in any case, such as a quarter of the run.
        errors: how far the gap must have grown, > 0, in standard errors. With more, the onset is later.

    Raises:
        ValueError, TypeError: an argument out of range, or of the wrong type.

    Example:
        >>> onset = GapOnset(latest=400)
        >>> for step in range(0, 200, 4):  # the gap grows from step 100 on
        ...     noise = 0.1 if step % 8 else -0.1
        ...     onset.observe(step, 1.0, 1.0 + noise + max(0.0, 0.01 * (step - 100)))
        >>> onset(100), onset(199)
        (False, True)

    Reference:
        Late-phase SAM, arXiv:2410.10373, begins after a fixed share of the run. Measured in docs/evidence.md.
    """

    def __init__(self, latest: int, *, errors: float = 3.0) -> None:
        self.latest, self.errors = checks.whole("latest", latest, 1), checks.positive("errors", errors)
        self.onset: int | None = None  # the step, as soon as it is known
        self.count, self.start, self.average, self.variance = 0, 0.0, 0.0, 0.0

    def __call__(self, step: int) -> bool:
        """Whether a step (from 0) is active."""
        return step >= (self.latest if self.onset is None else self.onset)

    def observe(self, step: int, training_loss: float | Tensor, validation_loss: float | Tensor) -> None:
        """See both losses, at about the same weights; every fourth step is enough.

        Args:
            step: the number of the step, from 0.
            training_loss: on the batch of the step, as `opt.step` returns it; reading a tensor waits for its device.
            validation_loss: on held-out samples. With several processes, both must be means over all of them.

        Raises:
            ValueError: a loss that is no single number.
        """
        gap = _number("validation_loss", validation_loss) - _number("training_loss", training_loss)
        if self.onset is not None or step >= self.latest or not math.isfinite(gap):
            return
        self.count += 1
        weight = max(1 / self.count, SMOOTHING)
        apart = gap - self.average
        self.average += weight * apart
        self.variance = (1 - weight) * (self.variance + weight * apart**2)
        if self.count <= STARTING:
            self.start = self.average
            return
        error = math.sqrt(self.variance * (SMOOTHING / (2 - SMOOTHING) + 1 / STARTING))
        if self.average - self.start > self.errors * error:
            self.onset = step + 1

    def state_dict(self) -> dict[str, Any]:
        """What it has seen; save it beside the optimizer's state."""
        return {name: getattr(self, name) for name in NAMES}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError, TypeError: not such a state. Nothing has changed then.
        """
        if missing := [name for name in NAMES if name not in state]:
            raise ValueError(f"`state` must be one of a GapOnset, got one without {', '.join(missing)}")
        onset = state["onset"] if state["onset"] is None else checks.whole("onset", state["onset"], 0)
        count = checks.whole("count", state["count"], 0)
        numbers = {name: checks.number(name, state[name]) for name in NAMES[2:]}
        self.__dict__.update(numbers | {"onset": onset, "count": count})


def _number(name: str, value: float | Tensor) -> float:
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"`{name}` must be one number, got a tensor of shape {tuple(value.shape)}")
    return float(value)
