"""Several optimizers as one: Muon for the matrices and AdamW for the rest, perturbed together with one radius."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from . import checks

OWNER = "optimizer"
"""Of a param group in a `state_dict`, and of one that is added: the number of its optimizer."""


class JointOptimizer(Optimizer):
    """Optimizers of different weights that step together. `letsam.SAM([muon, adamw])` makes one.

    The param groups are those of the optimizers, the same objects, in their order; groups that are added later follow.
    Each optimizer keeps its own state, defaults and hooks.

    Args:
        optimizers: at least one `torch.optim.Optimizer`; no weight may be in two of them.

    Attributes:
        optimizers: as given.

    Raises:
        TypeError: something else than optimizers.
        ValueError: there are none, or two of them hold the same weight.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 3)
        >>> joint = JointOptimizer([torch.optim.SGD([layer.weight], lr=0.1), torch.optim.Adam([layer.bias])])
        >>> [group["lr"] for group in joint.param_groups]
        [0.1, 0.001]
    """

    optimizers: tuple[Optimizer, ...] = ()

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        super().__init__([torch.empty(0)], {})  # sets up torch's hooks; the group is not added
        self._adopt(_checked(optimizers))

    def _adopt(self, optimizers: tuple[Optimizer, ...]) -> None:
        self.optimizers = optimizers
        self._states = JointState(optimizers)
        self._groups: list[dict[str, Any]] = []
        self._places: list[tuple[int, int]] = []  # for each group, its optimizer and its number there
        self._counts = [0] * len(optimizers)

    # --- torch's contract -------------------------------------------------------------------------------------------

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all optimizers, the same objects."""
        counts = [len(optimizer.param_groups) for optimizer in self.optimizers]
        if counts != self._counts:  # someone has added a group to one of the optimizers, or removed one
            self._places = [(owner, i) for owner, i in self._places if i < counts[owner]]
            known = set(self._places)
            new = [(owner, i) for owner, count in enumerate(counts) for i in range(count)]
            self._places += [place for place in new if place not in known]
            self._counts = counts
        self._groups[:] = [self.optimizers[owner].param_groups[i] for owner, i in self._places]
        return self._groups

    @param_groups.setter
    def param_groups(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, value: list[dict[str, Any]]
    ) -> None:
        if self.optimizers:  # not in torch's own __init__
            raise AttributeError("the param groups of several optimizers cannot be replaced: set those of each of them")

    @property
    def state(self) -> Any:
        """The states of all optimizers, by weight."""
        return self._states

    @state.setter
    def state(self, value: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        if self.optimizers:
            raise AttributeError("the state of several optimizers cannot be replaced: set that of each of them")

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults of the first optimizer that all others have, too."""
        first, *others = [optimizer.defaults for optimizer in self.optimizers]
        return {name: value for name, value in first.items() if all(name in other for other in others)}

    @defaults.setter
    def defaults(self, value: dict[str, Any]) -> None:
        if self.optimizers:
            raise AttributeError("the defaults of several optimizers cannot be replaced: set those of each of them")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the optimizer whose number it has under "optimizer", or else to the last one.

        Raises:
            ValueError: there is no such optimizer, or another optimizer has one of the weights.
        """
        if not self.optimizers:
            return  # torch's own __init__
        group = dict(param_group)
        owner = group.pop(OWNER, len(self.optimizers) - 1)
        if isinstance(owner, bool) or not isinstance(owner, int) or not 0 <= owner < len(self.optimizers):
            raise ValueError(
                f"`{OWNER}` of a param group must be the number of one of the {len(self.optimizers)} optimizers, "
                f"counted from 0, got {checks.shown(owner)}"
            )
        self.optimizers[owner].add_param_group(group)
        _, i = owner, len(self.optimizers[owner].param_groups) - 1
        held = {p for group in self.param_groups[:-1] for p in group["params"]}
        if not held.isdisjoint(self.optimizers[owner].param_groups[i]["params"]):
            self.drop_last()
            raise ValueError("`param_group` must hold weights that no other optimizer has, got some that are there")

    def drop_last(self) -> None:
        """Remove the group that was added last."""
        _ = self.param_groups  # brings the places up to date
        owner, i = self._places[-1]
        self.optimizers[owner].param_groups.pop(i)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all optimizers."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of each optimizer."""
        for optimizer in self.optimizers:
            optimizer.step()

    def owners(self) -> list[Optimizer]:
        """For each param group, the optimizer that it belongs to."""
        _ = self.param_groups  # brings the places up to date
        return [self.optimizers[owner] for owner, _ in self._places]

    def __getattr__(self, name: str) -> Any:
        """What the optimizers have and this one lacks; a method, such as `train`, is called on all that have it."""
        found = [getattr(one, name) for one in self.optimizers if not name.startswith("_") and hasattr(one, name)]
        if len(found) == 1:
            return found[0]
        if found and all(map(callable, found)):
            return _on_all(found)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}"
            + (": several of its `optimizers` have one" if found else ", nor has one of its `optimizers`")
        )

    # --- files and copies -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Torch's format, with the weights of all groups counted through; a group names its optimizer's number."""
        groups: list[dict[str, Any]] = []
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        other = next((i for i, state in enumerate(states) if not {"state", "param_groups"} <= state.keys()), None)
        if other is not None:
            kind = type(self.optimizers[other]).__name__
            raise ValueError(
                f"several optimizers can only be saved together in torch's format, got a {kind} with its own"
            )
        numbers: list[dict[Any, int]] = [{} for _ in states]
        _ = self.param_groups  # brings the places up to date
        for owner, i in self._places:
            group = states[owner]["param_groups"][i]
            first = sum(map(len, numbers))
            numbers[owner] |= {old: first + place for place, old in enumerate(group["params"])}
            groups.append({**group, "params": [numbers[owner][old] for old in group["params"]], OWNER: owner})
        merged = {
            number[key]: value
            for number, state in zip(numbers, states, strict=True)
            for key, value in state["state"].items()
            if key in number
        }
        kinds = [type(optimizer).__name__ for optimizer in self.optimizers]
        others = [_others(state, number, kind) for state, number, kind in zip(states, numbers, kinds, strict=True)]
        return {"state": dict(sorted(merged.items())), "param_groups": groups, "optimizers": others}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned.

        Raises:
            ValueError: the state is of other optimizers, or of groups of other sizes; nothing has changed then.
        """
        others, groups = self.check_state(state_dict)
        for owner, optimizer in enumerate(self.optimizers):
            own = [
                group
                for (holder, _), group in sorted(zip(self._places, groups, strict=True), key=_place)
                if holder == owner
            ]
            olds = [old for group in own for old in group["params"]]
            number = {old: place for place, old in enumerate(olds)}
            state = {number[old]: state_dict["state"][old] for old in olds if old in state_dict["state"]}
            extra = {key: value for key, value in others[owner].items() if key != "type"}
            state |= extra.pop("state", {})
            packed = [
                {k: v for k, v in group.items() if k != OWNER} | {"params": [number[old] for old in group["params"]]}
                for group in own
            ]
            optimizer.load_state_dict({"state": state, "param_groups": packed, **extra})

    def check_state(self, state_dict: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
        """What each optimizer saves besides torch's format, and the param groups; raises as `load_state_dict` does."""
        kinds = [type(optimizer).__name__ for optimizer in self.optimizers]
        others: Any = state_dict.get("optimizers", [{"type": kind} for kind in kinds])  # not in distributed checkpoints
        saved = [other["type"] for other in others]
        if kinds != saved:
            raise ValueError(f"`state_dict` must be that of the optimizers {kinds}, got {saved}")
        return others, self._checked_groups(state_dict["param_groups"])

    def _checked_groups(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        present = self.param_groups
        sizes, saved = ([len(group["params"]) for group in some] for some in (present, groups))
        if sizes != saved:
            raise ValueError(f"`state_dict` must have param groups of {sizes} weights, got {saved}")
        owners = [owner for owner, _ in self._places]
        named = [group.get(OWNER, owner) for group, owner in zip(groups, owners, strict=True)]
        if named != owners:
            raise ValueError(f"`state_dict` must have groups of the optimizers with numbers {owners}, got {named}")
        return groups

    def __getstate__(self) -> dict[str, Any]:
        _ = self.param_groups  # brings the places up to date
        return {"optimizers": self.optimizers, "_places": self._places, "_counts": self._counts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._adopt(state["optimizers"])
        super().__setstate__(state)


class JointState(MutableMapping[Any, Any]):
    """The states of several optimizers, by weight.

    Args:
        optimizers: each of which keeps its own.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = optimizers

    def _holder(self, key: object) -> Any:
        return next((one.state for one in self._optimizers if key in one.state), None)

    def __getitem__(self, key: Any) -> Any:
        holder = self._holder(key)
        if holder is None:
            raise KeyError(key)
        return holder[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        holder = self._holder(key)
        if holder is None:
            holding = (one for one in self._optimizers if any(key is p for g in one.param_groups for p in g["params"]))
            holder = next(holding, self._optimizers[0]).state
        holder[key] = value

    def __delitem__(self, key: Any) -> None:
        holder = self._holder(key)
        if holder is None:
            raise KeyError(key)
        del holder[key]

    def __contains__(self, key: object) -> bool:
        return self._holder(key) is not None

    def __iter__(self) -> Iterator[Any]:
        for one in self._optimizers:
            yield from one.state

    def __len__(self) -> int:
        return sum(len(one.state) for one in self._optimizers)


def optimizers_in(base: Optimizer) -> Sequence[Optimizer]:
    """The optimizers of a `JointOptimizer`, or `base` alone."""
    return base.optimizers if isinstance(base, JointOptimizer) else (base,)


def owners_of_groups(base: Optimizer) -> list[Optimizer]:
    """For each param group, the optimizer that steps it: `base` itself, or one of those in a `JointOptimizer`."""
    return base.owners() if isinstance(base, JointOptimizer) else [base] * len(base.param_groups)


def drop_last_group(base: Optimizer) -> None:
    """Remove the param group that was added last."""
    if isinstance(base, JointOptimizer):
        base.drop_last()
    else:
        base.param_groups.pop()


def _checked(optimizers: Sequence[Optimizer]) -> tuple[Optimizer, ...]:
    if not optimizers:
        raise ValueError("`base_optimizer` must hold at least one optimizer, got an empty list")
    seen: set[Tensor] = set()
    optimizers = [one for part in optimizers for one in optimizers_in(part)]
    for optimizer in optimizers:
        if not isinstance(optimizer, Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"`base_optimizer` must be a list of torch.optim.Optimizer, got {checks.shown(optimizer)}")
        params = {p for group in optimizer.param_groups for p in group["params"]}
        if not seen.isdisjoint(params):
            shapes = [tuple(p.shape) for p in seen & params]
            raise ValueError(
                "`base_optimizer` must hold every weight in one optimizer alone, got a weight of shape "
                f"{shapes[0]} in two of them"
            )
        seen |= params
    return tuple(optimizers)


def _on_all(methods: list[Callable[..., Any]]) -> Callable[..., None]:
    def call_all(*args: Any, **options: Any) -> None:
        for method in methods:
            method(*args, **options)

    return call_all


def _place(pair: tuple[tuple[int, int], Any]) -> tuple[int, int]:
    return pair[0]


def _others(state: dict[str, Any], numbers: dict[Any, int], kind: str) -> dict[str, Any]:
    """What an optimizer saves apart from the state of its weights, and its kind."""
    kept = {key: value for key, value in state.items() if key not in ("state", "param_groups")}
    loose = {key: value for key, value in cast(dict[Any, Any], state["state"]).items() if key not in numbers}
    return {"type": kind, **kept, **({"state": loose} if loose else {})}
