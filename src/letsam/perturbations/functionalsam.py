"""Functional SAM: perturb what the network computes, not how the loss judges it.

Singh, Mobahi, Agarwala, Dauphin, "Avoiding spurious sharpness minimization broadens applicability of SAM", 2025,
arXiv:2502.02407.
"""

from __future__ import annotations

from .base import Facts
from .sam import SAMPerturbation


class FunctionalSAMPerturbation(SAMPerturbation):
    """theta <- base(theta, J(theta + rho eps_hat)^T c), eps_hat = g / ||g||, c = d loss / d outputs at theta.

    SAM's gradient at the perturbed weights changes for two reasons: the Jacobian J of the outputs is another one, and
    the loss at the outputs there has another gradient c. The second lowers sharpness by making the network less
    confident. Functional SAM keeps c of the pass at theta, and so follows the first alone. A term of the loss that does
    not go through the outputs, such as a penalty of the weights, is perturbed as in SAM.

    The outputs are those of the last module with parameters that the closure calls itself: usually the network
    (`logits` of a mapping). They must have the same shapes in all passes of a step.

    Raises:
        ValueError: in a step: a closure that calls no module, or whose outputs differ in shape between the passes.

    Example:
        >>> import torch, letsam
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> torch.nn.init.constant_(model.weight, 1.0)
        Parameter containing:
        tensor([[1.]], requires_grad=True)
        >>> opt = letsam.FunctionalSAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=1.0)
        >>> def closure():
        ...     opt.zero_grad()
        ...     loss = model(torch.ones(1, 1)).square().sum() / 2
        ...     loss.backward()
        ...     return loss
        >>> _ = opt.step(closure)  # c = 1 at theta; SAM would have 2 at the perturbed weight
        >>> round(model.weight.item(), 2)
        0.9

    Reference:
        arXiv:2502.02407, section 3.
    """

    facts = Facts("Functional SAM: perturb the network, not its confidence", "arXiv:2502.02407")
    keeps_cotangents = True
