"""What is measured where labels are known: metric, loss, generalization gap and sharpness, against held-out data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from letsam.data.loss_by_kind import KindLoss
from letsam.operation.estimates import REPLICATES, Bootstrapped, bootstrapped
from letsam.operation.expected_accuracy import right_answers
from letsam.tasks.metrics import METRICS, find_metric
from letsam.tasks.weighted import WeightedTarget

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEWEST = 10  # samples with labels, for a test
FEWEST_GROUPS = 2  # of the sharpness
OF_METRICS = 200  # replicates of metrics that are no mean
MARGIN = 2.0  # standard deviations over seeds that a metric may be worse by


@dataclass(frozen=True)
class Labelled:
    """Samples with labels, and what the model gives for them.

    Args:
        outputs: shape ``(samples, outputs)``.
        targets: classes, or rows; a class at or above the number of outputs is new.
        weights: of the samples, or None.
    """

    outputs: Tensor
    targets: Tensor
    weights: Tensor | None = None

    def at(self, places: Tensor) -> Labelled:
        """Some of the samples."""
        weights = None if self.weights is None else self.weights[places]
        return Labelled(self.outputs[places], self.targets[places], weights)

    def known(self, kind: str) -> Labelled:
        """The samples without those of new classes."""
        if kind != "classification":
            return self
        return self.at((self.targets < self.outputs.shape[1]).nonzero().flatten())

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.targets)


@dataclass(frozen=True)
class Bound:
    """How bad a number may be where nothing has changed.

    Args:
        expected: the number for held-out samples.
        limit: the worst that their population may have, with the trial's own spread added.
        scale: standard deviation of one sample, as held-out samples have it.
        sign: 1 where larger numbers are worse, else -1.
    """

    expected: float
    limit: float
    scale: float
    sign: int

    @classmethod
    def of(cls, held_out: Bootstrapped, miss: float, spread: float, sign: int) -> Bound:
        """The bound of a number.

        Args:
            held_out: the number for held-out samples.
            miss: probability that the limit is not as bad as the population's value, below 0.5.
            spread: standard deviation over the seeds of the trial; 0 where it is not known.
            sign: 1 where larger numbers are worse, else -1.

        The t quantile has Johnson's correction for skewness, without which the limit of a high accuracy would be too
        high, as a sample with few errors varies little. Where nothing varies, as with an accuracy of 1, the limit is
        that of a share: a rate of errors of miss^(1/n) would show none in n samples with the probability `miss`.

        Reference:
            Johnson, "Modified t tests and confidence intervals for asymmetrical populations", JASA 1978.
        """
        from scipy.stats import t

        error, count = held_out.error, held_out.count
        if not error > 0:
            reach = 1 - miss ** (1 / count)
            return cls(held_out.value, held_out.value + sign * (reach + MARGIN * spread), math.sqrt(reach), sign)
        quantile = float(t.isf(miss, max(count - 1, 1)))
        quantile += max(0.0, sign * held_out.skewness * (1 + 2 * quantile**2) / 6)
        limit = held_out.value + sign * (quantile * error + MARGIN * spread)
        return cls(held_out.value, limit, error * math.sqrt(count), sign)

    def p_value(self, found: Bootstrapped) -> float:
        """Of the hypothesis that the batch comes from a population that is not worse than the limit.

        The standard error is the larger one of that of the batch and that which held-out samples lead to expect, so
        that a small batch without any variation is no proof.
        """
        from scipy.stats import t

        error = max(found.error if math.isfinite(found.error) else 0.0, self.scale / math.sqrt(found.count))
        beyond = self.sign * (found.value - self.limit)
        if not error > 0:
            return 0.0 if beyond > 0 else 1.0
        return float(t.sf(beyond / error, max(found.count - 1, 1)))


def bootstrapped_metric(name: str, kind: str, samples: Labelled, replicates: int = REPLICATES) -> Bootstrapped | None:
    """A metric of a set of samples, bootstrapped; None where it is not defined.

    New classes count as wrong answers in the accuracy; the other metrics leave their samples out.

    Args:
        name: of the metric, see `letsam.tasks.metrics.METRICS`.
        kind: "classification", "multilabel" or "regression".
        samples: at least one.
        replicates: of means; other metrics have 200, as they take their time.
    """
    function = find_metric(name, kind).function
    used = samples if name == "accuracy" else samples.known(kind)
    if not len(used):
        return None
    if name == "accuracy":  # a mean, which is the same by scikit-learn, and slower
        return _bootstrapped_mean(right_answers(used.outputs, used.targets, kind), used.weights, replicates)

    def at(places: NDArray[np.int64]) -> float:
        some = used.at(torch.from_numpy(places))
        return float(function(some.outputs, _with_weights(some)))

    found = bootstrapped(at, len(used), replicates=OF_METRICS)
    return found if math.isfinite(found.value) else None


def bootstrapped_loss(
    loss: KindLoss, kind: str, samples: Labelled, replicates: int = REPLICATES
) -> Bootstrapped | None:
    """The mean loss of the samples of known classes, bootstrapped; None where it is not finite.

    Args:
        loss: of the training.
        kind: of the targets.
        samples: the samples.
        replicates: of the bootstrap.
    """
    used = samples.known(kind)
    if not len(used):
        return None
    found = _bootstrapped_mean(loss.each(used.outputs.double(), _targets(used, kind)).numpy(), used.weights, replicates)
    return found if math.isfinite(found.value) else None


def _bootstrapped_mean(values: NDArray[np.float64], weights: Tensor | None, replicates: int) -> Bootstrapped:
    heavy = None if weights is None else weights.double().numpy()

    def mean(places: NDArray[np.int64]) -> float:
        if heavy is None:
            return float(values[places].mean())
        total = float(heavy[places].sum())
        return float((heavy[places] * values[places]).sum()) / total if total > 0 else math.nan

    return bootstrapped(mean, len(values), replicates=replicates)


def bootstrapped_groups(values: tuple[float, ...]) -> Bootstrapped | None:
    """The mean over groups, bootstrapped; None with fewer than two groups."""
    if len(values) < FEWEST_GROUPS:
        return None
    import numpy as np

    numbers = np.asarray(values)
    found = bootstrapped(lambda places: float(numbers[places].mean()), len(values))
    # The replicates of few groups vary by (n - 1) / n too little.
    scale = math.sqrt(len(values) / (len(values) - 1))
    return Bootstrapped(found.value, found.value + scale * (found.replicates - found.value), found.count)


def known_metric(name: str, kind: str) -> bool:
    """Whether a metric can be computed from outputs and targets."""
    return any(metric.name == name for metric in METRICS[kind])


def _with_weights(samples: Labelled) -> Any:
    return samples.targets if samples.weights is None else WeightedTarget(samples.targets, samples.weights)


def _targets(samples: Labelled, kind: str) -> Tensor:
    return samples.targets if kind == "classification" else samples.targets.double()
