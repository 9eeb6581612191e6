"""Z = d theta' / d rho: how the weights that a step makes answer to its radius, from what the passes leave behind."""

from __future__ import annotations

from itertools import compress
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..perturbations.decoupled import descend_decoupled
from ..radius.base import Derivative, Evaluate
from ..tensors import Average, Buffers, Tensors, add_, add_scaled_, copy_, gradients_of, norm, scale_, zero_
from .blocks import Blocks
from .estimator import Hypergradient
from .update_rules import apply_update_derivative


class StepDerivative:
    """Z = -lr P H_rho eps_hat, built up in one buffer in the course of a step.

    The buffer holds g_0, eps_hat or a probed gradient (`Hypergradient.holds`), then H_rho eps_hat, then Z.

    With a radius rho_i for each block i of weights, the derivative -lr P H eps_hat^(i) would need a pass for each.
    In its place stands the block i of the change along a common factor of all radii,

        Z^(i) = -lr P (sum over j of H^(ij) rho_j eps_hat^(j)) / rho_i

    the same where H is block-diagonal. Elsewhere what rho_i does to other blocks counts as theirs, but the slopes along
    log(rho_i) still add up to the slope along the common factor, before projection and clipping.

    Args:
        hypergradient: how H_rho eps_hat is estimated.
        length_invariant: project H_rho eps_hat on the complement of what the step descends with, block by block.
        blocks: which weights share a radius.
    """

    def __init__(self, hypergradient: Hypergradient, length_invariant: bool, blocks: Blocks) -> None:
        self.hypergradient = hypergradient
        self.length_invariant = length_invariant
        self.blocks = blocks
        self.held: list[Tensor] = []
        self.carries = False  # whether `held` is the Z of a step
        self._owners: list[Tensor] | None = None  # the weights that it is of; None after a file was read
        self.average: Average | None = None  # of this step, see `Ascent`
        self._buffers = Buffers()
        self._scratch = Buffers()  # for passes after the base step, when no other memory is free
        self._probe_step: Tensor | None = None
        self._parts, self._seen = 1, 0  # micro-batches that climb apart, and how many of them have been seen
        self._beside: Tensors | None = None  # during a step: d / d rho of what descends beside the base optimizer

    # --- a step, in its order -------------------------------------------------------------------------------------

    def begin(self, params: Tensors) -> None:
        """The gradients are g_0."""
        if self.hypergradient.holds == "gradient":
            self._hold(params)
            self.agree_on(self._buffers.blocks)

    def climb(self, params: Tensors, factor: Tensor, parts: int) -> None:
        """The gradients are eps_hat / factor, of one of the parts."""
        if self.hypergradient.holds == "gradient":
            return
        self._parts = parts
        self._hold(params)
        if self.hypergradient.holds == "direction":
            factor = factor / parts  # of all parts, the mean
        scale_(self.held, factor)
        if self.hypergradient.holds == "direction":
            self.agree_on(self._buffers.blocks)
            self._add_up(params)

    def probe(self, params: Tensors, weights: Tensors, rho: Tensor, evaluate: Evaluate) -> None:
        """One training pass at rho + h for the estimators that probe; see `Radius.probe`."""
        if self.hypergradient.holds != "probe":
            return
        if self._probe_step is None:  # the same for all parts
            self._probe_step = self.hypergradient.probe_step(weights, self.held)
            self.agree_on([self._probe_step])
            if rho.ndim:
                self._probe_step = self._probe_step * (rho / rho.amax())  # along the perturbation
        for radius in (rho + self._probe_step, rho):
            copy_(params, weights)
            add_scaled_(params, self.held, radius)
            if radius is not rho:
                evaluate()
        self._hold(params)
        self._add_up(params)

    def differentiate(self, params: Tensors, rho: Tensor, derivative: Derivative) -> None:
        """The gradients are g_rho: what is held becomes H_rho eps_hat, and with it that of the descent gradient."""
        held, gradients, present = self._with_gradients(params)
        probe_step = self._probe_step
        if not rho.ndim:
            self.hypergradient.curvature(held, gradients, rho, probe_step)
            self._beside = derivative(held)
            return
        rho = _chosen(rho, present)
        probe_step = probe_step if probe_step is None else _chosen(probe_step, present)
        self.hypergradient.curvature(held, gradients, rho, probe_step)
        shares = rho / rho.amax()
        scale_(held, shares)  # the change along the common factor: a descent rule may mix the blocks
        self._beside = derivative(held)
        for changes in (held, self._beside or []):
            if changes:
                scale_(changes, shares.reciprocal())

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
        square = self.blocks.norm(weights).square()
        share = self.blocks.dot(weights, change) / square.clamp(min=torch.finfo(square.dtype).tiny)
        weights.copy_of(params)
        held, gradients, present = self._with_gradients(params)
        shares = self.blocks.spread(share, present)
        add_scaled_(held, gradients, shares, -1.0)
        if beside is not None and self._beside is not None:
            add_scaled_(self._beside, beside, shares, -1.0)
            zero_(self.blocks.single(self._beside, present))
        zero_(self.blocks.single(held, present))  # one entry has no direction to change: roundings are no evidence

    def clip(self, params: Tensors, factor: Tensor, slope: Tensor, weights: Buffers) -> None:
        """H_rho eps_hat becomes the derivative of the clipped gradient: changes of its length no longer count."""
        held, gradients, present = self._with_gradients(params)
        weights.gradients_of(params)
        change = slope * self.blocks.dot(weights, self._buffers)
        weights.copy_of(params)
        scale_(self.held, factor)
        add_scaled_(held, gradients, self.blocks.spread(change, present))

    def step(self, base: Optimizer, params: Tensors, weights: Tensors, fresh: set[Tensor]) -> None:
        """H_rho eps_hat becomes Z: the base optimizer's own update enters."""
        apply_update_derivative(base, params, weights, fresh, self.held)
        # the base optimizer has not moved a weight without a gradient
        zero_([z for z, param in zip(self.held, params, strict=True) if param.grad is None])
        if self._beside is not None:
            present = [p for p in params if p.grad is not None]
            descend_decoupled(base, present, _present(params, self.held), self._beside)
            self._beside = None
        self.carries, self._owners = True, list(params)

    def end(self) -> None:
        """Forget what belongs to the step under way; Z lives on."""
        self.average = self._beside = self._probe_step = None
        self._seen = 0

    # --- what Z is for --------------------------------------------------------------------------------------------

    def slope(self, params: Tensors, scratch: Buffers | None) -> tuple[Tensor | None, Tensor, Tensor]:
        """The gradients' dot products with Z, block by block, or None where there is no Z that fits.

        Args:
            params: with gradients.
            scratch: memory in the shapes of the weights that nobody needs at this moment, where there is some.

        Returns:
            Those, the products of both lengths (1 without a Z), and the norm of all gradients.
        """
        self.carries = self.carries and [z.shape for z in self.held] == [p.shape for p in params]
        if self._owners is not None:
            self.carries = self.carries and all(map(is_, self._owners, params))
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
        length = self.blocks.norm(scratch)
        lengths = length * self.blocks.norm(self._buffers)
        total = norm([length]) if length.ndim else length
        return self.blocks.dot(scratch, self._buffers), lengths, total

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
        self.carries, self._owners = bool(self.held), None

    def __getstate__(self) -> dict[str, Any]:
        # they are views of one block; the weights of a copy are others
        return self.__dict__ | {"held": [z.clone() for z in self.held], "_owners": None}

    def _hold(self, params: Tensors) -> None:
        """Copy the gradients into the buffer, 0 where there is none."""
        self.held = self._buffers.gradients_of(params)

    def _add_up(self, params: Tensors) -> None:
        """Where several parts climb: once all have been seen, what is held becomes the sum over them."""
        if self._parts == 1:
            return
        total = self._scratch.like(params)
        (add_ if self._seen else copy_)(total, self.held)
        self._seen += 1
        if self._seen == self._parts:
            copy_(self.held, total)

    def _with_gradients(self, params: Tensors) -> tuple[list[Tensor], list[Tensor], list[bool]]:
        """What is held and the gradients, of the weights that have one; and which do."""
        return _present(params, self.held), gradients_of(params), [p.grad is not None for p in params]


def _present(params: Tensors, tensors: Tensors) -> list[Tensor]:
    """Those of `tensors`, one for each weight, whose weights have gradients."""
    return [t for t, p in zip(tensors, params, strict=True) if p.grad is not None]


def _chosen(values: Tensor, present: list[bool]) -> Tensor:
    """Those of the values, one for each weight, whose weights have gradients."""
    return torch.stack(list(compress(values.unbind(), present)))
