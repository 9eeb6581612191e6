"""A guard on the evidence of a learned radius: do the validation data fit the training data at all?"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import checks
from .excess_noise import ExcessNoise

NAMES = ("updates", "training_start", "validation_start", "training_loss", "validation_loss", "variance", "ratio")
STARTING = 10  # updates whose mean losses are the start
SMOOTHING = 0.1  # weight of the newest loss in the moving average, once there are more of them
NOISIER = 0.5  # below this ratio, the validation data are noisier: worth a warning, but still evidence
LAST = 2000  # the ratio is taken in a step before this one, or not at all

FAULTS = {
    "unrelated": "does not fall while the training loss does: wrong labels, or data of another task",
    "noisier": "falls far more slowly than the training loss: more wrong labels than in training, or harder samples",
    "untold": "has not been seen to fall with the training loss so far, so that it may be that of other data",
    "cleaner": "falls far faster than the training loss: fewer wrong labels than in training, or easier samples",
}


class ValidationGuard:
    """trusted = low <= r <= high, r = fall of the validation loss / fall of the training loss, early in the run.

    Before a network memorizes its training data, both losses fall alike if the validation data are like the training
    data: r is near 1. With clean validation labels beside noisy training labels r is larger, and the loss of every step
    then asks for a smaller radius, whatever it does to generalization. With more wrong labels than in training, r is
    smaller; with labels or inputs of something else, it is near 0 or below. Where r is out of its range the slopes
    count as 0, so that the radius goes to its prior and stays there.

    r is taken once, at the first update at which the training loss has fallen by `signal` standard deviations of the
    difference between validation and training loss of one step, so that the standard error of r is about a tenth.
    Losses are moving averages. If the loss does not fall so far in the first 2,000 steps, as in fine-tuning, there is
    no r, and the slopes are trusted. A constant that is added to the loss, or a factor, changes nothing. What cannot be
    told from these losses: validation samples that are trained on as well (use `letsam.validation.audit`), and too few.
    For data that may be unlike the training data, such as those with other shares of the classes, `patience` makes the
    slopes count as 0 while there is no r.

    Args:
        low: below it, the validation data count as unrelated, >= 0; 0 tolerates all but a loss that rises. Data that
            are only noisier are still learned from, but `fault` says so.
        high: above it, they count as cleaner, > 1. An objective that removes the confidence (`CalibratedLoss`) is made
            for such data, and has no such limit.
        signal: > 0; with more, r is taken later and is more certain, but the network may have begun to memorize.
        patience: steps, >= 0, after which slopes are trusted only once r has been taken; None: they are trusted before.

    Raises:
        ValueError: an argument out of range.
        TypeError: `patience` is not a whole number.

    Example:
        >>> guard = ValidationGuard()
        >>> for step in range(60):
        ...     training = torch.tensor(2.3 - 0.02 * step)
        ...     trusted = guard.observe(step, training, torch.tensor(2.3))  # the validation loss does not fall
        ...     guard.commit(torch.tensor(True))
        >>> bool(trusted), guard.fault
        (False, 'unrelated')

    Reference:
        Measured in docs/how-to/radii.md; it is not in arXiv:2408.08222.
    """

    def __init__(self, low: float = 0.1, high: float = 1.6, signal: float = 3.0, patience: int | None = None) -> None:
        self.low, self.signal = checks.not_negative("low", low), checks.positive("signal", signal)
        self.high = checks.number("high", high)
        if not self.high > max(1.0, self.low):
            raise ValueError(f"`high` must be > 1 and > `low`, {low}, got {high}")
        self.patience = None if patience is None else checks.whole("patience", patience, 0)
        self.calibrated = self._matches = self._waited = False
        self.label_noise = ExcessNoise()
        self.start(torch.ones((), dtype=torch.float64))

    def start(self, rho: Tensor) -> None:
        """Start anew: for one run, or for as many as rho has values."""
        zero = torch.zeros(rho.shape, dtype=rho.dtype, device=rho.device)
        self._values = torch.stack([*[zero] * 6, torch.full_like(zero, math.nan)])  # see NAMES; NaN: not taken yet
        self._proposed: Tensor | None = None
        self._trusted: Tensor | None = None
        self._finite = torch.ones((), dtype=torch.bool, device=rho.device)
        self.label_noise.start(rho)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the state to the device and dtype of the weights."""
        self._values, self._trusted = self._values.to(device=device, dtype=dtype), None
        self._finite = self._finite.to(device)
        self.label_noise.to(device, dtype)

    def observe(
        self,
        step: int,
        training_loss: Tensor,
        validation_loss: Tensor,
        gain: Tensor | None = None,
        usable: Tensor | None = None,
        calibrated: bool = False,
    ) -> Tensor:
        """See the losses of an update, and say whether its slope is to be trusted.

        Args:
            step: of the optimizer, from 0.
            training_loss: at the weights of this update (0-dim, or one value per run).
            validation_loss: at the same weights.
            gain: what the validation loss would gain with random labels; None: not known.
            usable: whether the losses are finite (0-dim bool); None: they are.
            calibrated: whether the objective has removed what is due to confidence.

        Returns:
            0-dim bool, or one value per run.
        """
        self.calibrated, self._matches = calibrated, gain is not None
        waited = self.patience is not None and step >= self.patience
        if waited is not self._waited:
            self._waited, self._trusted = waited, None
        if usable is None:
            usable = self._finite
        self.label_noise.observe(step, training_loss, validation_loss, gain, usable)
        if step >= LAST:
            if self._trusted is None:
                self._trusted = self._tell(self.ratio)
            return self._trusted
        self._trusted = None
        updates, variance, ratio = self._values[0] + 1, self._values[5], self.ratio
        losses = torch.stack([training_loss, validation_loss]).to(self._values)
        weight = updates.reciprocal().clamp(min=SMOOTHING)
        moves = losses - self._values[3:5]
        averages = self._values[3:5].addcmul(weight, moves)
        starts = torch.where(updates <= STARTING, averages, self._values[1:3])
        apart = moves[1] - moves[0]  # validation minus training loss, from its average before this update
        sums = variance.addcmul(weight * apart, apart)
        variance = sums.addcmul(weight, sums, value=-1)
        training, validation = (starts - averages).unbind()  # the falls: 0 in the first updates
        due = ratio.isnan() & (training > self.signal * variance.sqrt())
        ratio = torch.where(due, validation / training, ratio)
        seen = torch.stack([updates, *starts.unbind(), *averages.unbind(), variance, ratio])
        self._proposed = torch.where(usable, seen, self._values)
        return self._tell(ratio)

    def _tell(self, ratio: Tensor) -> Tensor:
        wrong = ~(ratio >= self.low) if self._waited else ratio < self.low  # they differ for NaN
        if not self.calibrated:
            cleaner = ratio > self.high
            wrong = wrong | (cleaner & (self.label_noise.known == 0) if self._matches else cleaner)
        return ~wrong

    @property
    def ratio(self) -> Tensor:
        """r, NaN if it has not been taken (0-dim, or one value per run)."""
        return self._values[6]

    @property
    def fault(self) -> str | None:
        """What is wrong, one of `FAULTS`; None: nothing that is known. Waits for the device."""
        for r in map(float, self.ratio.reshape(-1).unbind()):
            if math.isnan(r):
                if self._waited:
                    return "untold"
                continue
            if r < self.low:
                return "unrelated"
            if r > self.high and not self.calibrated and not bool(self.label_noise.known.any()):
                return "cleaner"
            if r < NOISIER:
                return "noisier"
        return None

    def commit(self, finite: Tensor) -> None:
        """Keep what this step has seen if `finite` (0-dim bool)."""
        if self._proposed is not None:
            self._values = torch.where(finite, self._proposed, self._values)
        self._proposed = None
        self.label_noise.commit(finite)

    def discard(self) -> None:
        """Drop what this step has seen."""
        self._proposed = None
        self.label_noise.discard()

    def state_dict(self) -> dict[str, Tensor]:
        """What it has seen; tensors are copies."""
        own = {f"guard_{name}": value.clone() for name, value in zip(NAMES, self._values.unbind(), strict=True)}
        flags = {"guard_calibrated": self.calibrated, "guard_waited": self._waited}
        return own | {name: torch.tensor(flag) for name, flag in flags.items()} | self.label_noise.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; a state without it, of an older letsam, starts anew."""
        if "guard_ratio" not in state:
            self.start(torch.ones_like(self._values[0]))
            return
        *known, ratio = (state[f"guard_{name}"] for name in NAMES)
        shape = self._values.shape[1:]
        found = [checks.saved(f"guard_{name}", value, shape) for name, value in zip(NAMES, known, strict=False)]
        found.append(checks.saved("guard_ratio", ratio, shape, finite=False))
        self.label_noise.load_state_dict(state)
        self._values = torch.stack(found).to(self._values, copy=True)
        self._proposed = self._trusted = None
        self.calibrated, self._waited = (bool(state.get(f"guard_{name}", False)) for name in ("calibrated", "waited"))
