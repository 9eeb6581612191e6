"""The Hessian of the loss: its largest eigenvalues and its trace, through the library hessian-eigenthings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import checks
from .losses import LossFunction, loss_of, mean_gradient, measured, shares, trainable

if TYPE_CHECKING:
    from hessian_eigenthings import HessianOperator


@dataclass(frozen=True)
class HessianSpectrum:
    """What `hessian_spectrum` found.

    Attributes:
        eigenvalues: the largest ones, largest first, shape `(top,)`. A multiple eigenvalue is found once, and fewer
            than `top` are there where the Hessian has fewer different ones.
        residuals: ||H v - lambda v|| of each, shape as `eigenvalues`: how far it may be off.
        trace: estimate of the sum of all eigenvalues.
        trace_error: standard error of the trace.
    """

    eigenvalues: tuple[float, ...]
    residuals: tuple[float, ...]
    trace: float
    trace_error: float


def hessian_spectrum(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Iterable[Any],
    *,
    top: int = 5,
    iterations: int = 30,
    trace_products: int = 30,
    seed: int = 0,
) -> HessianSpectrum:
    """The largest eigenvalues and the trace of H = d^2 L / d theta^2, without ever forming H.

    Eigenvalues by Lanczos with full reorthogonalization, largest algebraically (a saddle's negative ones do not count
    as sharp); the trace by Hutch++. Both need products H v only, each an exact double backward over all batches. H is
    that of the mean loss over all samples, in all trainable parameters.

    Args:
        model: measured in evaluation mode, then put back bit for bit. Attention runs in its plain form here, the
            only one that can be differentiated twice.
        loss_fn: (outputs, targets) -> mean loss, a scalar, twice differentiable.
        batches: (inputs, targets) pairs on the model's device; read once, kept in memory, weighted by `len(targets)`.
        top: how many eigenvalues, >= 1 and at most the number of parameters.
        iterations: Lanczos steps, >= `top`; each keeps a vector as long as the weights. More make `residuals` smaller.
        trace_products: products for the trace, >= 6.
        seed: >= 0, of the start vector and of the trace's random vectors.

    Returns:
        Eigenvalues with residuals and the trace with its standard error.

    Raises:
        ImportError: hessian-eigenthings is missing; the message has the install command.
        ValueError: an argument out of range, no samples or no trainable parameter.
        TypeError: an argument of the wrong type.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = [(torch.diag(torch.tensor([2.0, 1.0])), torch.zeros(2, 1))]  # H = diag(4, 1)
        >>> found = hessian_spectrum(model, torch.nn.functional.mse_loss, data, top=2)
        >>> [round(value, 4) for value in found.eigenvalues], round(found.trace, 4)
        ([4.0, 1.0], 5.0)

    Reference:
        Lanczos: C. Lanczos 1950, as in hessian-eigenthings. Hutch++: Meyer et al., arXiv:2010.09649, algorithm 1.
    """
    checks.whole("top", top, 1)
    checks.whole("iterations", iterations, top)
    checks.whole("trace_products", trace_products, 6)
    checks.whole("seed", seed, 0)
    try:
        import hessian_eigenthings as library  # an extra: only when asked for
    except ImportError as error:
        raise ImportError(
            '`hessian_spectrum` needs hessian-eigenthings; install it with `pip install "letsam[evidence]"`'
        ) from error
    parts = shares(batches)
    with measured(model), sdpa_kernel(SDPBackend.MATH):
        size = sum(p.numel() for p in trainable(model))
        if top > size:
            raise ValueError(f"`top` must be at most the number of trainable weights, {size}, got {top}")
        operator: HessianOperator = _operator(library, model, loss_fn, parts)
        steps = min(iterations, operator.size)
        found = library.lanczos(
            operator, k=min(top, operator.size), max_iter=steps, reorthogonalize=True, which="LA", seed=seed
        )
        trace = library.trace(operator, num_matvecs=trace_products, method="hutch++", seed=seed)
    return HessianSpectrum(
        eigenvalues=tuple(found.eigenvalues.tolist()),
        residuals=tuple(found.residuals.tolist()),
        trace=float(trace.estimate),
        trace_error=float(trace.stderr),
    )


def _operator(library: Any, model: nn.Module, loss_fn: LossFunction, parts: Any) -> HessianOperator:
    """H v over all batches. The library gives each batch the same weight, so the loss carries its share of samples."""
    gradients = mean_gradient(model, loss_fn, parts)
    used = {p for p, gradient in zip(trainable(model), gradients, strict=True) if gradient is not None}

    def weighted(model: nn.Module, part: Any) -> Tensor:
        batch, share = part
        return loss_of(model, loss_fn, batch) * (share * len(parts))

    def takes_part(_: str, param: nn.Parameter) -> bool:
        return param in used  # the rows of the others are 0

    with torch.enable_grad():
        return library.HessianOperator(model, parts, weighted, param_filter=takes_part)
