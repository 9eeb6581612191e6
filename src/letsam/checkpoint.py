"""Distributed checkpoints: model, base optimizer and radius, resumed on any number of processes.

    dcp.save({"training": letsam.DistributedState(model, opt)}, checkpoint_id=folder)
    dcp.load({"training": letsam.DistributedState(model, opt)}, checkpoint_id=folder)

torch's `get_optimizer_state_dict` steps a fresh optimizer once to learn what its state looks like, which only the base
optimizer can do; what is beyond it, the radius above all, is added here.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# (an optimizer's own state is its and this file's affair; torch's checkpoints carry few annotations)

from __future__ import annotations

import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from . import checks
from .optimizer import SharpnessAware
from .step.snapshot import checked_model
from .tensors.shards import is_dtensor


class DistributedState:
    """Everything that training resumes from, as a `torch.distributed.checkpoint.stateful.Stateful`.

    The parts of DTensors are saved by the processes that hold them, and so is Z of a learned radius, by the weights'
    names. A run may go on with another number of processes, or in one alone; with the same number it goes on as if it
    had not been interrupted. Learning rate schedulers and data loaders are saved beside it.

    Args:
        model: the network, wrapped or not.
        optimizer: a `SharpnessAware` of its weights.

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
        """The state, of the same structure at every step; between two steps only.

        Returns:
            A dictionary for `torch.distributed.checkpoint`: "model", "base_optimizer", "sharpness_aware" (bytes) and,
            for a learned radius, "Z".

        Raises:
            ValueError: the perturbation keeps DTensors of its own, which are not supported.
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
        """Take back what `state_dict` gave.

        Raises:
            ValueError: it comes from another kind of radius or perturbation. Nothing has changed then.
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
        if packed["fresh"]:
            base.state.clear()
        self.optimizer._load_own_state(own)

    def _base_state(self) -> tuple[dict[str, Any], list[str], bool]:
        """The base optimizer's state by name of the weights, the names of the trainable ones, and if it is fresh."""
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        base = self.optimizer.base_optimizer
        fresh = not base.state
        with _without_gradients(self.optimizer._parts.params()):
            state = get_optimizer_state_dict(self.model, base)
        if fresh:  # torch has stepped it, which a run that goes on must not notice
            base.state.clear()
        groups: Any = state["param_groups"]
        names = [name for group in groups for name in group["params"]]
        trainable = [p.requires_grad for p in self.optimizer._parts.params()]
        return dict(state), [name for name, kept in zip(names, trainable, strict=True) if kept], fresh


@contextmanager
def _without_gradients(params: list[Tensor]) -> Generator[None]:
    """Put the gradients aside: torch makes the state of a fresh optimizer only where there are none."""
    gradients = [p.grad for p in params]
    for p in params:
        p.grad = None
    try:
        yield
    finally:
        for p, gradient in zip(params, gradients, strict=True):
            p.grad = gradient


def _packed(own: dict[str, Any]) -> bytes:
    """Scalars and settings in one piece: their structure varies, which a distributed checkpoint does not allow."""
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
