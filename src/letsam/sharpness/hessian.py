"""The Hessian of the loss: its largest eigenvalues and its trace, computed by the library hessian-eigenthings."""

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
    """The result of `hessian_spectrum`.

    Attributes:
        eigenvalues: the largest eigenvalues in descending order, `top` of them. A multiple eigenvalue is found once,
            so there are fewer if the Hessian has fewer distinct eigenvalues.
        residuals: ||H v - lambda v|| of each, a bound of its error.
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
    """The largest eigenvalues and the trace of H = d^2 L / d theta^2, without forming H.

    L is the mean loss over all samples, theta all trainable parameters. Eigenvalues are computed by Lanczos with full
    reorthogonalization. They are the algebraically largest, so negative ones at a saddle do not count as sharp. The
    trace is estimated by Hutch++. Both use only products H v, each an exact double backward over all batches.

    Args:
        model: evaluated in evaluation mode and restored bit for bit. Attention uses the math backend, the only one
            that can be differentiated twice.
        loss_fn: (outputs, targets) -> mean loss, a scalar, twice differentiable.
        batches: (inputs, targets) pairs on the model's device; read once, kept in memory, weighted by `len(targets)`.
        top: number of eigenvalues, >= 1 and at most the number of parameters.
        iterations: Lanczos steps, >= `top`; each stores a vector of the size of the weights. More steps give smaller
            `residuals`.
        trace_products: products H v for the trace, >= 6.
        seed: >= 0, of the start vector and of the random vectors for the trace.

    Returns:
        Eigenvalues with residuals, and the trace with its standard error.

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
        import hessian_eigenthings as library  # an optional dependency
    except ImportError as error:
        raise ImportError(
            '`hessian_spectrum` needs hessian-eigenthings; install it with `pip install "letsam[sharpness]"`'
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
    """H v over all batches. The library weights batches equally, so each loss is scaled by its fraction of samples."""
    gradients = mean_gradient(model, loss_fn, parts)
    used = {p for p, gradient in zip(trainable(model), gradients, strict=True) if gradient is not None}

    def weighted(model: nn.Module, part: Any) -> Tensor:
        batch, share = part
        return loss_of(model, loss_fn, batch) * (share * len(parts))

    def takes_part(_: str, param: nn.Parameter) -> bool:
        return param in used  # the rows and columns of the others are 0

    with torch.enable_grad():
        return library.HessianOperator(model, parts, weighted, param_filter=takes_part)
