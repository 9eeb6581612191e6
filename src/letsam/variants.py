"""The registry: the published methods by name, each a perturbation, with any radius and any base optimizer.

A variant is a file in `letsam.perturbations`, which tells all about it, and a class here that names it. `letsam`, the
methods of a trial, `letsam methods` and the contract tests read `VARIANTS`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer

from ._distributed import Group
from .optimizer import Closure, SharpnessAware
from .perturbations import AdaptiveAscent, Facts, Perturbation, SteepestAscent
from .perturbations.aesam import GatedAscent
from .perturbations.esam import StochasticAscent
from .perturbations.fsam import NoiseAscent
from .perturbations.gsam import SurrogateGap
from .perturbations.looksam import PeriodicAscent
from .perturbations.msam import MomentumAscent
from .perturbations.multistep import RepeatedAscent
from .perturbations.samon import NormalisationAscent
from .perturbations.ssam import DynamicAscent, FisherAscent
from .perturbations.subbatch import SubBatchAscent
from .perturbations.vasso import SmoothedAscent
from .perturbations.wsam import WeightedSharpness
from .radius import Radius

__all__ = [
    "AESAM",
    "ASAM",
    "ESAM",
    "FSAM",
    "GSAM",
    "MSAM",
    "SAM",
    "SAMON",
    "SSAMD",
    "SSAMF",
    "WSAM",
    "LookSAM",
    "MultiStepSAM",
    "SubBatchSAM",
    "VaSSO",
]


DEFAULT: Any = ...
"""In the place of a radius: the variant's own default."""


class Variant(SharpnessAware):
    """A `SharpnessAware` with a perturbation of one kind; the options of the perturbation are keywords of its own.

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose step needs no closure.
        rho: a number, a schedule or a `LearnedRadius`; the variant's default where it is left out.
        validation_closure: for a learned radius, where `step` is not given one.
        model: the network, so that its running statistics move once in a step (see `SharpnessAware`).
        max_grad_norm: > 0, clips the total norm of the gradient of the descent; None: no clipping.
        process_group: the processes over which losses are averaged (see `SharpnessAware`).
        m_sharpness: each process, and each of its micro-batches, climbs along its own gradient (see `SharpnessAware`).
        **options: of the perturbation, whose class tells them.

    Raises:
        TypeError: an argument of the wrong type, or an option that the perturbation does not have.
        ValueError: an argument out of range.
    """

    made_of: ClassVar[type[Perturbation]]
    facts: ClassVar[Facts]

    def __init_subclass__(cls, made_of: type[Perturbation] | None = None, **keywords: Any) -> None:
        """A class with `made_of` is a variant of its own; one without is what it inherits from."""
        super().__init_subclass__(**keywords)
        if made_of is None:
            return
        assert made_of.facts is not None, "a variant with a name needs its facts"
        cls.made_of, cls.facts = made_of, made_of.facts
        VARIANTS[cls.__name__.lower()] = cls

    def __init__(
        self,
        base_optimizer: Optimizer,
        rho: float | Radius = DEFAULT,
        *,
        validation_closure: Closure | None = None,
        model: nn.Module | None = None,
        max_grad_norm: float | None = None,
        process_group: Group = "default",
        m_sharpness: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            base_optimizer,
            self.made_of(**options),
            self.facts.rho if rho is DEFAULT else rho,
            validation_closure=validation_closure,
            model=model,
            max_grad_norm=max_grad_norm,
            process_group=process_group,
            m_sharpness=m_sharpness,
        )


VARIANTS: dict[str, type[Variant]] = {}
"""Every variant by its name in `--methods`."""


class SAM(Variant, made_of=SteepestAscent):
    """theta <- base(theta, grad L(theta + rho g / ||g||)).

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose step needs no closure.
        rho: a number > 0 in units of the weights (0: the base optimizer alone), a schedule or a `LearnedRadius`.
        validation_closure: for a learned radius, where `step` is not given one.
        model: the network, so that its running statistics move once in a step (see `SharpnessAware`).
        max_grad_norm: > 0, clips the total norm of the gradient of the descent; None: no clipping.
        process_group: the processes over which losses are averaged (see `SharpnessAware`).
        m_sharpness: each process, and each of its micro-batches, climbs along its own gradient (see `SharpnessAware`).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument out of range.

    Example:
        >>> import torch, letsam
        >>> model = torch.nn.Linear(2, 1)
        >>> SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05).rho
        tensor(0.0500)

    Reference:
        Foret et al., arXiv:2010.01412, algorithm 1.
    """

    def __init__(
        self,
        base_optimizer: Optimizer,
        rho: float | Radius = 0.05,
        *,
        validation_closure: Closure | None = None,
        model: nn.Module | None = None,
        max_grad_norm: float | None = None,
        process_group: Group = "default",
        m_sharpness: bool = False,
    ) -> None:
        SharpnessAware.__init__(
            self,
            base_optimizer,
            SteepestAscent(),
            rho,
            validation_closure=validation_closure,
            model=model,
            max_grad_norm=max_grad_norm,
            process_group=process_group,
            m_sharpness=m_sharpness,
        )


