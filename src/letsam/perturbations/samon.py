"""SAM-ON: perturb the normalisation layers alone.

Müller, Vlaar, Rolnick, Hein, "Normalization Layers Are All That Sharpness-Aware Minimization Needs", NeurIPS 2023,
arXiv:2306.04226.
"""

from __future__ import annotations

from .base import Facts
from .sam import SAMPerturbation


class SAMONPerturbation(SAMPerturbation):
    """eps_hat = g_N / ||g_N||, with g_N the gradient of the normalisation layers' weights and biases; 0 elsewhere.

    About a tenth of a percent of the weights, so rho is best larger than that of SAM. All weights descend. Which layers
    normalise is found in the model (see `letsam.param_groups`, which does the same for other perturbations): `model=`
    must be given. The authors' code goes by names instead: those with "norm" or "bn" in them.

    Raises:
        ValueError: no `model`, or one without normalisation layers.

    Example:
        >>> import torch, letsam
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
        >>> opt = letsam.SAMON(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5, model=model)

    Reference:
        Müller et al., arXiv:2306.04226.
    """

    facts = Facts("SAM-ON: perturb the normalisation layers alone", "arXiv:2306.04226", rho=0.5)
    perturbs = "norm"
