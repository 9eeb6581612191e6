"""Z = d theta' / d rho: how the new weights of a step depend on its radius, computed from the step's gradients."""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import checks
from ..perturbations.decoupled import descend_decoupled
from ..tensors import Average, Buffers, Tensors, add_, add_scaled_, copy_, gradients_of, norm, scale_, zero_
from .blocks import Blocks
from .estimator import Hypergradient
from .update_rules import apply_update_derivative

Evaluate = Callable[[], Tensor]
Derivative = Callable[[Tensors], "Tensors | None"]


class Slope(NamedTuple):
    """A gradient's dot product with Z, by block.

    Attributes:
        value: the derivative of the loss with respect to rho (0-dim, or one value per block).
        lengths: the product of the norms of both vectors, > 0 (same shape).

    Example:
        >>> Slope(torch.tensor(0.5), torch.tensor(2.0)).scaled(None)
        tensor(0.2500)
    """

    value: Tensor
    lengths: Tensor

    def scaled(self, scale: Tensor | None) -> Tensor:
        """The cosine between the two vectors if `scale` is None, else value / scale."""
        return self.value / (self.lengths if scale is None else scale)


class Tangent:
    """Z = -lr P H_rho eps_hat, built in one buffer during a step.

    A step calls `begin`, `climb`, `probe`, `differentiate`, `project`, `clip` and `step` in this order, and ends with
    `commit` or `discard`. Afterwards, `slope` gives the derivative of a loss at the new weights with respect to the
    radius. All vectors of the hypergradient are in this class; the radius is given scalars only.

    The buffer holds g_0, eps_hat or a probed gradient (see `Hypergradient.holds`), then H_rho eps_hat, then Z.

    With a radius rho_i for each block i of weights, the exact derivative -lr P H eps_hat^(i) would take one pass per
    block. It is replaced by the i-th block of the derivative along a common factor of all radii,

        Z^(i) = -lr P (sum over j of H^(ij) rho_j eps_hat^(j)) / rho_i

    which is exact if H is block-diagonal. Otherwise the effect of rho_i on other blocks is attributed to the radii of
    those blocks. Before projection and clipping, the slopes along log(rho_i) still add up to the slope along the common
    factor.

    Args:
        hypergradient: estimates H_rho eps_hat, and says whether it is projected, by block, on the complement of what
            the step descends with.
        blocks: which weights share a radius.
    """

    def __init__(self, hypergradient: Hypergradient, blocks: Blocks) -> None:
        self.hypergradient = hypergradient
        self.blocks = blocks
        self.held: list[Tensor] = []
        self.carries = False  # whether `held` is the Z of a step
        self.usable = torch.zeros((), dtype=torch.bool)  # whether that step was finite and perturbed the weights
        self._owners: list[Tensor] | None = None  # the weights that Z belongs to; None after a state was loaded
        self._average: Average | None = None  # of this step: averages tensors over the processes
        self._buffers = Buffers()
        self._scratch = Buffers()  # for passes after the base step, when no other memory is free
        self._probe_step: Tensor | None = None
        self._parts, self._seen = 1, 0  # number of micro-batches that climb separately, and of those seen so far
        self._decoupled: Tensors | None = None  # during a step: d / d rho of the decoupled term

    # --- during a step, in order -------------------------------------------------------------------------------------

    def begin(self, params: Tensors, average: Average | None) -> None:
        """The gradients are g_0: store them if the estimator needs them.

        Args:
            params: all trainable weights, with gradients.
            average: for m-sharpness, where each process has its own g_0: replaces tensors, in place, by their means
                over the processes. None if g_0 is the same in all processes.
        """
        self._average = average
        if self.hypergradient.holds == "gradient":
            self._hold(params)
            self._agree_on(self._buffers.blocks)

    def climb(self, params: Tensors, factor: Tensor, parts: int) -> None:
        """The gradients are eps_hat / factor: store eps_hat if the estimator needs it.

        Args:
            params: all trainable weights, with gradients.
            factor: 0-dim.
            parts: number of micro-batches that climb separately; called once for each.
        """
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
        """Make a training pass at radius rho + h, for estimators that probe; then restore the perturbation by rho.

        Args:
            params: perturbed weights.
            weights: their unperturbed values.
            rho: the radius of the step (0-dim), or one value per weight.
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
        """The gradients are g_rho: compute H_rho eps_hat, and from it the derivative of the descent gradient.

        Args:
            params: the weights, unperturbed again.
            rho: the radius of the step (0-dim), or one value per weight.
            derivative: the perturbation's `descent_derivative` at g_rho.
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
        """Project H_rho eps_hat on the complement of what the step descends with, if `length_invariant`.

        Args:
            params: unperturbed; the gradients are those that the base optimizer descends with.
            decoupled: the decoupled term that `Perturbation.descent` returned, or None.
            weights: a copy of `params`; used as scratch memory in between, and a copy again at the end.
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
        zero_(self.blocks.single(held, present))  # one entry has no direction: what is left is rounding

    def clip(self, params: Tensors, factor: Tensor, slope: Tensor, weights: Buffers) -> None:
        """Turn H_rho eps_hat into the derivative of the clipped gradient, in which changes of length do not count.

        Args:
            params: unperturbed; the gradients g will be clipped to factor * g after this call.
            factor: 0-dim.
            slope: s in d factor = s * (g . dg) (0-dim).
            weights: a copy of `params`; used as scratch memory in between, and a copy again at the end.
        """
        held, gradients, present = self._with_gradients(params)
        weights.gradients_of(params)
        change = slope * self.blocks.dot(weights, self._buffers)
        weights.copy_of(params)
        scale_(self.held, factor)
        add_scaled_(held, gradients, self.blocks.spread(change, present))

    def step(self, base: Optimizer, params: Tensors, weights: Tensors, fresh: set[Tensor]) -> None:
        """Turn H_rho eps_hat into Z by the derivative of the base optimizer's update.

        Args:
            base: the base optimizer, after its step.
            params: the new weights, with the gradients that it descended with.
            weights: the weights before its step.
            fresh: the weights whose state it has created in this step.
        """
        apply_update_derivative(base, params, weights, fresh, self.held)
        # the base optimizer does not change weights without a gradient
        zero_([z for z, param in zip(self.held, params, strict=True) if param.grad is None])
        if self._decoupled is not None:
            present = [p for p in params if p.grad is not None]
            descend_decoupled(base, present, _present(params, self.held), self._decoupled)
            self._decoupled = None
        self.carries, self._owners = True, list(params)

    def commit(self, finite: Tensor, climbs: Tensor | None) -> None:
        """End of a step: Z is usable if the step was finite and climbed (0-dim bools; `climbs` is None without a Z)."""
        if climbs is not None:
            self.usable = finite & climbs
        self._end()

    def discard(self) -> None:
        """The step was abandoned. The Z of the previous step remains valid unless `expire` was called."""
        self._end()

    def expire(self) -> None:
        """The radius has been updated: Z is no longer needed."""
        self.carries = False

    def _end(self) -> None:
        self._average = self._decoupled = self._probe_step = None
        self._seen = 0

    # --- after a step --------------------------------------------------------------------------------------------

    def to(self, device: torch.device) -> None:
        """Move `usable` to the device of the weights; Z itself is moved when it is used."""
        self.usable = self.usable.to(device)

    def slope(
        self, params: Tensors, scratch: Buffers | None, average: Average | None = None
    ) -> tuple[Slope | None, Tensor]:
        """The slope of a loss along Z, from the gradients of the loss.

        Args:
            params: all trainable weights, with gradients.
            scratch: memory in the shapes of the weights that is free at this moment; None: memory of its own.
            average: as for `begin`, if these gradients differ between processes.

        Returns:
            The slope, or None if there is no Z for these weights; and the norm of all gradients (0-dim).
        """
        self.carries = self.carries and [z.shape for z in self.held] == [p.shape for p in params]
        if self._owners is not None:
            self.carries = self.carries and all(map(is_, self._owners, params))
        if not self.carries:
            return None, norm(gradients_of(params))
        held = self._buffers.like(params)
        if held is not self.held:  # Z was loaded, or the weights have moved to another device or dtype
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
        """With m-sharpness, average tensors that differ between the processes."""
        if self._average is not None:
            self._average(tensors)

    def state_dict(self) -> dict[str, Any]:
        """Z, by the position of the weight, and whether it is usable; empty without a Z."""
        if not self.carries:
            return {}
        return {"usable": self.usable.clone(), "Z": {i: z.clone() for i, z in enumerate(self.held)}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.held = [z.clone() for _, z in sorted(state.get("Z", {}).items())]
        self.carries, self._owners = bool(self.held), None
        if self.carries:
            usable = checks.saved("usable", state["usable"])
            self.usable = usable.to(self.usable.device, torch.bool, copy=True)

    def __getstate__(self) -> dict[str, Any]:
        # `held` are views of one block of memory; a copy of this object belongs to other weights
        return self.__dict__ | {"held": [z.clone() for z in self.held], "_owners": None}

    def _hold(self, params: Tensors) -> None:
        """Copy the gradients into the buffer; 0 for weights without one."""
        self.held = self._buffers.gradients_of(params)

    def _add_up(self, params: Tensors) -> None:
        """If several parts climb: add up what is held; after the last part, `held` is the sum."""
        if self._parts == 1:
            return
        total = self._scratch.like(params)
        (add_ if self._seen else copy_)(total, self.held)
        self._seen += 1
        if self._seen == self._parts:
            copy_(self.held, total)

    def _with_gradients(self, params: Tensors) -> tuple[list[Tensor], list[Tensor], list[bool]]:
        """`held` and the gradients of the weights that have a gradient, and for each weight whether it has one."""
        return _present(params, self.held), gradients_of(params), [p.grad is not None for p in params]


def _present(params: Tensors, tensors: Tensors) -> list[Tensor]:
    """Of `tensors`, one per weight, those of weights with gradients."""
    return [t for t, p in zip(tensors, params, strict=True) if p.grad is not None]


def _chosen(values: Tensor, present: list[bool]) -> Tensor:
    """Of `values`, one per weight, those of weights with gradients."""
    return torch.stack(list(compress(values.unbind(), present)))
