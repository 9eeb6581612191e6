"""The registry of variants: the published methods by name. Each works with any radius and any base optimizer.

A variant is a file in `letsam.perturbations`, which implements and documents it, and a class here, which registers it.
`letsam`, the methods of a trial, `letsam methods` and the contract tests read `VARIANTS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer

from .optimizer import Closure, SharpnessAware
from .perturbations import ASAMPerturbation, Facts, Perturbation, SAMPerturbation
from .perturbations.aesam import AESAMPerturbation
from .perturbations.esam import ESAMPerturbation
from .perturbations.fsam import FSAMPerturbation
from .perturbations.functionalsam import FunctionalSAMPerturbation
from .perturbations.gsam import GSAMPerturbation
from .perturbations.looksam import LookSAMPerturbation
from .perturbations.msam import MSAMPerturbation
from .perturbations.multistepsam import MultiStepSAMPerturbation
from .perturbations.preconditionedsam import PreconditionedSAMPerturbation
from .perturbations.samon import SAMONPerturbation
from .perturbations.ssamd import SSAMDPerturbation
from .perturbations.ssamf import SSAMFPerturbation
from .perturbations.subbatchsam import SubBatchSAMPerturbation
from .perturbations.vasso import VaSSOPerturbation
from .perturbations.wsam import WSAMPerturbation
from .radius import Radius
from .step.activity import Active
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
    "FunctionalSAM",
    "LookSAM",
    "MultiStepSAM",
    "PreconditionedSAM",
    "SubBatchSAM",
    "VaSSO",
]


DEFAULT: Any = ...
"""Stands for the default radius of the variant."""


class Variant(SharpnessAware):
    """A `SharpnessAware` with a perturbation of one kind, whose options are keyword arguments.

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose step needs no closure, or a list of them.
        rho: a number, a schedule or a `LearnedRadius`; the variant's own default if it is not given.
        validation_closure: for a learned radius, if `step` is not given one.
        model: the network, so that its running statistics change once per step (see `SharpnessAware`).
        max_grad_norm: > 0, clips the total norm of the gradient of the descent; None: no clipping.
        process_group: the processes over which losses are averaged (see `SharpnessAware`).
        m_sharpness: each process, and each of its micro-batches, climbs along its own gradient (see `SharpnessAware`).
        active: the steps that may perturb the weights; None: all (see `SharpnessAware`).
        **options: options of the perturbation, which its class documents.

    Raises:
        TypeError: an argument of the wrong type, or an option that the perturbation does not have.
        ValueError: an argument out of range.

    Example:
        >>> import torch, letsam
        >>> model = torch.nn.Linear(2, 1)
        >>> letsam.GSAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1, alpha=0.2).perturbation.alpha
        0.2
    """

    made_of: ClassVar[type[Perturbation]]
    facts: ClassVar[Facts]

    def __init_subclass__(cls, made_of: type[Perturbation] | None = None, **keywords: Any) -> None:
        """Register a class with `made_of` as a variant; a class without it inherits that of its base class."""
        super().__init_subclass__(**keywords)
        if made_of is None:
            return
        assert made_of.facts is not None, "a variant with a name needs its facts"
        cls.made_of, cls.facts = made_of, made_of.facts
        VARIANTS[cls.__name__.lower()] = cls

    def __init__(
        self,
        base_optimizer: Optimizer | Sequence[Optimizer],
        rho: float | Radius = DEFAULT,
        *,
        validation_closure: Closure | None = None,
        model: nn.Module | None = None,
        max_grad_norm: float | None = None,
        process_group: Group = "default",
        m_sharpness: bool = False,
        active: Active | None = None,
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
            active=active,
        )


VARIANTS: dict[str, type[Variant]] = {}
"""All variants, by their names in `--methods`."""


class SAM(Variant, made_of=SAMPerturbation):
    """theta <- base(theta, grad L(theta + rho g / ||g||)).

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose step needs no closure, or a list of them.
        rho: a number > 0 in units of the weights (0: the base optimizer alone), a schedule or a `LearnedRadius`.
        validation_closure: for a learned radius, if `step` is not given one.
        model: the network, so that its running statistics change once per step (see `SharpnessAware`).
        max_grad_norm: > 0, clips the total norm of the gradient of the descent; None: no clipping.
        process_group: the processes over which losses are averaged (see `SharpnessAware`).
        m_sharpness: each process, and each of its micro-batches, climbs along its own gradient (see `SharpnessAware`).
        active: the steps that may perturb the weights; None: all (see `SharpnessAware`).

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
        base_optimizer: Optimizer | Sequence[Optimizer],
        rho: float | Radius = 0.05,
        *,
        validation_closure: Closure | None = None,
        model: nn.Module | None = None,
        max_grad_norm: float | None = None,
        process_group: Group = "default",
        m_sharpness: bool = False,
        active: Active | None = None,
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
            active=active,
        )


