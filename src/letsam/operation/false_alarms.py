"""Sequential alarms: the probability of any false alarm, over a whole watch however long, is at most a stated rate.

Two procedures, for two kinds of tests.

- `spent_level`: of tests whose p-values depend on each other, as all batches are compared with one reference. The rate
  is spent over the batches: batch k may use up 1 / (k (k + 1)) of it, and these shares add up to 1. By the union bound,
  nothing has to be assumed of how the tests depend on each other.
- `GatheredEvidence`: of tests of each batch against a fixed bound, which are independent. Evidence adds up over
  batches, so that a small change, which no single batch shows, is found after some of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SMALLEST = 1e-300  # p-values below count as this


def share_of(batch: int) -> float:
    """The share of the false alarms that batch number `batch`, from 1, may cause: 1 / (k (k + 1)).

    Example:
        >>> [round(share_of(k), 3) for k in (1, 2, 3)], round(sum(map(share_of, range(1, 1000))), 3)
        ([0.5, 0.167, 0.083], 0.999)
    """
    return 1 / (batch * (batch + 1))


def spent_level(rate: float, batch: int) -> float:
    """The level of the test of a batch: a p-value at most as large is an alarm.

    Args:
        rate: probability of any false alarm of this test over the whole watch, between 0 and 1.
        batch: its number, from 1.
    """
    return rate * share_of(batch)


def e_value(p: float) -> float:
    """Evidence in a p-value, as a factor whose mean is at most 1 where the hypothesis holds.

    The mean over k in (0, 1) of k p^(k - 1), which is (1 - p + p ln p) / (p ln^2 p).

    Args:
        p: between 0 and 1.

    Example:
        >>> round(e_value(1.0), 3), round(e_value(0.5), 3), round(e_value(1e-4), 1)
        (0.5, 0.639, 117.8)

    Reference:
        Vovk and Wang, "E-values: Calibration, combination and applications", Annals of Statistics 2021.
    """
    p = min(max(p, SMALLEST), 1.0)
    log = math.log(p)
    if log > -1e-4:  # the limit at 1; the formula would cancel
        return 0.5
    return (1 - p + p * log) / (p * log * log)


@dataclass(frozen=True)
class GatheredEvidence:
    """Evidence against a hypothesis, gathered over independent batches: a test martingale.

    A change may begin at any batch s. The evidence of a change that begins there is the product of the e-values from s
    on; all of them are averaged with the weights 1 / (s (s + 1)). Where the hypothesis holds, this average is a
    non-negative supermartingale that begins at 1, so that it ever exceeds 1 / rate with a probability of at most
    `rate` (Ville's inequality).

    Args:
        log_sum: the logarithm of the part of the average whose changes have begun.
        batches: how many there have been.

    Example:
        >>> quiet, loud = GatheredEvidence(), GatheredEvidence()
        >>> for _ in range(20):
        ...     quiet, loud = quiet.after(0.7), loud.after(0.01)
        >>> quiet.value < 0.2, loud.value > 1e6
        (True, True)

    Reference:
        Shafer et al., "Test martingales, Bayes factors and p-values", Statistical Science 2011; the average over
        beginnings follows Shin, Ramdas and Rinaldo, "E-detectors", New England Journal of Statistics in Data Science
        2024.
    """

    log_sum: float = -math.inf
    batches: int = 0

    def after(self, p: float) -> GatheredEvidence:
        """The evidence after one more batch.

        Args:
            p: its p-value, valid whatever came before.
        """
        batch = self.batches + 1
        begun = max(self.log_sum, math.log(share_of(batch)))
        begun += math.log(math.exp(self.log_sum - begun) + math.exp(math.log(share_of(batch)) - begun))
        return GatheredEvidence(begun + math.log(e_value(p)), batch)

    @property
    def log_value(self) -> float:
        """The logarithm of the evidence; 0 at the beginning."""
        waiting = -math.log(self.batches + 1)  # of changes that have not begun
        larger = max(self.log_sum, waiting)
        return larger + math.log(math.exp(self.log_sum - larger) + math.exp(waiting - larger))

    @property
    def value(self) -> float:
        """The evidence, 1 at the beginning; an alarm from 1 / rate on."""
        return math.exp(min(self.log_value, 700.0))
