"""Running a user's closures without leaving a trace."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..closures.closure import Closure
from ..optimizer import SharpnessAware
from ..step.randomness import devices_of, read_states, write_states
from ..tensors import Tensors, copy_, norm
from .findings import Finding, Pass, stale

NEARBY = 1e-2  # how far `run_nearby` goes in each tensor, as a share of its norm: enough to be seen in bf16


class Broken(Exception):
    """A closure whose passes cannot be looked at further."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class Climbed(Exception):
    """The weights are perturbed: all that `Bench.climb` wants of a step."""


class Bench:
    """A context that runs closures from one and the same state, and puts that state back at the end.

    Args:
        optimizer: whose weights they train.
        model: the network, if it is known.
    """

    def __init__(self, optimizer: SharpnessAware, model: nn.Module | None) -> None:
        self.optimizer = optimizer
        self.model = model
        held = [p for group in optimizer.param_groups for p in group["params"]]
        self._params = [p for p in held if p.requires_grad]
        self._used = False
        networks = networks_of(held, model)
        self._names = {p: f"parameter {i} of shape {tuple(p.shape)}" for i, p in enumerate(held)}
        self._names |= {p: name for network in networks for name, p in network.named_parameters()}
        self.weight_names = [self._names[p] for p in self._params]
        self._modules = {m: f"{name}." if name else "" for net in networks for name, m in net.named_modules()}

    def __enter__(self) -> Bench:
        self._weights = [p.detach().clone() for p in self._params]
        self._gradients = [(p, p.grad, None if p.grad is None else p.grad.clone()) for p in self._names]
        self._modes = [(module, module.training) for module in self._modules]
        self._buffers = [
            (module, name, tensor, None if tensor is None else tensor.detach().clone())
            for module in self._modules
            for name, tensor in module._buffers.items()
            if tensor is None or not is_lazy(tensor)
        ]
        self._random = read_states(devices_of(self._params))
        self._other_random = other_random()
        bases = (self.optimizer, self.optimizer.base_optimizer)
        self._hooks = [base.register_step_pre_hook(_no_step) for base in bases]
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._rewind()
        for param, gradient, value in self._gradients:
            param.grad = gradient
            if gradient is not None and value is not None:
                with torch.no_grad():
                    gradient.copy_(value)
        if "random" in self._other_random:
            random.setstate(self._other_random["random"])
        if "numpy" in self._other_random:
            sys.modules["numpy"].random.set_state(self._other_random["numpy"])

    @torch.no_grad()
    def _rewind(self) -> None:
        """Everything but the gradients and the generators that `step` does not replay either."""
        copy_(self._params, self._weights)
        for module, training in self._modes:
            module.training = training
        for module, name, tensor, value in self._buffers:
            module._buffers[name] = tensor
            if tensor is not None and value is not None:
                tensor.copy_(value)
        write_states(self._random)

    def run(
        self,
        closure: Closure,
        name: str,
        *,
        weights: Sequence[Tensor] | None = None,
        gradients: Sequence[Tensor | None] | None = None,
    ) -> Pass:
        """One pass.

        Args:
            closure: computes the loss, calls `backward()` and returns the loss.
            name: of the argument, for the findings.
            weights: where; at the optimizer's own unless given.
            gradients: left in place as if by a pass before; none unless given.

        Returns:
            What the pass gave.

        Raises:
            Broken: it gave no loss or no gradients.
        """
        if self._used:  # else writing the weights would spoil a graph that was made with them: see `_call`
            self._rewind()
        for param in self._names:
            param.grad = None
        for param, gradient in zip(self._params, gradients or (), strict=False):
            param.grad = None if gradient is None else gradient.clone()
        if weights is not None:
            with torch.no_grad():
                copy_(self._params, weights)
        torch.clear_autocast_cache()  # casts of the weights before they moved, where autocast is around the check
        before = other_random()
        returned = self._call(closure, name)
        self._used = True
        after = other_random()
        loss = _checked_loss(returned, name, self._params)
        return Pass(
            name,
            loss,
            self._weights,
            [None if p.grad is None else p.grad.detach().clone() for p in self._params],
            [
                (self._modules[module] + key, module)
                for module, key, _, value in self._buffers
                if not _equal(module._buffers.get(key), value)
            ],
            [kind for kind in before if pickle.dumps(before[kind]) != pickle.dumps(after[kind])],
        )

    def run_nearby(self, closure: Closure, here: Pass) -> Pass | None:
        """A pass a little way up the gradient; None where there is no gradient to go by."""
        if not here.finite() or norm(here.present) == 0:
            return None
        pairs = zip(here.weights, here.gradients, strict=True)
        return self.run(closure, here.name, weights=[_up(weight, gradient) for weight, gradient in pairs])

    def climb(self, closure: Closure, validation_closure: Closure | None) -> list[tuple[Tensor, Tensor] | None]:
        """The trainable weights to which the next step would climb, and where their direction is not 0.

        A copy of the optimizer takes the step, up to its second training pass. None for weights that the perturbation
        leaves out or that have no gradient; empty where there is no such pass.
        """
        self._rewind()
        twin = copy.copy(self.optimizer)
        twin.model = self.optimizer.model
        memo: dict[int, Any] = {id(p): p for p in self._params}
        parts = twin._parts
        parts.radius, parts.tangent, parts.perturbation = copy.deepcopy(
            (parts.radius, parts.tangent, parts.perturbation), memo
        )
        calls = [0]
        seen: list[tuple[Tensor, Tensor] | None] = []
        aimed: dict[Tensor, Tensor] = {}
        direction = twin.perturbation.direction

        def watched(weights: Tensors, gradients: Tensors, gradient_norm: Tensor) -> Tensor:
            factor = direction(weights, gradients, gradient_norm)
            climbs = factor != 0  # else the perturbation has decided on the device not to
            pairs = zip(weights, gradients, strict=True)
            aimed.update((weight, (gradient != 0) & climbs.to(gradient.device)) for weight, gradient in pairs)
            return factor

        twin.perturbation.direction = watched

        def until_perturbed() -> Tensor:
            calls[0] += 1
            if calls[0] == 2:
                seen.extend((p.detach().clone(), aimed[p]) if p in aimed else None for p in self._params)
                raise Climbed
            return closure()

        with suppress(Climbed, Broken):  # Broken: the base optimizer was about to step, without a second pass
            twin.step(until_perturbed, validation_closure)
        return seen

    def _call(self, closure: Closure, name: str) -> object:
        try:
            with torch.enable_grad():
                return closure()
        except RuntimeError as error:
            # An in-place operation that spoils the very first pass is the network's own.
            if "a second time" in str(error) or (self._used and "modified by an inplace operation" in str(error)):
                raise Broken(stale(name, "its backward() goes through a graph that was made before")) from error
            if "does not require grad" in str(error):
                raise Broken(_without_grad(name)) from error
            raise


