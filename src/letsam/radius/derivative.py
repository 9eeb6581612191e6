"""Z = d theta' / d rho: how the weights that a step makes answer to its radius, from what the passes leave behind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .._beside import descend_beside
from .._tensors import Average, Buffers, Tensors, add_, add_scaled_, copy_, dot, gradients_of, norm, scale_, zero_
from ..hypergradient import Hypergradient
from ..hypergradient.update_derivative import apply_update_derivative
from .base import Derivative, Evaluate


class StepDerivative:
    """Z = -lr P H_rho eps_hat, built up in one buffer in the course of a step.

    The buffer holds g_0, eps_hat or a probed gradient (`Hypergradient.holds`), then H_rho eps_hat, then Z.

    Args:
        hypergradient: how H_rho eps_hat is estimated.
        length_invariant: project H_rho eps_hat on the complement of what the step descends with.
    """

    def __init__(self, hypergradient: Hypergradient, length_invariant: bool) -> None:
        self.hypergradient = hypergradient
        self.length_invariant = length_invariant
        self.held: list[Tensor] = []
        self.carries = False  # whether `held` is the Z of a step
        self.average: Average | None = None  # of this step, see `Ascent`
        self._buffers = Buffers()
        self._scratch = Buffers()  # for passes after the base step, when no other memory is free
        self._probe_step: Tensor | None = None
        self._beside: Tensors | None = None  # during a step: d / d rho of what descends beside the base optimizer

    # --- a step, in its order -------------------------------------------------------------------------------------

    def begin(self, params: Tensors) -> None:
        """The gradients are g_0."""
        if self.hypergradient.holds == "gradient":
            self._hold(params)
            self.agree_on(self._buffers.blocks)

    def climb(self, params: Tensors, factor: Tensor) -> None:
        """The gradients are eps_hat / factor."""
        if self.hypergradient.holds == "gradient":
            return
        self._hold(params)
        scale_(self.held, factor)
        if self.hypergradient.holds == "direction":
            self.agree_on(self._buffers.blocks)

    def probe(self, params: Tensors, weights: Tensors, rho: Tensor, evaluate: Evaluate) -> None:
        """One training pass at rho + h for the estimators that probe; see `Radius.probe`."""
        if self.hypergradient.holds != "probe":
            return
        self._probe_step = self.hypergradient.probe_step(weights, self.held)
        self.agree_on([self._probe_step])
        for radius in (rho + self._probe_step, rho):
            copy_(params, weights)
            add_scaled_(params, self.held, radius)
            if radius is not rho:
                evaluate()
        self._hold(params)

    def differentiate(self, params: Tensors, rho: Tensor, derivative: Derivative) -> None:
        """The gradients are g_rho: what is held becomes H_rho eps_hat, and with it that of the descent gradient."""
        held, gradients = self._with_gradients(params)
        self.hypergradient.curvature(held, gradients, rho, self._probe_step)
        self._beside = derivative(held)

    def project(self, params: Tensors, beside: Tensors | None, weights: Buffers) -> None:
        """On the complement of all that the step descends with, if asked for; see `Radius.see_descent_gradient`."""
        if not self.length_invariant:
            return
        weights.gradients_of(params)
        change = self._buffers
        if beside is not None and self._beside is not None:
            change = self._scratch
            add_(_present(params, weights.like(params)), beside)
            add_(_present(params, change.copy_of(self.held)), self._beside)
        square = weights.norm().square()
        share = dot(weights, change) / square.clamp(min=torch.finfo(square.dtype).tiny)
        weights.copy_of(params)
        held, gradients = self._with_gradients(params)
        add_scaled_(held, gradients, -share)
        if beside is not None and self._beside is not None:
            add_scaled_(self._beside, beside, -share)

    def clip(self, params: Tensors, factor: Tensor, slope: Tensor, weights: Buffers) -> None:
        """H_rho eps_hat becomes the derivative of the clipped gradient: changes of its length no longer count."""
        held, gradients = self._with_gradients(params)
        weights.gradients_of(params)
        change = slope * dot(weights, self._buffers)
        weights.copy_of(params)
        scale_(self.held, factor)
        add_scaled_(held, gradients, change)

    def step(self, base: Optimizer, params: Tensors, weights: Tensors, fresh: set[Tensor]) -> None:
        """H_rho eps_hat becomes Z: the base optimizer's own update enters."""
        apply_update_derivative(base, params, weights, fresh, self.held)
        # the base optimizer has not moved a weight without a gradient
        zero_([z for z, param in zip(self.held, params, strict=True) if param.grad is None])
        if self._beside is not None:
            present = [p for p in params if p.grad is not None]
            descend_beside(base, present, _present(params, self.held), self._beside)
            self._beside = None
        self.carries = True

    def end(self) -> None:
        """Forget what belongs to the step under way; Z lives on."""
        self.average = self._beside = None

    # --- what Z is for --------------------------------------------------------------------------------------------

    def slope(self, params: Tensors, scratch: Buffers | None) -> tuple[Tensor | None, Tensor, Tensor]:
        """The gradients' dot product with Z, or None where there is no Z that fits.

        Args:
            params: with gradients.
            scratch: memory in the shapes of the weights that nobody needs at this moment, where there is some.

        Returns:
            That, the product of both lengths (1 without a Z), and the norm of the gradients.
        """
        self.carries = self.carries and [z.shape for z in self.held] == [p.shape for p in params]
        if not self.carries:
            length = norm(gradients_of(params))
            return None, torch.ones_like(length), length
        held = self._buffers.like(params)
        if held is not self.held:  # Z comes from a file, or the weights have moved to another device or dtype
            copy_(held, self.held)
            self.held = held
        scratch = self._scratch if scratch is None else scratch
        scratch.gradients_of(params)
        self.agree_on(scratch.blocks)  # g_0, and each process may have its own
        length = scratch.norm()
        lengths = length * self._buffers.norm()
        return dot(scratch, self._buffers), lengths, length

    def agree_on(self, tensors: Tensors) -> None:
        """Average over the processes what is each one's own, with m-sharpness."""
        if self.average is not None:
            self.average(tensors)

    def state_dict(self) -> dict[int, Tensor]:
        """Z between two steps, empty where there is none."""
        return {i: z.clone() for i, z in enumerate(self.held)} if self.carries else {}

    def load_state_dict(self, state: dict[int, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        self.held = [z.clone() for _, z in sorted(state.items())]
        self.carries = bool(self.held)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"held": [z.clone() for z in self.held]}  # they are views of one block

    def _hold(self, params: Tensors) -> None:
        """Copy the gradients into the buffer, 0 where there is none."""
        self.held = self._buffers.gradients_of(params)

    def _with_gradients(self, params: Tensors) -> tuple[list[Tensor], list[Tensor]]:
        """What is held and the gradients, of the weights that have one."""
        return _present(params, self.held), gradients_of(params)


def _present(params: Tensors, tensors: Tensors) -> list[Tensor]:
    """Those of `tensors`, one for each weight, whose weights have gradients."""
    return [t for t, p in zip(tensors, params, strict=True) if p.grad is not None]