class ASAM(Variant, made_of=ASAMPerturbation):
    """theta <- base(theta, grad L(theta + rho T^2 g / ||T g||)), T = diag(|theta| + eta).

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose step needs no closure, or a list of them.
        rho: a number > 0 relative to the weights (0: the base optimizer alone), a schedule or a `LearnedRadius`.
        scale: which tensors are scaled: "all" (the paper's T; the default), "weights" (the authors' code: not the
            biases; needs parameter names) or "matrices" (neither biases nor normalisation layers). See
            `ASAMPerturbation`.
        eta: >= 0, added to |theta|; 0.01 in the authors' code.
        validation_closure: for a learned radius, if `step` is not given one.
        model: the network, so that its running statistics change once per step (see `SharpnessAware`).
        max_grad_norm: > 0, clips the total norm of the gradient of the descent; None: no clipping.
        process_group: the processes over which losses are averaged (see `SharpnessAware`).
        m_sharpness: each process, and each of its micro-batches, climbs along its own gradient (see `SharpnessAware`).
        active: the steps that may perturb the weights; None: all (see `SharpnessAware`).

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
        base_optimizer: Optimizer | Sequence[Optimizer],
        rho: float | Radius = 0.5,
        *,
        scale: str = "all",
        eta: float = 0.0,
        validation_closure: Closure | None = None,
        model: nn.Module | None = None,
        max_grad_norm: float | None = None,
        process_group: Group = "default",
        m_sharpness: bool = False,
        active: Active | None = None,
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
            active=active,
        )


class GSAM(Variant, made_of=GSAMPerturbation):
    """theta <- base(theta, g_rho - alpha g_perp), with the part g_perp of g_0 orthogonal to g_rho.

    See `GSAMPerturbation` for options and source.
    """


class WSAM(Variant, made_of=WSAMPerturbation):
    """theta <- base(theta, g_0) - lr w (g_rho - g_0), w = gamma / (1 - gamma): sharpness as a weighted regularizer.

    See `WSAMPerturbation` for options and source.
    """


class LookSAM(Variant, made_of=LookSAMPerturbation):
    """theta <- base(theta, g + alpha (||g|| / ||g_v||) g_v), with g_v from a SAM step in every k-th step.

    See `LookSAMPerturbation` for options and source.
    """


class FSAM(Variant, made_of=FSAMPerturbation):
    """eps_hat = d / ||d||, d = g - sigma m: climbs along the batch noise, with a moving average m of the gradients.

    See `FSAMPerturbation` for options and source.
    """


class VaSSO(Variant, made_of=VaSSOPerturbation):
    """eps_hat = d / ||d||, d <- (1 - theta) d + theta g: climbs along a moving average of the gradients.

    See `VaSSOPerturbation` for options and source.
    """


class MSAM(Variant, made_of=MSAMPerturbation):
    """eps_hat = -v / ||v||: perturbs along the base optimizer's momentum v, in one pass per step.

    See `MSAMPerturbation` for options and source.
    """


class FunctionalSAM(Variant, made_of=FunctionalSAMPerturbation):
    """theta <- base(theta, J(theta + rho eps_hat)^T c): c = d loss / d outputs is that of the unperturbed weights.

    See `FunctionalSAMPerturbation` for options and source.
    """


class PreconditionedSAM(Variant, made_of=PreconditionedSAMPerturbation):
    """eps_hat = D g / ||D g||: D scales the gradient as Adam does, with a damping; SAM for a base like SGD.

    See `PreconditionedSAMPerturbation` for options and source.
    """


class SSAMF(Variant, made_of=SSAMFPerturbation):
    """eps_hat = m * g / ||g||: the mask m selects the weights with the largest Fisher information.

    See `SSAMFPerturbation` for options and source.
    """


class SSAMD(Variant, made_of=SSAMDPerturbation):
    """eps_hat = m * g / ||g||: the mask m drops weights with small gradients and adds random ones.

    See `SSAMDPerturbation` for options and source.
    """


class MultiStepSAM(Variant, made_of=MultiStepSAMPerturbation):
    """theta_(j+1) = theta_j + (rho / k) g(theta_j) / ||g(theta_j)||: climbs in k ascent steps.

    See `MultiStepSAMPerturbation` for options and source.
    """


class AESAM(Variant, made_of=AESAMPerturbation):
    """eps_hat = g / ||g|| if ||g||^2 >= mu + c sigma, else 0: climbs only in steps with a large gradient norm.

    See `AESAMPerturbation` for options and source.
    """


class SAMON(Variant, made_of=SAMONPerturbation):
    """eps_hat = g_N / ||g_N|| on normalization layers, 0 elsewhere: perturbs only these layers.

    See `SAMONPerturbation` for options and source.
    """


class ESAM(Variant, made_of=ESAMPerturbation):
    """eps_hat = (m / beta) * g / ||g||: the random mask m perturbs a fraction beta of the weights.

    See `ESAMPerturbation` for options and source.
    """


class SubBatchSAM(Variant, made_of=SubBatchSAMPerturbation):
    """theta <- base(theta, sum_i w_i grad L_i(theta + rho g_i / ||g_i||)): every sub-batch i climbs on its own.

    See `SubBatchSAMPerturbation` for options and source.
    """
