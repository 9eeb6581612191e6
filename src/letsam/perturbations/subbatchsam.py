"""m-SAM: each sub-batch of a batch is perturbed along its own gradient.

Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021,
arXiv:2010.01412; Andriushchenko, Flammarion, "Towards Understanding Sharpness-Aware Minimization", ICML 2022,
arXiv:2206.06232.
"""

from __future__ import annotations

from .base import Facts
from .sam import SAMPerturbation


class SubBatchSAMPerturbation(SAMPerturbation):
    """theta <- base(theta, g_rho), g_rho = sum_i w_i grad L_i(theta + rho g_i / ||g_i||), with g_i = grad L_i(theta).

    i runs over the sub-batches, with loss L_i and weight w_i. They are the micro-batches of `letsam.accumulated`, and
    their size is the m of m-sharpness; a closure without parts is one sub-batch, which gives SAM. With DDP, each
    process has its own sub-batches.

    A step makes two passes over each sub-batch, as many samples as SAM, and needs a further copy of the weights in
    which g_rho is summed. All sub-batches climb with the same radius, so a radius that needs the loss or gradient of
    the whole batch first, such as a learned one in a step that measures or updates it, takes one more pass over all of
    them.

    `m_sharpness=True` does the same with any other perturbation that keeps no state between steps.

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
        learned="yes; one more pass in a step that updates it, and in the step before",
    )
    sub_batches = 4
