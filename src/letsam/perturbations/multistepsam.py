"""Multi-step SAM: reach the perturbed weights in k ascent steps, each along the gradient at the current point.

Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021,
arXiv:2010.01412, appendix C.6 on several iterations of the inner maximization; Kim, Park, Choi, Lee, Lee, "Exploring
the Effect of Multi-step Ascent in Sharpness-Aware Minimization", 2023, arXiv:2302.10181.
"""

from __future__ import annotations

from .. import checks
from .base import Facts
from .sam import SAMPerturbation


class MultiStepSAMPerturbation(SAMPerturbation):
    """theta_(j+1) = theta_j + (rho / k) g(theta_j) / ||g(theta_j)||, j = 0 to k - 1; theta <- base(theta, g(theta_k)).

    theta_0 is theta, and g is the gradient of the loss. Each ascent step has length rho / k, so ||theta_k - theta|| <=
    rho without a projection; SAM's authors project the iterates on the ball instead. A step costs k + 1 passes.

    The hypergradient of a learned radius holds eps_hat = (theta_k - theta) / rho fixed: it differentiates with respect
    to a common scale of all k ascent steps. `ascent_step()` cannot run the passes in between: use `step`.

    Args:
        k: number of ascent steps, >= 1; 1 is SAM.

    Raises:
        ValueError: `k` is out of range.
        TypeError: an argument of the wrong type.

    Example:
        >>> MultiStepSAMPerturbation(k=3).ascents
        3

    Reference:
        arXiv:2010.01412, appendix C.6; arXiv:2302.10181.
    """

    facts = Facts("multi-step SAM: climb in k steps", "arXiv:2010.01412", "k + 1", 2)

    def __init__(self, k: int = 2) -> None:
        self.ascents = checks.whole("k", k, 1)
