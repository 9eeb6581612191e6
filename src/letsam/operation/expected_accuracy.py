"""The accuracy that is to be expected of unlabelled samples, from how sure the model is of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from letsam.operation.estimates import REPLICATES, Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class ConfidenceScale:
    """How confident the model is, calibrated on held-out samples.

    Args:
        kind: "classification" or "multilabel".
        temperature: that the logits are divided by.
        confidences: of the held-out samples.
        right: of each of them, whether the answer is right; of labels, the share of right ones.
    """

    kind: str
    temperature: float
    confidences: NDArray[np.float64]
    right: NDArray[np.float64]

    @classmethod
    def fitted(cls, outputs: Tensor, targets: Tensor, kind: str) -> ConfidenceScale:
        """Find the temperature with the lowest log loss on held-out samples.

        Args:
            outputs: logits, shape ``(samples, outputs)``.
            targets: classes, or labels of 0 and 1.
            kind: "classification" or "multilabel".

        Example:
            >>> stream = torch.Generator().manual_seed(0)
            >>> logits = 2 * torch.randn(2000, 3, generator=stream)
            >>> targets = torch.multinomial(logits.softmax(1), 1, generator=stream).flatten()
            >>> round(ConfidenceScale.fitted(3 * logits, targets, "classification").temperature, 1)
            3.0

        Reference:
            Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
        """
        from scipy.optimize import minimize_scalar

        logits = outputs.double()

        def log_loss(exponent: float) -> float:
            scaled = logits / math.exp(exponent)
            if kind == "classification":
                return float(torch.nn.functional.cross_entropy(scaled, targets))
            return float(torch.nn.functional.binary_cross_entropy_with_logits(scaled, targets.double()))

        bounds = (math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]))
        found: Any = minimize_scalar(log_loss, bounds=bounds, method="bounded")
        temperature = math.exp(float(found.x))
        return cls(kind, temperature, _confidences(logits, temperature, kind), right_answers(outputs, targets, kind))

    def of(self, outputs: Tensor) -> NDArray[np.float64]:
        """The confidence in each sample: the calibrated probability that the answer is right."""
        return _confidences(outputs.double(), self.temperature, self.kind)

    def expected(self, outputs: Tensor) -> Estimate:
        """The expected accuracy of samples without targets, with its interval.

        It is the mean confidence, plus the difference between accuracy and mean confidence on the held-out samples
        (Guillory et al.). Both samples are drawn again for the interval, which is for the case that the confidence
        stays as right as it was.

        Args:
            outputs: logits, shape ``(samples, outputs)``, at least one row.

        Reference:
            Guillory et al., "Predicting with Confidence on Unseen Distributions", ICCV 2021.
        """
        import numpy as np

        stream = np.random.default_rng(0)
        confidences, offsets = self.of(outputs), self.right - self.confidences

        def drawn(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return values[stream.integers(0, len(values), (REPLICATES, len(values)))].mean(axis=1)

        low, high = np.quantile(drawn(confidences) + drawn(offsets), [0.025, 0.975])
        value = float(confidences.mean() + offsets.mean())
        return Estimate(*(min(max(float(number), 0.0), 1.0) for number in (value, low, high)))


def right_answers(outputs: Tensor, targets: Tensor, kind: str) -> NDArray[np.float64]:
    """Whether each answer is right; of several labels, the share of right ones."""
    if kind == "classification":
        return (outputs.argmax(dim=1) == targets).double().numpy()
    return ((outputs > 0) == (targets > 0.5)).double().mean(dim=1).numpy()


def _confidences(logits: Tensor, temperature: float, kind: str) -> NDArray[np.float64]:
    if kind == "classification":
        return (logits / temperature).softmax(dim=1).amax(dim=1).numpy()
    probabilities = (logits / temperature).sigmoid()
    return probabilities.maximum(1 - probabilities).mean(dim=1).numpy()
