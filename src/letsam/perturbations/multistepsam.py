"""Several ascents: climb to the perturbed weights in parts, each along the gradient found there.

Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021,
arXiv:2010.01412, appendix C.6 on several iterations of the inner maximisation; Kim, Park, Choi, Lee, Lee, "Exploring
the Effect of Multi-step Ascent in Sharpness-Aware Minimization", 2023, arXiv:2302.10181.
"""

from __future__ import annotations

from .. import checks
from .base import Facts
from .sam import SAMPerturbation


class MultiStepSAMPerturbation(SAMPerturbation):
    """theta_(j+1) = theta_j + (rho / k) g(theta_j) / ||g(theta_j)||, j = 0 to k - 1; then the gradient at theta_k.

    Each part is rho / k long, so ||eps|| <= rho without a projection, and = rho on a straight way; SAM's authors
    project their iterates on the ball instead. k + 1 passes a step.

    eps_hat = (theta_k - theta) / rho is what a learned radius holds fixed: it asks what becomes of the gradient if the
    whole way is stretched. `ascent_step()` does not know the passes in between: use `step`.

    Args:
        k: >= 1; 1 is SAM.

    Raises:
        ValueError: `k` is out of range.
        TypeError: `k` is no whole number.

    Example:
        >>> MultiStepSAMPerturbation(k=3).ascents
        3

    Reference:
        arXiv:2010.01412, appendix C.6; arXiv:2302.10181.
    """

    facts = Facts("multi-step SAM: climb in k parts", "arXiv:2010.01412", "k + 1", 2)

    def __init__(self, k: int = 2) -> None:
        self.ascents = checks.whole("k", k, 1)
