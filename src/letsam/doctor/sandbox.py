"""Run a user's closures and restore all state afterwards."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from ..closures.closure import Closure, one_row
from ..closures.returned import SkipStep, unpacked
from ..joint import optimizers_in
from ..optimizer import SharpnessAware
from ..step.frozen_parameters import FrozenParameters
from ..step.module_state import BUILT_IN
from ..step.plain_values import NUMBERS_AND_NAMES, is_container, is_plain
from ..step.randomness import devices_of
from ..step.snapshot import Snapshot
from ..tensors import Tensors, copy_, norm
from .findings import Finding, Pass, stale

NEARBY = 1e-2  # distance that `run_nearby` moves each tensor, relative to its norm: enough to change bf16 weights


class UnusableClosure(Exception):
    """A closure that cannot be run or whose result cannot be used, so that the check ends."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class WeightsPerturbed(Exception):
    """Raised at the second training pass, to leave a step once the weights are perturbed; see `Sandbox.climb`."""


class Sandbox:
    """A context manager that runs each closure from the same state and restores that state at the end.

    Args:
        optimizer: the optimizer of the weights that the closures train.
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
        known = set(self._modules)
        others = [module for module in living_modules() if module not in known]
        self._outside = [_Outside(network, known) for network in outermost(others)]

    def __enter__(self) -> Sandbox:
        self._before = Snapshot()
        self._before.take_all(list(self._modules), self._params, devices_of(self._params), list(self._names))
        self._weights = self._before.weights
        for other in self._outside:
            other.take(self._params)
        self._other_random = unreplayed_states()
        bases = {self.optimizer, self.optimizer.base_optimizer, *optimizers_in(self.optimizer.base_optimizer)}
        self._hooks = [base.register_step_pre_hook(_no_step) for base in bases]
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._restore()
        self._before.restore_gradients()
        if "random" in self._other_random:
            random.setstate(self._other_random["random"])
        if "numpy" in self._other_random:
            sys.modules["numpy"].random.set_state(self._other_random["numpy"])

    def run(
        self,
        closure: Closure,
        name: str,
        *,
        weights: Sequence[Tensor] | None = None,
        gradients: Sequence[Tensor | None] | None = None,
    ) -> Pass:
        """Run one pass.

        Args:
            closure: computes the loss, calls `backward()` and returns the loss.
            name: name of the argument, for the findings.
            weights: values of the weights during the pass; None: the current ones.
            gradients: gradients that a previous pass would have left; None: no gradients.

        Returns:
            The results of the pass.

        Raises:
            UnusableClosure: there is no loss or no gradient.
        """
        if self._used:  # before the first pass, writing the weights would invalidate graphs made with them: see `_call`
            self._restore()
        for param in self._names:
            param.grad = None
        for param, gradient in zip(self._params, gradients or (), strict=False):
            param.grad = None if gradient is None else gradient.clone()
        if weights is not None:
            with torch.no_grad():
                copy_(self._params, weights)
        torch.clear_autocast_cache()  # under autocast, drop the casts of the previous weights
        before, objects = unreplayed_states(), objects_of(self._modules)
        versions, here = [p._version for p in self._params], self._weights if weights is None else weights
        returned = self._call(closure, name)
        self._used = True
        after, changed = unreplayed_states(), objects_of(self._modules)
        loss = _checked_loss(_loss_of(returned, name), name, self._params)
        return Pass(
            name,
            loss,
            self._weights,
            [None if p.grad is None else p.grad.detach().clone() for p in self._params],
            [
                *((self._modules[module] + key, module) for module, key in self._before.state.changes()),
                *(pair for other in self._outside for pair in other.changes()),
            ],
            [self._modules[module].rstrip(".") or type(module).__name__ for module in self._before.changed_modes()],
            [kind for kind in before if pickle.dumps(before[kind]) != pickle.dumps(after[kind])],
            [name for name, seen in changed.items() if name in objects and objects[name] != seen],
            [
                name
                for name, p, value, version in zip(self.weight_names, self._params, here, versions, strict=True)
                if p._version != version and not torch.equal(p.detach(), value)
            ],
        )

    def run_nearby(self, closure: Closure, here: Pass) -> Pass | None:
        """Run a pass at weights moved slightly along the gradient; None if the gradient is 0 or not finite."""
        if not here.finite() or norm(here.present) == 0:
            return None
        pairs = zip(here.weights, here.gradients, strict=True)
        return self.run(closure, here.name, weights=[_step_uphill(weight, gradient) for weight, gradient in pairs])

    def climb(self, closure: Closure, validation_closure: Closure | None) -> list[tuple[Tensor, Tensor] | None]:
        """The perturbed weights of the next step.

        A copy of the optimizer takes the step up to its second training pass.

        Returns:
            For each trainable weight, its perturbed value and a mask of the entries whose direction is not 0; None for
            weights that are not perturbed or have no gradient. Empty if the step has no second pass.
        """
        self._restore()
        twin = copy.copy(self.optimizer)
        twin.model = self.optimizer.model
        twin.active = None
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
            climbs = factor != 0  # 0: the perturbation has decided on the device not to climb
            pairs = zip(weights, gradients, strict=True)
            aimed.update((weight, (gradient != 0) & climbs.to(gradient.device)) for weight, gradient in pairs)
            return factor

        twin.perturbation.direction = watched

        def until_perturbed() -> Tensor:
            calls[0] += 1
            if calls[0] == 2:
                record = twin._record
                assert record is not None
                climbing = {
                    p for p, rho in zip(record.params, record.rho.expand(len(record.params)), strict=True) if rho
                }
                moved = climbing & set(aimed)  # a param group or layer may have a radius of 0
                seen.extend((p.detach().clone(), aimed[p]) if p in moved else None for p in self._params)
                raise WeightsPerturbed
            return closure()

        # UnusableClosure: the base optimizer was about to step, and there was no second pass
        with suppress(WeightsPerturbed, UnusableClosure):
            twin.step(until_perturbed, validation_closure)
        return seen

    def _restore(self) -> None:
        self._before.restore()
        for other in self._outside:
            other.restore()

    def _call(self, closure: Closure, name: str) -> object:
        try:
            with torch.enable_grad():
                return closure()
        except SkipStep as skip:
            message = f"`{name}` raises SkipStep, so nothing can be checked: call check() with a batch that is used"
            raise UnusableClosure(Finding("skipped-batch", message, "warning")) from skip
        except RuntimeError as error:
            # In the first pass, an in-place operation that breaks the graph is the network's own, not a stale graph.
            if "a second time" in str(error) or (self._used and "modified by an inplace operation" in str(error)):
                raise UnusableClosure(stale(name, "its backward() goes through an earlier graph")) from error
            if "does not require grad" in str(error):
                raise UnusableClosure(_without_grad(name)) from error
            raise
        except ValueError as error:
            if one_row(error):
                message = (
                    f"`{name}` has a batch of one row, for which BatchNorm has no variance: use drop_last=True in its "
                    "loader, or another batch_size"
                )
                raise UnusableClosure(Finding("one-row-batch", message)) from error
            raise


class _Outside:
    """A network that is not the one of the check, but that a closure may run: a teacher, a metric, a model around it.

    Args:
        network: the outermost module.
        known: its modules that are part of the check's network.
    """

    def __init__(self, network: nn.Module, known: set[nn.Module]) -> None:
        prefix = type(network).__name__
        named = [(name, module) for name, module in network.named_modules() if module not in known]
        self._modules = {module: f"{prefix}.{name}".rstrip(".") for name, module in named}
        self._before = Snapshot()

    def take(self, weights: Sequence[Tensor]) -> None:
        """Copy its state; parameters only if they are not larger than the weights."""
        modules = list(self._modules)
        self._before.take(modules, (), weights, FrozenParameters().begin(modules, weights))

    def changes(self) -> list[tuple[str, nn.Module]]:
        """What has changed, with the module that has it."""
        return [(f"{self._modules[module]}.{name}", module) for module, name in self._before.state.changes()]

    @torch.no_grad()
    def restore(self) -> None:
        """Put its state back if it has changed; others may use it at the same time."""
        if self._before.changed_modes() or self.changes():
            self._before.restore()


def networks_of(params: Sequence[Tensor], model: nn.Module | None) -> list[nn.Module]:
    """`[model]`, or if there is none, the outermost of all existing modules that hold one of `params`.

    A loop that does not pass its model to the optimizer often does not pass it to the check either, but its buffers
    must be restored all the same.
    """
    if model is not None:
        return [model]
    known = set(params)
    return outermost([module for module in living_modules() if not known.isdisjoint(module.parameters())])


def living_modules() -> list[nn.Module]:
    """All modules that exist."""
    return [o for o in gc.get_objects() if issubclass(type(o), nn.Module) and "_modules" in vars(o)]


def outermost(modules: Sequence[nn.Module]) -> list[nn.Module]:
    """Those that are part of no other."""
    inner = {part for module in modules for part in module.modules() if part is not module}
    return [module for module in modules if module not in inner]


def objects_of(modules: Mapping[nn.Module, str]) -> dict[str, object]:
    """What can be seen of the attributes of modules that are not plain values, by name: numbers inside, and arrays."""
    found: dict[str, object] = {}
    for module, prefix in modules.items():
        for name, value in vars(module).items():
            if not (name in BUILT_IN or is_plain(value) or callable(value) or isinstance(value, nn.Module)):
                found[prefix + name] = _seen_of(value)
    return found


def _seen_of(value: Any) -> object:
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):  # an array of NumPy
        return value.tobytes()
    entries = getattr(value, "__dict__", {})
    numbers = {name: entry for name, entry in entries.items() if type(entry) in NUMBERS_AND_NAMES}
    sizes = {name: len(entry) for name, entry in entries.items() if is_container(entry)}
    tensors = {name: (id(entry), entry._version) for name, entry in entries.items() if isinstance(entry, Tensor)}
    arrays = {name: entry.tobytes() for name, entry in entries.items() if hasattr(entry, "tobytes")}
    return id(value), numbers, sizes, tensors, arrays


def _step_uphill(weight: Tensor, gradient: Tensor | None) -> Tensor:
    if gradient is None:
        return weight
    length = norm([gradient]).clamp(min=torch.finfo(torch.float32).tiny)
    return weight + (NEARBY * norm([weight]).clamp(min=NEARBY) / length).to(weight.dtype) * gradient


def unreplayed_states() -> dict[str, Any]:
    """The states of the generators that `step` does not replay: Python's, and NumPy's if it has been imported."""
    states: dict[str, Any] = {"random": random.getstate()}
    if "numpy" in sys.modules:
        states["numpy"] = sys.modules["numpy"].random.get_state()
    return states


def _no_step(optimizer: object, args: object, kwargs: object) -> None:
    raise UnusableClosure(
        Finding(
            "closure-steps",
            "a closure calls the optimizer's step(), which itself calls the closures: a closure must only compute the "
            "loss, call backward() and return the loss",
        )
    )


def _loss_of(returned: object, name: str) -> object:
    """The loss, alone or in a pair (loss, outputs)."""
    try:
        return unpacked(returned, name).loss
    except TypeError as error:
        raise UnusableClosure(Finding("no-tensor", str(error))) from error


def _checked_loss(returned: object, name: str, params: Sequence[Tensor]) -> Tensor:
    """The loss (0-dim, detached); raises `UnusableClosure` if the closure's result is wrong."""
    if returned is None:
        raise UnusableClosure(Finding("no-return", f"`{name}` returns nothing: end it with `return loss`"))
    if not isinstance(returned, Tensor):
        found = type(returned).__name__
        message = f"`{name}` must return the loss as a tensor, got a {found}: return loss, without item() or float()"
        raise UnusableClosure(Finding("no-tensor", message))
    if returned.numel() != 1:
        shape = tuple(returned.shape)
        message = f"`{name}` must return a scalar loss, got a tensor of shape {shape}: take its mean"
        raise UnusableClosure(Finding("no-scalar", message))
    gradients = [p.grad for p in params if p.grad is not None]
    if not gradients and not returned.requires_grad:
        raise UnusableClosure(_without_grad(name))
    if not gradients:
        message = (
            f"`{name}` leaves no gradients in the optimizer's weights: call loss.backward() in it, and construct the "
            "optimizer with the parameters of the model that it uses"
        )
        raise UnusableClosure(Finding("no-gradients", message))
    if any(gradient.layout != torch.strided for gradient in gradients):
        message = f"`{name}` must leave dense gradients, got sparse ones: use sparse=False in the embedding"
        raise UnusableClosure(Finding("sparse-gradients", message))
    return returned.detach().reshape(()).clone()


def _without_grad(name: str) -> Finding:
    return Finding(
        "loss-without-grad",
        f"the loss of `{name}` does not depend on weights that require gradients: look for detach(), item(), numpy() "
        "or torch.no_grad() in its computation, and for requires_grad_(False)",
    )