class ASAM(Variant, made_of=AdaptiveAscent):
    """theta <- base(theta, grad L(theta + rho T^2 g / ||T g||)), T = diag(|theta| + eta).

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose step needs no closure.
        rho: a number > 0 relative to the weights (0: the base optimizer alone), a schedule or a `LearnedRadius`.
        scale: which tensors are scaled: "all" (the paper's T; the default), "weights" (the authors' code: not the
            biases; needs parameter names) or "matrices" (neither biases nor normalisation layers). See
            `AdaptiveAscent`.
        eta: >= 0, added to |theta|; 0.01 in the authors' code.
        validation_closure: for a learned radius, where `step` is not given one.
        model: the network, so that its running statistics move once in a step (see `SharpnessAware`).
        max_grad_norm: > 0, clips the total norm of the gradient of the descent; None: no clipping.
        process_group: the processes over which losses are averaged (see `SharpnessAware`).
        m_sharpness: each process, and each of its micro-batches, climbs along its own gradient (see `SharpnessAware`).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument out of range.

    Example:
        >>> import torch, letsam
        >>> model = torch.nn.Linear(2, 1)
        >>> ASAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5).rho
        tensor(0.5000)

    Reference:
        Kwon et al., arXiv:2102.11600, algorithm 1.
    """

    def __init__(
        self,
        base_optimizer: Optimizer,
        rho: float | Radius = 0.5,
        *,
        scale: str = "all",
        eta: float = 0.0,
        validation_closure: Closure | None = None,
        model: nn.Module | None = None,
        max_grad_norm: float | None = None,
        process_group: Group = "default",
        m_sharpness: bool = False,
    ) -> None:
        SharpnessAware.__init__(
            self,
            base_optimizer,
            AdaptiveAscent(scale, eta),
            rho,
            validation_closure=validation_closure,
            model=model,
            max_grad_norm=max_grad_norm,
            process_group=process_group,
            m_sharpness=m_sharpness,
        )


class GSAM(Variant, made_of=SurrogateGap):
    """theta <- base(theta, g_rho - alpha (g_0 orthogonal to g_rho)); `alpha`: see `perturbations.gsam.SurrogateGap`."""


class WSAM(Variant, made_of=WeightedSharpness):
    """theta <- base(theta, g_0) - lr gamma / (1 - gamma) (g_rho - g_0); see `perturbations.wsam.WeightedSharpness`."""


class LookSAM(Variant, made_of=PeriodicAscent):
    """SAM at every k-th step, its flat part in between; see `perturbations.looksam.PeriodicAscent`."""


class FSAM(Variant, made_of=NoiseAscent):
    """climbs along g - sigma times the average gradient; see `perturbations.fsam.NoiseAscent`."""


class VaSSO(Variant, made_of=SmoothedAscent):
    """climbs along an average of the gradients; see `perturbations.vasso.SmoothedAscent`."""


class MSAM(Variant, made_of=MomentumAscent):
    """climbs along the momentum, in one pass; see `perturbations.msam.MomentumAscent`."""


class SSAMF(Variant, made_of=FisherAscent):
    """perturbs the weights with the largest Fisher information; see `perturbations.ssam.FisherAscent`."""


class SSAMD(Variant, made_of=DynamicAscent):
    """perturbs weights that change, at random and by the gradient; see `perturbations.ssam.DynamicAscent`."""


class MultiStepSAM(Variant, made_of=RepeatedAscent):
    """climbs in k parts, each along the gradient found there; see `perturbations.multistep.RepeatedAscent`."""


class AESAM(Variant, made_of=GatedAscent):
    """climbs in the steps whose gradient is long; see `perturbations.aesam.GatedAscent`."""


class SAMON(Variant, made_of=NormalisationAscent):
    """perturbs the normalisation layers alone; see `perturbations.samon.NormalisationAscent`."""


class ESAM(Variant, made_of=StochasticAscent):
    """perturbs a random part of the weights; see `perturbations.esam.StochasticAscent`."""


class SubBatchSAM(Variant, made_of=SubBatchAscent):
    """every sub-batch climbs along its own gradient; see `perturbations.subbatch.SubBatchAscent`."""
