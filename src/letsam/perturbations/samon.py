"""SAM-ON: perturb only the normalization layers.

Müller, Vlaar, Rolnick, Hein, "Normalization Layers Are All That Sharpness-Aware Minimization Needs", NeurIPS 2023,
arXiv:2306.04226.
"""

from __future__ import annotations

from .base import Facts
from .sam import SAMPerturbation


class SAMONPerturbation(SAMPerturbation):
    """eps_hat = g_N / ||g_N|| on the weights and biases of normalization layers, with gradient g_N; 0 elsewhere.

    All weights descend with the gradient at theta + rho eps_hat. Normalization layers hold about 0.1% of the weights,
    so the best rho is larger than that of SAM. They are found by their module type (see `letsam.param_groups`, which
    does the same for other perturbations), so `model=` is required. The authors' code selects parameters by name
    instead: those that contain "norm" or "bn".

    Raises:
        ValueError: no `model`, or one without normalization layers.

    Example:
        >>> import torch, letsam
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
        >>> opt = letsam.SAMON(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5, model=model)

    Reference:
        Müller et al., arXiv:2306.04226.
    """

    facts = Facts("SAM-ON: perturb only the normalization layers", "arXiv:2306.04226", rho=0.5)
    perturbs = "norm"
