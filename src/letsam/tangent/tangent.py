"""Z = d theta' / d rho: how the weights that a step makes answer to its radius, from what the passes leave behind."""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..perturbations.decoupled import descend_decoupled
from ..tensors import Average, Buffers, Tensors, add_, add_scaled_, copy_, gradients_of, norm, scale_, zero_
from .blocks import Blocks
from .estimator import Hypergradient
from .update_rules import apply_update_derivative

Evaluate = Callable[[], Tensor]
Derivative = Callable[[Tensors], "Tensors | None"]


class Slope(NamedTuple):
    """A gradient's dot product with Z, block by block.

    Attributes:
        value: the derivative of the loss along rho (0-dim, or one for each block).
        lengths: the product of both vectors' norms, > 0 (in the same shape).
    """

    value: Tensor
    lengths: Tensor

    def scaled(self, scale: Tensor | None) -> Tensor:
        """The cosine of the two vectors, or, given a scale, value / scale."""
        return self.value / (self.lengths if scale is None else scale)


class Tangent:
    """Z = -lr P H_rho eps_hat, built up in one buffer in the course of a step.

    A step calls `begin`, `climb`, `probe`, `differentiate`, `project`, `clip` and `step` in this order, and ends with
    `commit` or `discard`. `slope` then says how a loss at the new weights answers to the radius. All vectors of the
    hypergradient are here; the radius is given numbers.

    The buffer holds g_0, eps_hat or a probed gradient (`Hypergradient.holds`), then H_rho eps_hat, then Z.

    With a radius rho_i for each block i of weights, the derivative -lr P H eps_hat^(i) would need a pass for each.
    In its place stands the block i of the change along a common factor of all radii,

        Z^(i) = -lr P (sum over j of H^(ij) rho_j eps_hat^(j)) / rho_i

    the same where H is block-diagonal. Elsewhere what rho_i does to other blocks counts as theirs, but the slopes along
    log(rho_i) still add up to the slope along the common factor, before projection and clipping.

    Args:
        hypergradient: how H_rho eps_hat is estimated, and whether it is projected, block by block, on the complement
            of what the step descends with.
        blocks: which weights share a radius.
    """

    def __init__(self, hypergradient: Hypergradient, blocks: Blocks) -> None:
        self.hypergradient = hypergradient
        self.blocks = blocks
        self.held: list[Tensor] = []
        self.carries = False  # whether `held` is the Z of a step
        self.usable = torch.zeros((), dtype=torch.bool)  # whether that step was finite and perturbed the weights
        self._owners: list[Tensor] | None = None  # the weights that it is of; None after a file was read
        self._average: Average | None = None  # of this step: makes what differs between processes their mean
        self._buffers = Buffers()
        self._scratch = Buffers()  # for passes after the base step, when no other memory is free
        self._probe_step: Tensor | None = None
        self._parts, self._seen = 1, 0  # micro-batches that climb apart, and how many of them have been seen
        self._decoupled: Tensors | None = None  # during a step: d / d rho of the decoupled term

    # --- a step, in its order -------------------------------------------------------------------------------------

    def begin(self, params: Tensors, average: Average | None) -> None:
        """The gradients are g_0.

        Args:
            params: all trainable weights, with gradients.
            average: for m-sharpness, replaces tensors in place by their means over the processes, each of which has a
                g_0 of its own; None where all have the same.
        """
        self._average = average
        if self.hypergradient.holds == "gradient":
            self._hold(params)
            self._agree_on(self._buffers.blocks)

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
            self._agree_on(self._buffers.blocks)
            self._add_up(params)

    def probe(self, params: Tensors, weights: Tensors, rho: Tensor, evaluate: Evaluate) -> None:
        """One training pass at rho + h for the estimators that probe; `params` are perturbed by rho, also at the end.

        Args:
            params: perturbed weights.
            weights: their unperturbed values.
            rho: the radius of the step, one for each weight where radii differ.
            evaluate: runs the training closure.
        """
        if self.hypergradient.holds != "probe":
            return
        if self._probe_step is None:  # the same for all parts
            self._probe_step = self.hypergradient.probe_step(weights, self.held)
            self._agree_on([self._probe_step])
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
        """The gradients are g_rho: what is held becomes H_rho eps_hat, and with it that of the descent gradient.

        Args:
            params: unperturbed again.
            rho: the radius of the step.
            derivative: the perturbation's `descent_derivative` at g_rho, for one tensor per gradient.
        """
        held, gradients, present = self._with_gradients(params)
        probe_step = self._probe_step
        if not rho.ndim:
            self.hypergradient.curvature(held, gradients, rho, probe_step)
            self._decoupled = derivative(held)
            return
        rho = _chosen(rho, present)
        probe_step = probe_step if probe_step is None else _chosen(probe_step, present)
        self.hypergradient.curvature(held, gradients, rho, probe_step)
        shares = rho / rho.amax()
        scale_(held, shares)  # the change along the common factor: a descent rule may mix the blocks
        self._decoupled = derivative(held)
        for changes in (held, self._decoupled or []):
            if changes:
                scale_(changes, shares.reciprocal())

    def project(self, params: Tensors, decoupled: Tensors | None, weights: Buffers) -> None:
        """On the complement of all that the step descends with, if asked for.

        Args:
            params: unperturbed; the gradients are those that the base optimizer descends with.
            decoupled: the term that `Perturbation.descent` has returned.
            weights: hold what `params` do, also at the end; used as scratch memory.
        """
        if not self.hypergradient.length_invariant:
            return
        weights.gradients_of(params)
        change = self._buffers
        if decoupled is not None and self._decoupled is not None:
            change = self._scratch
            add_(_present(params, weights.like(params)), decoupled)
            add_(_present(params, change.copy_of(self.held)), self._decoupled)
        square = self.blocks.norm(weights).square()
        share = self.blocks.dot(weights, change) / square.clamp(min=torch.finfo(square.dtype).tiny)
        weights.copy_of(params)
        held, gradients, present = self._with_gradients(params)
        shares = self.blocks.spread(share, present)
        add_scaled_(held, gradients, shares, -1.0)
        if decoupled is not None and self._decoupled is not None:
            add_scaled_(self._decoupled, decoupled, shares, -1.0)
            zero_(self.blocks.single(self._decoupled, present))
        zero_(self.blocks.single(held, present))  # one entry has no direction to change: roundings are no evidence

    def clip(self, params: Tensors, factor: Tensor, slope: Tensor, weights: Buffers) -> None:
        """H_rho eps_hat becomes the derivative of the clipped gradient: changes of its length no longer count.

        Args:
            params: unperturbed; the gradients g are about to be clipped to factor * g.
            factor: 0-dim.
            slope: s in d factor = s * (g . dg) (0-dim).
            weights: hold what `params` do, also at the end; used as scratch memory.
        """
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
        if self._decoupled is not None:
            present = [p for p in params if p.grad is not None]
            descend_decoupled(base, present, _present(params, self.held), self._decoupled)
            self._decoupled = None
        self.carries, self._owners = True, list(params)

    def commit(self, finite: Tensor, climbs: Tensor | None) -> None:
        """End of a step: Z is usable where the step was finite and `climbs` (0-dim bools; None: no Z was built)."""
        if climbs is not None:
            self.usable = finite & climbs
        self._end()

    def discard(self) -> None:
        """The step came to nothing. The Z of the step before lives on unless `expire` was called."""
        self._end()

    def expire(self) -> None:
        """The radius has been updated: Z is of no further use."""
        self.carries = False

    def _end(self) -> None:
        self._average = self._decoupled = self._probe_step = None
        self._seen = 0

    # --- what Z is for --------------------------------------------------------------------------------------------

    def to(self, device: torch.device) -> None:
        """Move the flag to where the weights are; Z itself follows them when it is used."""
        self.usable = self.usable.to(device)

    def slope(
        self, params: Tensors, scratch: Buffers | None, average: Average | None = None
    ) -> tuple[Slope | None, Tensor]:
        """The slope of a loss along Z, from its gradients.

        Args:
            params: all trainable weights, with gradients.
            scratch: memory in the shapes of the weights that nobody needs at this moment, where there is some.
            average: as for `begin`, if these gradients differ between processes.

        Returns:
            The slope, None where there is no Z that fits; and the norm of all gradients (0-dim).
        """
        self.carries = self.carries and [z.shape for z in self.held] == [p.shape for p in params]
        if self._owners is not None:
            self.carries = self.carries and all(map(is_, self._owners, params))
        if not self.carries:
            return None, norm(gradients_of(params))
        held = self._buffers.like(params)
        if held is not self.held:  # Z comes from a file, or the weights have moved to another device or dtype
            copy_(held, self.held)
            self.held = held
        scratch = self._scratch if scratch is None else scratch
        scratch.gradients_of(params)
        if average is not None:
            average(scratch.blocks)
        length = self.blocks.norm(scratch)
        lengths = length * self.blocks.norm(self._buffers)
        total = norm([length]) if length.ndim else length
        lengths = lengths.clamp(min=torch.finfo(lengths.dtype).tiny)
        return Slope(self.blocks.dot(scratch, self._buffers), lengths), total

    def _agree_on(self, tensors: Tensors) -> None:
        """Average over the processes what is each one's own, with m-sharpness."""
        if self._average is not None:
            self._average(tensors)

    def state_dict(self) -> dict[str, Any]:
        """Z between two steps, by the place of the weight; empty where there is none."""
        if not self.carries:
            return {}
        return {"usable": self.usable.clone(), "Z": {i: z.clone() for i, z in enumerate(self.held)}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.held = [z.clone() for _, z in sorted(state.get("Z", {}).items())]
        self.carries, self._owners = bool(self.held), None
        if self.carries:
            self.usable = torch.as_tensor(state["usable"]).to(self.usable.device, copy=True)

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
