"""Update rules that are registered by the type of the base optimizer: how its new weight changes with the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import checks


class WeightUpdate(NamedTuple):
    """One weight in one step of a base optimizer, which has just been taken.

    Attributes:
        weight: the value before the step.
        gradient: what the optimizer descended with.
        state: the optimizer's state of this weight, after the step.
        group: the param group of this weight.
        fresh: whether the step has made the state.
    """

    weight: Tensor
    gradient: Tensor
    state: dict[str, Any]
    group: dict[str, Any]
    fresh: bool


UpdateRule = Callable[[Tensor, WeightUpdate], Tensor]

BUILT_IN = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop)
"""Classes whose rules are in `update_rules`."""

_RULES: dict[type[Optimizer], UpdateRule] = {}
_SAME_AS: dict[type[Optimizer], type[Optimizer]] = {}


def register_update_rule(kind: type[Optimizer], rule: UpdateRule | type[Optimizer]) -> None:
    """Tell the hypergradient how the update of a base optimizer depends on its gradient.

        Z = (d theta' / d g) H_rho eps_hat,    rule(change, update) = (d theta' / d g) change

    A rule holds for optimizers of exactly this type: subclasses may have another update. Without a rule of its own, an
    optimizer counts as theta' = theta - lr g. Registering again replaces the rule.

    Args:
        kind: a subclass of `torch.optim.Optimizer`.
        rule: a function that is called for each weight with a gradient, right after the optimizer's step. It gets
            `change`, the derivative of the gradient with respect to rho (in the shape of the weight), and `update`,
            which has the attributes `weight` (before the step), `gradient`, `state` (after the step), `group` and
            `fresh` (whether the step has made the state). It returns the derivative of the new weight, in the same
            shape, and must change none of its arguments. `.item()` in it would make the host wait for the device. Or
            another optimizer class with the same update, such as `torch.optim.SGD` for a subclass of it.

    Raises:
        TypeError: `kind` is not an optimizer class, or `rule` neither a function nor an optimizer class.
        ValueError: `rule` is a class without a rule.

    Example:
        >>> import torch, letsam
        >>> class HalfDescent(torch.optim.Optimizer):  # theta' = theta - lr g / (2 ||g||)
        ...     def __init__(self, params, lr):
        ...         super().__init__(params, {"lr": lr})
        ...     @torch.no_grad()
        ...     def step(self):
        ...         for group in self.param_groups:
        ...             for p in group["params"]:
        ...                 p -= group["lr"] * p.grad / (2 * p.grad.norm())
        >>> def rule(change, update):
        ...     g = update.gradient
        ...     along = g * (g * change).sum() / g.square().sum()
        ...     return -update.group["lr"] * (change - along) / (2 * g.norm())
        >>> letsam.register_update_rule(HalfDescent, rule)

    Reference:
        The factor d theta' / d g of arXiv:2408.08222, section 3.
    """
    if not (isinstance(kind, type) and issubclass(kind, Optimizer)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"`kind` must be a subclass of torch.optim.Optimizer, got {checks.shown(kind)}")
    if isinstance(rule, type) and issubclass(rule, Optimizer):
        rule = _SAME_AS.get(rule, rule)
        if rule not in BUILT_IN and rule not in _RULES:
            raise ValueError(f"`rule` must be a class with a rule of its own, got {rule.__name__}, which has none")
        _SAME_AS[kind] = rule
    elif callable(rule) and not isinstance(rule, type):  # pyright: ignore[reportUnknownArgumentType]
        _SAME_AS.pop(kind, None)
        _RULES[kind] = rule
    else:
        raise TypeError(f"`rule` must be a function or an optimizer class, got {checks.shown(rule)}")


def counts_as(base: Optimizer) -> type[Optimizer]:
    """The class whose rule holds for an optimizer: its own, or the one that was registered for it."""
    kind = type(base)
    return _SAME_AS.get(kind, kind)


def registered_rule(kind: type[Optimizer]) -> UpdateRule | None:
    """The rule that was registered for exactly this class; None if there is none."""
    return _RULES.get(kind)


def is_differentiated(base: Optimizer) -> bool:
    """Whether Z has the derivative of this optimizer's own update, rather than that of theta - lr g in its place."""
    return counts_as(base) in (*BUILT_IN, *_RULES)


def change_of(rule: UpdateRule, change: Tensor, update: WeightUpdate, kind: type[Optimizer]) -> Tensor:
    """The result of a registered rule; raises `ValueError` unless it is a tensor in the shape of the weight."""
    result: object = rule(change, update)
    if not (isinstance(result, Tensor) and result.shape == change.shape):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(
            f"the update rule registered for {kind.__name__} must return a tensor of shape {tuple(change.shape)}, got "
            f"{checks.shown(result)}"
        )
    return result
