"""Climb: the passes of a step, and its way from the weights to the perturbed ones.

    the whole batch                             part by part (m-SAM), each from theta

    pass at theta              g_0, L           pass of every part at theta, where the gradient of the whole is asked
    radius                     rho              radius
    theta + rho eps_hat(g_0)                    for each part: its pass at theta, its own ascent, its pass there,
    pass there                 g_rho            and back to theta; its gradients add up to g_rho

A perturbation with several ascents goes its share of rho in each, along the gradient where the one before has led.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..closures.closure import Closure, evaluate, parts_of
from ..groups import perturbed_parameters, unperturbed
from ..perturbations import Perturbation
from ..radius import Radius
from ..tensors import Buffers, GradientSum, add_consuming_, copy_, gradients_of, norm, zero_
from . import precision
from .composition import Composition
from .ranks import Group, Ranks
from .record import Flight, Slopes
from .replay import Passes
from .snapshot import checked_model


class Climb(Composition):
    """A composition that knows the network and the other processes, and can climb.

    Args:
        base_optimizer, perturbation, rho: as for `Composition`.
        model: whose buffers are looked after; None leaves buffers alone.
        process_group: the processes over which losses are averaged.
        m_sharpness: each process and each micro-batch climbs along its own gradient.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        base_optimizer: Optimizer,
        perturbation: Perturbation,
        rho: float | Radius,
        model: nn.Module | None,
        process_group: Group,
        m_sharpness: bool,
    ) -> None:
        super().__init__(base_optimizer, perturbation, rho)
        self._spared: set[Tensor] = set()
        if perturbation.perturbs != "all" and model is None:
            raise ValueError(
                f'`model` must be given for a {type(perturbation).__name__}, which perturbs "{perturbation.perturbs}" '
                "alone, got None"
            )
        self.model = model
        self._ranks = Ranks(process_group, m_sharpness or (perturbation.sub_batches > 1 and process_group is not None))
        self._ranks.check(self.model)
        self._reset_scratch()

    def _reset_scratch(self) -> None:
        """Forget all that serves within a step alone."""
        self._weights = Buffers()
        self._sum = GradientSum()
        self._grad_scaler: torch.amp.GradScaler | None = None

    @property
    def model(self) -> nn.Module | None:
        """The network whose buffers a step moves once."""
        return self._passes.model

    @model.setter
    def model(self, model: nn.Module | None) -> None:
        self._passes = Passes(model if model is None else checked_model(model, self._params()))
        if model is not None and self.perturbation.perturbs != "all":
            self._spared = set(self._params()) - perturbed_parameters(model, self.perturbation.perturbs)

    # --- the passes -----------------------------------------------------------------------------------------------

    def _train(self, closure: Closure) -> Tensor:
        """A training pass: buffers and random numbers as in every other one of this step."""
        self._passes.again()
        return self._evaluate(closure, "closure")

    def _validate(self, closure: Closure | None) -> Tensor:
        """A validation pass: it leaves no trace, and its random numbers are its own."""
        self._passes.aside(self._steps)
        return self._evaluate(closure, "validation_closure")

    def _evaluate(self, closure: Closure | None, name: str) -> Tensor:
        assert closure is not None
        self.zero_grad()  # a closure that forgets its backward() must not pass with the gradients of the pass before
        torch.clear_autocast_cache()  # casts of the weights before they moved, where autocast is around the whole step
        params = self._trainable()
        loss = evaluate(closure, name, params)
        precision.unscale_(self._grad_scaler, self, params)
        return self._ranks.mean(loss)

    def _probe(self, closure: Closure, flight: Flight) -> Tensor:
        """A further training pass at perturbed weights, for the radius."""
        loss = self._train(closure)
        flight.seen += [loss, norm(gradients_of(flight.params))]
        return loss

    # --- the way up -----------------------------------------------------------------------------------------------

    def _parts(self, closure: Closure) -> tuple[Closure, ...]:
        """What climbs along gradients of its own: the micro-batches of a closure in parts, else the whole batch."""
        apart = self._ranks.m_sharpness or self.perturbation.sub_batches > 1
        if not (apart and self.perturbation.ascends(self._steps)):
            return (closure,)
        parts = parts_of(closure)
        if len(parts) > 1 and type(self.perturbation).commit is not Perturbation.commit:
            raise ValueError(
                f"`m_sharpness` over micro-batches needs a perturbation that remembers nothing, as each of the "
                f"{len(parts)} would be taken for a step, got {type(self.perturbation).__name__}"
            )
        return parts

    def _look(self, closure: Closure, parts: Sequence[Closure]) -> tuple[Tensor | None, Slopes]:
        """The pass at the weights, where the perturbation or the radius of this step asks for it, else a loss of None.

        Micro-batches that climb apart make such a pass each, later: the perturbation asks for the gradient of the whole
        batch only to descend with it.
        """
        params, climbs, apart = self._trainable(), self.perturbation.ascends(self._steps), len(parts) > 1
        asked = self.perturbation.keeps_ascent_gradient if apart else self.perturbation.follows_gradient
        if climbs and not (asked or self.radius.reads_ascent(self._steps)):
            for param in params:
                param.grad = torch.zeros_like(param)  # the place for eps_hat
            return None, self._slopes(params)
        if apart:
            return self._look_apart(params, parts)
        with self._ranks.ascent_pass(self.model if climbs else None):
            loss = self._train(closure)
        self._passes.keep()
        return loss, self._slopes(params)

    def _look_apart(self, params: list[Tensor], parts: Sequence[Closure]) -> tuple[Tensor, Slopes]:
        """The same in parts: their gradients add up, and so do the lengths of these."""
        seen = [(loss, slopes.whole, slopes.climbed) for _, loss, slopes in self._in_turn(params, parts)]
        loss, whole, climbed = (torch.stack(values).sum() for values in zip(*seen, strict=True))
        return loss, Slopes(self._moves(params), whole, climbed)

    def _in_turn(self, params: list[Tensor], parts: Sequence[Closure]) -> Iterator[tuple[Closure, Tensor, Slopes]]:
        """A pass over each part, its loss and gradients; in the end, the gradients are the sum of what they left."""
        self._sum.clear()
        for part in parts:
            with self._ranks.ascent_pass(self.model):
                loss = self._train(part)
            self._passes.keep()
            yield part, loss, self._slopes(params)
            self._sum.add(params)
            self._passes.onward()
        self._passes.whole()
        self._sum.put(params)

    def _moves(self, params: list[Tensor]) -> list[bool]:
        """Which of the weights are perturbed: those with a gradient that are not excluded."""
        excluded = unperturbed(self.param_groups) | self._spared
        return [p.grad is not None and not (excluded and p in excluded) for p in params]

    def _slopes(self, params: list[Tensor]) -> Slopes:
        """Which gradients at the weights are climbed along, and how long they are."""
        moves = self._moves(params)
        moved, present = list(compress(params, moves)), gradients_of(params)
        if not moved:
            raise ValueError("there must be gradients in weights that are perturbed, got them in `perturb=False` only")
        whole = norm(present)
        return Slopes(moves, whole, whole if len(moved) == len(present) else norm(gradients_of(moved)))

    def _climb(self, flight: Flight, closure: Closure) -> None:
        """From g_0 at the weights to g_rho at the perturbed ones."""
        loss = self._climb_once(flight, flight.slopes, closure)
        if flight.loss is None:
            flight.loss = loss
            flight.gradient_norm = norm(gradients_of(flight.params))
            self._passes.keep()

    def _climb_apart(self, flight: Flight, parts: Sequence[Closure]) -> None:
        """The same part by part, each from the weights along its own gradient; the gradients found there add up."""
        seen: list[tuple[Tensor, Tensor]] = []
        for part, loss, slopes in self._in_turn(flight.params, parts):
            seen.append((loss, slopes.whole))
            self._climb_once(flight, slopes, part)
            copy_(flight.params, flight.weights)
        loss, length = (torch.stack(values).sum() for values in zip(*seen, strict=True))
        if flight.loss is None:
            flight.loss, flight.gradient_norm = loss, self._ranks.ascent_mean(length)
        flight.seen += [flight.loss, flight.gradient_norm]

    def _climb_once(self, flight: Flight, slopes: Slopes, closure: Closure) -> Tensor:
        """Along the gradients in place to where they lead, with all passes on the way; returns the last one's loss."""
        self._move(flight, slopes.moves, slopes.climbed)
        self._climb_on(flight, closure)
        self.radius.probe(flight.params, flight.weights, flight.rho, lambda: self._probe(closure, flight))
        perturbed = self._train(closure)
        flight.seen.append(perturbed)
        return perturbed

    def _move(self, flight: Flight, moves: list[bool], gradient_norm: Tensor) -> None:
        """Move along the gradients, which are used up by it; of several ascents, each goes its share of rho."""
        params, rho, ascents = flight.params, flight.rho, self.perturbation.ascents
        zero_(gradients_of([p for p, moving in zip(params, moves, strict=True) if not moving]))  # eps_hat
        moved = list(compress(params, moves))
        gradients = gradients_of(moved)
        given = self.perturbation.direction(moved, gradients, gradient_norm)
        factor, reach = self.radius.scale(
            list(compress(flight.weights, moves)),
            gradients,
            given,
            lambda: self.perturbation.reach(gradients, given, gradient_norm),
        )
        if rho.ndim:
            rho = torch.stack(list(compress(rho.unbind(), moves)))
        if ascents == 1:
            self.radius.see_direction(params, factor, reach)
        else:
            factor = factor / ascents
            for param, gradient in zip(moved, gradients, strict=True):
                part = gradient * factor.to(gradient.dtype)
                flight.eps_hat[param] = flight.eps_hat[param].add_(part) if param in flight.eps_hat else part
        add_consuming_(moved, gradients, rho * factor)

    def _climb_on(self, flight: Flight, closure: Closure) -> None:
        """The further ascents, each along the gradient where the one before has led."""
        if self.perturbation.ascents == 1:
            return
        for _ in range(1, self.perturbation.ascents):
            with self._ranks.ascent_pass(self.model):
                flight.seen.append(self._train(closure))
            slopes = self._slopes(flight.params)
            self._move(flight, slopes.moves, slopes.climbed)
        for param in flight.params:
            param.grad = flight.eps_hat.pop(param, None)
        whole = gradients_of(flight.params)
        self.radius.see_direction(flight.params, torch.ones_like(flight.gradient_norm), lambda: norm(whole))

    # --- copies ---------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_ranks": self._ranks, "_spared": self._spared}

    def _group_added(self) -> None:
        super()._group_added()
        self.model = self.model  # which weights are perturbed is found out again
