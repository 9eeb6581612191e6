"""Mixed precision: what a `torch.amp.GradScaler` has to do with a step of several passes.

The scaler's own `step` takes no closure and unscales once. Here the gradients of every pass are unscaled as they come,
and the outcome of the whole step is entered in the scaler's books as its own `step` would, so that `update()` does the
rest. Nothing of this is read by the host.
"""

# pyright: reportPrivateUsage=false
# (the scaler's books, its state for each optimizer, have no public way in)

from __future__ import annotations

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler, OptState
from torch.optim import Optimizer

from ..checks import checked_scaler
from ..tensors import Tensors, gradients_of, scale_


def begin(grad_scaler: object, optimizer: Optimizer) -> GradScaler | None:
    """Return the scaler of a step that begins, None where there is nothing to scale.

    An `update()` that the loop has forgotten after the step before is made up for, so that the scale always backs off.

    Raises:
        TypeError: `grad_scaler` is not a scaler.
    """
    scaler = checked_scaler(grad_scaler)
    if scaler is not None and _stage(scaler, optimizer) is OptState.STEPPED:
        scaler.update()
    return scaler


def unscale_(scaler: GradScaler | None, optimizer: Optimizer, params: Tensors) -> None:
    """Divide the gradients of a pass by the scale, in place; what is not finite stays so.

    Raises:
        ValueError: the loss was not scaled, the gradients are unscaled already, or they are float16 themselves.
    """
    if scaler is None:
        return
    scale = scaler._get_scale_async()
    if scale is None:
        raise ValueError(
            "`grad_scaler` must have scaled the loss: call grad_scaler.scale(loss).backward(), got a plain backward()"
        )
    if _stage(scaler, optimizer) is OptState.UNSCALED:
        raise ValueError("`grad_scaler` must not unscale the gradients, got unscale_() called: the step does it itself")
    gradients = gradients_of(params)
    if any(g.dtype == torch.float16 for g in gradients):
        raise ValueError("`grad_scaler` needs float32 weights (autocast computes in float16), got float16 gradients")
    scale_(gradients, scale.reciprocal().to(gradients[0].device, non_blocking=True))


def record(scaler: GradScaler | None, optimizer: Optimizer, finite: Tensor) -> None:
    """Enter in the scaler's books that the optimizer has stepped, and whether all of it was finite (0-dim bool)."""
    if scaler is not None:
        state = scaler._per_optimizer_states[id(optimizer)]
        state["found_inf_per_device"] = {finite.device: (~finite).float()}
        state["stage"] = OptState.STEPPED


def _stage(scaler: GradScaler, optimizer: Optimizer) -> OptState:
    state = scaler._per_optimizer_states.get(id(optimizer))  # a look-up by [] would make an entry
    return OptState.READY if state is None else state["stage"]
