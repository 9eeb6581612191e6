"""Wrapper: a `torch.optim.Optimizer` that wraps another one and shares its groups, state and defaults.

`state_dict` is that of the wrapped optimizer with one more entry for the subclass's own state. This module implements
torch's contract and nothing else; `letsam.optimizer` implements the step.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import checks
from ..joint import JointOptimizer, owners_of_groups
from ..tangent import Tangent

STATE_KEY = "sharpness_aware"


class Wrapper(Optimizer):
    """Everything of `torch.optim.Optimizer` except the step.

    Args:
        base_optimizer: any `torch.optim.Optimizer` whose step needs no closure, or a list of them.

    Raises:
        TypeError: not an optimizer, or one that calls closures of its own.
        ValueError: an empty list, or one in which two optimizers hold the same weight.
    """

    _under_way = False  # whether a closure of a step is running

    def __init__(self, base_optimizer: Optimizer | Sequence[Optimizer]) -> None:
        base = _checked_base(base_optimizer)
        # torch's own __init__ sets up its hooks; the groups that it makes go to a stand-in, since ours are the base's
        self.__dict__["base_optimizer"] = SimpleNamespace(param_groups=[], state={}, defaults={})
        super().__init__([torch.empty(0)], {})
        self.base_optimizer = base

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's groups, the same objects."""
        return self.base_optimizer.param_groups

    @param_groups.setter
    def param_groups(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, value: list[dict[str, Any]]
    ) -> None:
        self.base_optimizer.param_groups = value

    @property
    def state(self) -> Any:
        """The base optimizer's state."""
        return self.base_optimizer.state

    @state.setter
    def state(self, value: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.base_optimizer.state = value

    @property
    def defaults(self) -> dict[str, Any]:
        """The base optimizer's defaults."""
        return self.base_optimizer.defaults

    @defaults.setter
    def defaults(self, value: dict[str, Any]) -> None:
        self.base_optimizer.defaults = value

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer (see `torch.optim.Optimizer.add_param_group`)."""
        if not isinstance(self.base_optimizer, Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
            super().add_param_group(param_group)  # torch's __init__, into the stand-in
            return
        self._refuse_in_closure("add_param_group()")
        self.base_optimizer.add_param_group(param_group)
        self._group_added()

    def state_dict(self) -> dict[str, Any]:
        """The base optimizer's state_dict plus, under "sharpness_aware", radius, perturbation and counters.

        Returns:
            A dictionary for `torch.save` and for `load_state_dict` of a new object. It contains no scratch buffers. It
            contains Z (the size of the weights) only if the next step's update of a learned radius needs it.
        """
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        state_dict = {**self.base_optimizer.state_dict(), STATE_KEY: self._own_state()}
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        return state_dict

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned; training continues bit for bit.

        Args:
            state_dict: of an optimizer with the same groups, perturbation and kind of radius.

        Raises:
            ValueError: the state is of another kind of optimizer. Nothing has changed then.
            RuntimeError: called within a closure of `step`.
        """
        self._refuse_in_closure("load_state_dict()")
        state_dict = dict(state_dict)
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else dict(changed)
        own: Any = state_dict.pop(STATE_KEY, None)
        if not isinstance(own, dict) or not _is_of_base(state_dict, self.base_optimizer):
            raise _foreign_state()
        self._check_own_state(cast(dict[str, Any], own))
        self._check_groups(state_dict.get("param_groups", []))
        _check_shapes(state_dict, self.base_optimizer)
        if isinstance(state_dict.get("state"), dict):  # some optimizers change it
            state_dict["state"] = dict(state_dict["state"])
        self.base_optimizer.load_state_dict(state_dict)
        self._load_own_state(cast(dict[str, Any], own))
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def _refuse_in_closure(self, call: str) -> None:
        """Raise if a step is under way: its closure must not call the optimizer that runs it."""
        if self._under_way:
            raise RuntimeError(
                f"{call} was called within a closure of step() of the same optimizer: a closure only clears the "
                "gradients, computes the loss, calls backward() and returns the loss"
            )

    def __getattr__(self, name: str) -> Any:
        """What the base optimizer has and the wrapper lacks, such as `train` and `eval` of schedule-free optimizers.

        Private names do not pass through: some of them promise what only the base optimizer's own step does.
        """
        base = self.__dict__.get("base_optimizer")
        if isinstance(base, Optimizer) and not name.startswith("_") and hasattr(base, name):
            return getattr(base, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # --- for the subclass -----------------------------------------------------------------------------------

    def _group_added(self) -> None:
        """The base optimizer has a new group."""
        raise NotImplementedError

    def _own_state(self) -> dict[str, Any]:
        """The state that is saved under STATE_KEY."""
        raise NotImplementedError

    def _check_own_state(self, own: dict[str, Any]) -> None:
        """Raise `ValueError` unless `_load_own_state` will succeed; changes nothing."""
        raise NotImplementedError

    def _check_groups(self, groups: list[dict[str, Any]]) -> None:
        """Raise `ValueError` or `TypeError` for options of saved param groups that cannot be used."""
        raise NotImplementedError

    def _load_own_state(self, own: dict[str, Any]) -> None:
        """Restore the state that `_own_state` returned."""
        raise NotImplementedError


class Part(Protocol):
    """A radius or a perturbation."""

    @property
    def kind(self) -> str:
        """The kind of state that it accepts."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state; raises if it is damaged."""


def check_own_state(own: dict[str, Any], parts: Mapping[str, Part], tangent: Tangent | None) -> None:
    """Raise `ValueError` unless `own` is a complete state of an optimizer with these parts.

    Args:
        own: the state that was saved under STATE_KEY.
        parts: copies of the radius and the perturbation, by name; they are changed.
        tangent: a copy as well, or None; its state is saved with that of the radius.

    Raises:
        ValueError: another optimizer's state, other parts, or a damaged state.
    """
    if any(key not in own for key in (*parts, "steps", "skipped_steps", "peak_lr")):
        raise _foreign_state()
    for name, part in parts.items():
        state: Any = own[name]
        found: object = cast(dict[str, object], state).get("type") if isinstance(state, dict) else None
        if found != part.kind:
            raise ValueError(f"`state_dict` must hold a {part.kind} as its {name}, got {found}")
    try:
        for name, part in parts.items():
            part.load_state_dict(own[name])
        if tangent is not None:
            tangent.load_state_dict(own["radius"])
        checks.whole("steps", own["steps"], 0)
        for name in ("rested", "without_radius"):  # states of earlier versions lack them
            checks.whole(name, own.get(name, 0), 0)
        checks.saved("skipped_steps", own["skipped_steps"], lowest=0.0)
        checks.saved("peak_lr", own["peak_lr"], None, lowest=0.0)
    except Exception as error:
        raise ValueError(f"`state_dict` must be complete, got a damaged one ({error!r})") from error


def _is_of_base(state_dict: dict[str, Any], base: Optimizer) -> bool:
    """Whether a state has torch's format or, for an optimizer with a format of its own, the keys of that format."""
    if {"state", "param_groups"} <= state_dict.keys():
        return True
    return type(base).state_dict is not Optimizer.state_dict and base.state_dict().keys() == state_dict.keys()


def _check_shapes(state_dict: dict[str, Any], base: Optimizer) -> None:
    """Raise `ValueError` if the state of one of torch's own optimizers is of weights of other shapes.

    torch checks the number of weights alone. A tensor of the state has the shape of its weight, or one element;
    Adafactor's have others.
    """
    groups: Any = state_dict.get("param_groups", [])
    saved = [number for group in groups for number in group["params"]]
    kinds = [
        type(owner)
        for owner, group in zip(owners_of_groups(base), base.param_groups, strict=True)
        for _ in group["params"]
    ]
    params = [param for group in base.param_groups for param in group["params"]]
    if isinstance(base, JointOptimizer):
        base.check_state(state_dict)
    if len(saved) != len(params):
        return  # the optimizer says so itself
    for number, param, kind in zip(saved, params, kinds, strict=True):
        state: Any = state_dict["state"].get(number)
        if (
            not kind.__module__.startswith("torch.optim.")
            or kind is torch.optim.Adafactor
            or not isinstance(state, dict)
        ):
            continue
        for name, value in cast(dict[str, Any], state).items():
            if isinstance(value, Tensor) and value.numel() != 1 and value.shape != param.shape:
                raise ValueError(
                    f"`state_dict` must be of weights of the same shapes, got {name} of shape {tuple(value.shape)} for "
                    f"a weight of shape {tuple(param.shape)}"
                )


def _foreign_state() -> ValueError:
    return ValueError(
        f"`state_dict` must be one of a letsam optimizer (with the key {STATE_KEY!r}), got another optimizer's"
    )


def _checked_base(base: object) -> Optimizer:
    if isinstance(base, list | tuple):
        return JointOptimizer([_checked_base(one) for one in cast("Sequence[object]", base)])
    if not isinstance(base, Optimizer):
        raise TypeError(f"`base_optimizer` must be a torch.optim.Optimizer, got {checks.shown(base)}")
    if isinstance(base, torch.optim.SparseAdam):
        raise TypeError("`base_optimizer` must take dense gradients, got SparseAdam")
    if hasattr(base, "fused_backward"):  # LOMO
        found = type(base).__name__
        raise TypeError(f"`base_optimizer` must update the weights in step(), got {found}, which does in backward()")
    missing = [name for name in ("param_groups", "state", "defaults") if not hasattr(base, name)]
    if missing:
        raise TypeError(
            f"`base_optimizer` must have {', '.join(missing)}, as torch's optimizers do, got a {type(base).__name__} "
            "without: wrap the optimizer in it"
        )
    if isinstance(base, (Wrapper, torch.optim.LBFGS)) or _needs_closure(base):
        raise TypeError(f"`base_optimizer` must step without a closure of its own, got {type(base).__name__}")
    return base


def _needs_closure(base: Optimizer) -> bool:
    """Whether `step()` lacks an argument; torch's own hooks around it keep its signature."""
    try:
        parameters = inspect.signature(base.step).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