def networks_of(params: Sequence[Tensor], model: nn.Module | None) -> list[nn.Module]:
    """`model`, or else the outermost of all living modules that hold one of `params`.

    A loop that has not given its model to the optimizer has not given it to the check either; its buffers must be put
    back all the same.
    """
    if model is not None:
        return [model]
    known = set(params)
    living = [o for o in gc.get_objects() if issubclass(type(o), nn.Module) and "_modules" in vars(o)]
    holding = [module for module in living if not known.isdisjoint(module.parameters())]
    inner = {part for module in holding for part in module.modules() if part is not module}
    return [module for module in holding if module not in inner]


def _up(weight: Tensor, gradient: Tensor | None) -> Tensor:
    if gradient is None:
        return weight
    length = norm([gradient]).clamp(min=torch.finfo(torch.float32).tiny)
    return weight + (NEARBY * norm([weight]).clamp(min=NEARBY) / length).to(weight.dtype) * gradient


def other_random() -> dict[str, Any]:
    """The states of the generators that `step` does not replay: Python's, and NumPy's where it is in use."""
    states: dict[str, Any] = {"random": random.getstate()}
    if "numpy" in sys.modules:
        states["numpy"] = sys.modules["numpy"].random.get_state()
    return states


def _no_step(optimizer: object, args: object, kwargs: object) -> None:
    raise Broken(
        Finding(
            "closure-steps",
            "a closure calls the optimizer's step(), which calls the closures: it must compute the loss, call "
            "backward() and return the loss, no more",
        )
    )


def _checked_loss(returned: object, name: str, params: Sequence[Tensor]) -> Tensor:
    """The loss (0-dim, detached), or `Broken`."""
    if returned is None:
        raise Broken(Finding("no-return", f"`{name}` returns nothing: end it with `return loss`"))
    if not isinstance(returned, Tensor):
        found = type(returned).__name__
        message = f"`{name}` must return the loss as a tensor, got a {found}: return loss, without item() or float()"
        raise Broken(Finding("no-tensor", message))
    if returned.numel() != 1:
        shape = tuple(returned.shape)
        message = f"`{name}` must return a scalar loss, got a tensor of shape {shape}: take its mean"
        raise Broken(Finding("no-scalar", message))
    gradients = [p.grad for p in params if p.grad is not None]
    if not gradients and not returned.requires_grad:
        raise Broken(_without_grad(name))
    if not gradients:
        message = (
            f"`{name}` leaves no gradients in the optimizer's weights: call loss.backward() in it, and make the "
            "optimizer from the model that it uses"
        )
        raise Broken(Finding("no-gradients", message))
    if any(gradient.layout != torch.strided for gradient in gradients):
        message = f"`{name}` must leave dense gradients, got sparse ones: use sparse=False in the embedding"
        raise Broken(Finding("sparse-gradients", message))
    return returned.detach().reshape(()).clone()


def _without_grad(name: str) -> Finding:
    return Finding(
        "loss-without-grad",
        f"the loss of `{name}` does not depend on weights that require gradients: look for detach(), item(), numpy() "
        "or torch.no_grad() on its way, and for requires_grad_(False)",
    )


def _equal(left: Tensor | None, right: Tensor | None) -> bool:
    if left is None or right is None:
        return left is right
    return torch.equal(left, right)
