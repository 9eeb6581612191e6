"""The registry: the published methods by name, each a perturbation, with any radius and any base optimizer.

A variant is a file in `letsam.perturbations`, which tells all about it, and a class here that names it. `letsam`, the
methods of a trial, `letsam methods` and the contract tests read `VARIANTS`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer

from .optimizer import Closure, SharpnessAware
from .perturbations import ASAMPerturbation, Facts, Perturbation, SAMPerturbation
from .perturbations.aesam import AESAMPerturbation
from .perturbations.esam import ESAMPerturbation
from .perturbations.fsam import FSAMPerturbation
from .perturbations.gsam import GSAMPerturbation
from .perturbations.looksam import LookSAMPerturbation
from .perturbations.msam import MSAMPerturbation
from .perturbations.multistepsam import MultiStepSAMPerturbation
from .perturbations.samon import SAMONPerturbation
from .perturbations.ssamd import SSAMDPerturbation
from .perturbations.ssamf import SSAMFPerturbation
from .perturbations.subbatchsam import SubBatchSAMPerturbation
from .perturbations.vasso import VaSSOPerturbation
from .perturbations.wsam import WSAMPerturbation
from .radius import Radius
from .step.ranks import Group

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


class SAM(Variant, made_of=SAMPerturbation):
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
            SAMPerturbation(),
            rho,
            validation_closure=validation_closure,
            model=model,
            max_grad_norm=max_grad_norm,
            process_group=process_group,
            m_sharpness=m_sharpness,
        )


class ASAM(Variant, made_of=ASAMPerturbation):
    """theta <- base(theta, grad L(theta + rho T^2 g / ||T g||)), T = diag(|theta| + eta).

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose step needs no closure.
        rho: a number > 0 relative to the weights (0: the base optimizer alone), a schedule or a `LearnedRadius`.
        scale: which tensors are scaled: "all" (the paper's T; the default), "weights" (the authors' code: not the
            biases; needs parameter names) or "matrices" (neither biases nor normalisation layers). See
            `ASAMPerturbation`.
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
            ASAMPerturbation(scale, eta),
            rho,
            validation_closure=validation_closure,
            model=model,
            max_grad_norm=max_grad_norm,
            process_group=process_group,
            m_sharpness=m_sharpness,
        )


class GSAM(Variant, made_of=GSAMPerturbation):
    """theta <- base(theta, g_rho - alpha (g_0 orthogonal to g_rho)); `alpha`: see `GSAMPerturbation`."""


class WSAM(Variant, made_of=WSAMPerturbation):
    """theta <- base(theta, g_0) - lr gamma / (1 - gamma) (g_rho - g_0); see `WSAMPerturbation`."""


class LookSAM(Variant, made_of=LookSAMPerturbation):
    """SAM at every k-th step, its flat part in between; see `LookSAMPerturbation`."""


class FSAM(Variant, made_of=FSAMPerturbation):
    """climbs along g - sigma times the average gradient; see `FSAMPerturbation`."""


class VaSSO(Variant, made_of=VaSSOPerturbation):
    """climbs along an average of the gradients; see `VaSSOPerturbation`."""


class MSAM(Variant, made_of=MSAMPerturbation):
    """climbs along the momentum, in one pass; see `MSAMPerturbation`."""


class SSAMF(Variant, made_of=SSAMFPerturbation):
    """perturbs the weights with the largest Fisher information; see `SSAMFPerturbation`."""


class SSAMD(Variant, made_of=SSAMDPerturbation):
    """perturbs weights that change, at random and by the gradient; see `SSAMDPerturbation`."""


class MultiStepSAM(Variant, made_of=MultiStepSAMPerturbation):
    """climbs in k parts, each along the gradient found there; see `MultiStepSAMPerturbation`."""


class AESAM(Variant, made_of=AESAMPerturbation):
    """climbs in the steps whose gradient is long; see `AESAMPerturbation`."""


class SAMON(Variant, made_of=SAMONPerturbation):
    """perturbs the normalisation layers alone; see `SAMONPerturbation`."""


class ESAM(Variant, made_of=ESAMPerturbation):
    """perturbs a random part of the weights; see `ESAMPerturbation`."""


class SubBatchSAM(Variant, made_of=SubBatchSAMPerturbation):
    """every sub-batch climbs along its own gradient; see `SubBatchSAMPerturbation`."""
