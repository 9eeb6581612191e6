"""What the upper level makes small: the base class of objectives."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from .. import checks
from .base import Evidence

TRAINING_BATCHES = ("next", "same")


class Objective:
    """A function of the losses at the new weights theta'(rho), by which a learned radius is judged.

    An objective of your own overrides `derivative`.

    Args:
        training_batch: the batch on which the training loss at theta' is measured. "next": the batch of the next step,
            whose first pass runs at theta' anyway (no further pass). "same": the batch of the step itself (one further
            training pass, the paper's reading).

    Raises:
        ValueError: `training_batch` is neither.
    """

    uses_training_slope: ClassVar[bool] = False
    """Whether `derivative` needs the slope of the training loss."""

    def __init__(self, training_batch: str = "next") -> None:
        self.training_batch = checks.choice("training_batch", training_batch, TRAINING_BATCHES)

    def derivative(self, evidence: Evidence, validation_slope: Tensor, training_slope: Tensor | None) -> Tensor:
        """The derivative of the objective, given those of the losses.

        Called twice for each update: with the slopes along Z, which gives d upper / d rho, and with these slopes in the
        units of the rule, which gives what moves the radius.

        Args:
            evidence: has `validation_loss`, `training_loss` and `gap`.
            validation_slope: derivative of the validation loss (0-dim, or one for each radius).
            training_slope: derivative of the training loss; None unless `uses_training_slope`.

        Returns:
            The derivative, in the shape of the slopes.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        options: dict[str, Any] = {"training_batch": self.training_batch}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in options.items())})"
