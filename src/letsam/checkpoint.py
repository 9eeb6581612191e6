"""Distributed checkpoints of model, base optimizer and radius, which resume on any number of processes.

    dcp.save({"training": letsam.DistributedState(model, opt)}, checkpoint_id=folder)
    dcp.load({"training": letsam.DistributedState(model, opt)}, checkpoint_id=folder)

torch's `get_optimizer_state_dict` calls `step()` of a new optimizer once to create its state. A `SharpnessAware` step
needs a closure, so torch is given the base optimizer, and the state of the radius and the perturbation is added here.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# (this file saves the optimizer's private state; torch's checkpoint functions have few annotations)

from __future__ import annotations

import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from . import checks
from .joint import optimizers_in
from .optimizer import SharpnessAware
from .step.snapshot import checked_model
from .tensors.shards import is_dtensor


class DistributedState:
    """The training state of a model and its optimizer, a `torch.distributed.checkpoint.stateful.Stateful`.

    Each process saves its local parts of DTensors. The same holds for Z = d theta' / d rho of a learned radius, which
    is saved by parameter name. A run can resume on a different number of processes, down to one; on the same number it
    continues bit for bit. Save learning rate schedulers and data loaders separately.

    Args:
        model: the network, wrapped or not.
        optimizer: a `SharpnessAware` optimizer of its weights.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: the optimizer's weights are not those of the model.

    Example:
        >>> import tempfile, torch, letsam, torch.distributed.checkpoint as dcp
        >>> model = torch.nn.Linear(2, 1)
        >>> opt = letsam.SAM(torch.optim.Adam(model.parameters()), rho=letsam.LearnedRadius(0.05))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = dcp.save({"training": letsam.DistributedState(model, opt)}, checkpoint_id=folder)
        ...     dcp.load({"training": letsam.DistributedState(model, opt)}, checkpoint_id=folder)
        >>> opt.rho
        tensor(0.0500)
    """

    def __init__(self, model: nn.Module, optimizer: SharpnessAware) -> None:
        if not isinstance(optimizer, SharpnessAware):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"`optimizer` must be a letsam optimizer, got {checks.shown(optimizer)}")
        self.model = checked_model(model, optimizer._parts.params())
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """The state, with the same structure after every step; call it between steps, not within one.

        Returns:
            A dictionary for `torch.distributed.checkpoint`: "model", "base_optimizer", "sharpness_aware" (bytes) and,
            for a learned radius, "Z".

        Raises:
            ValueError: the perturbation's state contains DTensors, which is not supported.
        """
        from torch.distributed.checkpoint.state_dict import get_model_state_dict

        base, names, fresh = self._base_state()
        own = self.optimizer._own_state()
        held: dict[int, Tensor] = own["radius"].pop("Z", {})
        state = {
            "model": get_model_state_dict(self.model),
            "base_optimizer": base,
            "sharpness_aware": _packed({"own": own, "holds_Z": bool(held), "fresh": fresh}),
        }
        if self.optimizer.radius.learns:
            params = self.optimizer._parts.trainable()
            held = held or {i: torch.zeros_like(p, requires_grad=False) for i, p in enumerate(params)}
            state["Z"] = {name: held[i] for i, name in enumerate(names)}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned.

        Raises:
            ValueError: the state is that of another kind of radius or perturbation; nothing has been changed.
        """
        from torch.distributed.checkpoint.state_dict import set_model_state_dict, set_optimizer_state_dict

        packed: Any = torch.load(io.BytesIO(state_dict["sharpness_aware"]), map_location="cpu", weights_only=True)
        own, base = packed["own"], self.optimizer.base_optimizer
        if packed["holds_Z"]:
            own["radius"]["Z"] = {i: state_dict["Z"][name] for i, name in enumerate(self._base_state()[1])}
        self.optimizer._check_own_state(own)
        set_model_state_dict(self.model, state_dict["model"])
        with _without_gradients(self.optimizer._parts.params()):
            set_optimizer_state_dict(self.model, base, state_dict["base_optimizer"])
        fresh: Any = packed["fresh"]
        _clear(optimizers_in(base), cast("list[bool]", fresh if isinstance(fresh, list) else [fresh]))
        self.optimizer._load_own_state(own)

    def _base_state(self) -> tuple[dict[str, Any], list[str], list[bool]]:
        """The base optimizer's state by parameter name, the trainable parameters' names, and which had no state."""
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        base = self.optimizer.base_optimizer
        parts = optimizers_in(base)
        fresh = [not one.state for one in parts]
        with _without_gradients(self.optimizer._parts.params()):
            for one, new in zip(parts, fresh, strict=True):
                if new and not all(fresh):  # torch creates the state of a whole optimizer or none
                    get_optimizer_state_dict(self.model, one)
            state = get_optimizer_state_dict(self.model, base)
        _clear(parts, fresh)  # undo the step that torch took to create the state
        groups: Any = state["param_groups"]
        names = [name for group in groups for name in group["params"]]
        trainable = [p.requires_grad for p in self.optimizer._parts.params()]
        return dict(state), [name for name, kept in zip(names, trainable, strict=True) if kept], fresh


@contextmanager
def _without_gradients(params: list[Tensor]) -> Generator[None]:
    """Hide the gradients: torch creates the state of a new optimizer only if there are none."""
    gradients = [p.grad for p in params]
    for p in params:
        p.grad = None
    try:
        yield
    finally:
        for p, gradient in zip(params, gradients, strict=True):
            p.grad = gradient


def _clear(optimizers: Sequence[Optimizer], which: Sequence[bool]) -> None:
    """Forget the state of some optimizers."""
    for optimizer, forget in zip(optimizers, which, strict=True):
        if forget:
            optimizer.state.clear()


def _packed(own: dict[str, Any]) -> bytes:
    """Serialize scalars and settings to bytes: their structure may vary, which a distributed checkpoint forbids."""
    if _holds_dtensor(own):
        raise ValueError("`optimizer` must have a perturbation whose state holds no DTensors, got some")
    file = io.BytesIO()
    torch.save(own, file)
    return file.getvalue()


def _holds_dtensor(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_dtensor(part) for part in cast(dict[Any, Any], value).values())
    if isinstance(value, (list, tuple)):
        return any(_holds_dtensor(part) for part in cast(Sequence[Any], value))
    return is_dtensor(value)
