"""Mixed precision: how a `torch.amp.GradScaler` works with a step of several passes.

The scaler's own `step` takes no closure and unscales once. Here the gradients are unscaled after every pass, and the
result of the whole step is written to the scaler's state as its own `step` would do, so that `update()` works as usual.
The host reads no value.
"""

# pyright: reportPrivateUsage=false
# (there is no public access to the state that a scaler keeps for each optimizer)

from __future__ import annotations

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler, OptState
from torch.optim import Optimizer

from ..checks import checked_scaler
from ..tensors import Tensors, gradients_of, scale_


def begin(grad_scaler: object, optimizer: Optimizer) -> GradScaler | None:
    """Return the scaler of a new step, or None if there is none.

    If the loop did not call `update()` after the previous step, this calls it, so that the scale always backs off.

    Args:
        grad_scaler: a `torch.amp.GradScaler` or None.
        optimizer: under which the scaler keeps its state.

    Returns:
        The scaler; None if it is None or disabled.

    Raises:
        TypeError: `grad_scaler` is not a scaler.
    """
    scaler = checked_scaler(grad_scaler)
    if scaler is not None and _stage(scaler, optimizer) is OptState.STEPPED:
        scaler.update()
    return scaler


def unscale_(scaler: GradScaler | None, optimizer: Optimizer, params: Tensors) -> None:
    """Divide the gradients of a pass by the scale, in place; values that are not finite remain so.

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


def scale_of(scaler: GradScaler | None) -> Tensor | None:
    """The factor by which the scaler multiplies losses (0-dim); None without a scaler, and before its first use."""
    return None if scaler is None else scaler._get_scale_async()


def record(scaler: GradScaler | None, optimizer: Optimizer, finite: Tensor, held_out: Tensor | None = None) -> None:
    """Write to the scaler's state that the optimizer has stepped, and whether all its passes were finite.

    Args:
        scaler: the scaler of the step, or None.
        optimizer: under which the scaler keeps its state.
        finite: whether the training passes were finite (0-dim bool).
        held_out: the same of the validation pass, or None. If only that one overflowed, the step counts, but the
            scale must decrease as well, or the radius would not be updated any more.
    """
    if scaler is not None:
        finite = finite if held_out is None else finite & held_out
        state = scaler._per_optimizer_states[id(optimizer)]
        state["found_inf_per_device"] = {finite.device: (~finite).float()}
        state["stage"] = OptState.STEPPED


def record_skipped(scaler: GradScaler | None, optimizer: Optimizer) -> None:
    """Write to the scaler's state that the optimizer has stepped, for a step that a closure has skipped.

    There was no overflow, so `update()` counts the step as one without. It needs a scale, which only a loss makes.
    """
    if scaler is not None:
        device = optimizer.param_groups[0]["params"][0].device
        if scaler._get_scale_async() is None:
            scaler.scale(torch.zeros((), device=device))
        record(scaler, optimizer, torch.ones((), dtype=torch.bool, device=device), None)


def _stage(scaler: GradScaler, optimizer: Optimizer) -> OptState:
    state = scaler._per_optimizer_states.get(id(optimizer))  # a lookup by [] would create an entry
    return OptState.READY if state is None else state["stage"]
