"""m-SAM: every sub-batch climbs along its own gradient.

Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021,
arXiv:2010.01412; Andriushchenko, Flammarion, "Towards Understanding Sharpness-Aware Minimization", ICML 2022,
arXiv:2206.06232.
"""

from __future__ import annotations

from .base import Facts
from .sam import SAMPerturbation


class SubBatchSAMPerturbation(SAMPerturbation):
    """g_rho = sum over sub-batches of share_i grad L_i(theta + rho g_i / ||g_i||), g_i = grad L_i(theta).

    The sub-batches are the micro-batches of `letsam.accumulated`, and the m of m-sharpness is their size; a closure
    without parts is one sub-batch, and this is SAM. With DDP each process has sub-batches of its own. A step makes two
    passes over each sub-batch, as many samples as SAM, and needs one copy of the weights to add up g_rho. A radius that
    asks for the loss or the gradient of the whole batch first, such as a learned one at a step where it is updated or
    measured, takes one further pass over all of them, as every sub-batch climbs with the same radius.

    Every other perturbation that remembers nothing from step to step can do the same: `m_sharpness=True`.

    Example:
        >>> SubBatchSAMPerturbation.sub_batches  # of a batch, in a trial
        4

    Reference:
        arXiv:2010.01412, section 4.1 (m-sharpness); arXiv:2206.06232.
    """

    facts = Facts(
        "m-SAM: every sub-batch climbs along its own gradient",
        "arXiv:2010.01412",
        "2",
        2,
        learned="yes; one more pass at each update, and at the step before it",
    )
    sub_batches = 4
