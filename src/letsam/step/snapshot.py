"""Snapshots: what passes change besides the gradients, copied and restored. For steps, the doctor, sharpness measures.

The state of modules (buffers, plain attributes, parameters that are not trained) is a `ModuleState`; a `Snapshot` adds
training modes, random numbers, weights and gradients.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from operator import attrgetter

import torch
from torch import Tensor, nn

from ..checks import checked_module
from ..tensors import copy_
from .frozen_parameters import FrozenParameters
from .module_state import ModuleState
from .randomness import States, read_states, write_states


class Snapshot:
    """What passes change, at one moment. Its memory is used again at the next one.

    `take` copies what every pass of a step must begin with: state and modes of modules, and random numbers. `take_all`
    copies weights and gradients, too, so that `restore` leaves no trace of passes that others have made.
    """

    def __init__(self) -> None:
        self.state = ModuleState()
        self.random: States = {}
        self.weights: list[Tensor] = []
        self._params: list[Tensor] = []
        self._modules: Sequence[nn.Module] = ()
        self._modes: list[bool] = []
        self._gradients: list[tuple[Tensor, Tensor | None, Tensor | None]] = []

    def take(
        self,
        modules: Sequence[nn.Module],
        devices: Iterable[torch.device],
        weights: Sequence[Tensor] = (),
        frozen: Sequence[Tensor] = (),
    ) -> None:
        """Copy state and modes of these modules, and the states of the random generators of these devices.

        Args:
            modules: each module itself, not only the outermost.
            devices: of the random generators; none to leave random numbers alone.
            weights: what is trained, which is not part of the state.
            frozen: parameters that are part of it.
        """
        self.random = read_states(devices)
        self._modules = modules
        self._modes = list(map(_mode, modules))
        self.state.take(modules, weights, frozen)

    @torch.no_grad()
    def take_all(
        self,
        modules: Sequence[nn.Module],
        params: Sequence[Tensor],
        devices: Iterable[torch.device],
        graded: Sequence[Tensor] | None = None,
    ) -> None:
        """The same, and the weights and the gradients.

        Args:
            modules: as for `take`; their other parameters are copied if they are not larger than the weights.
            params: the weights.
            devices: as for `take`.
            graded: the tensors whose gradients are kept; None: the weights.
        """
        graded = params if graded is None else graded
        self.take(modules, devices, params, FrozenParameters().begin(modules, params))
        self._params, self.weights = list(params), [p.detach().clone() for p in params]
        self._gradients = [(p, p.grad, None if p.grad is None else p.grad.detach().clone()) for p in graded]

    @torch.no_grad()
    def restore(self, now: Snapshot | None = None) -> None:
        """Put everything back that was taken, bit for bit, except the gradients.

        Args:
            now: a snapshot of the present, if there is one; it saves time.
        """
        copy_(self._params, self.weights)
        self.restore_modes()
        write_states(self.random)
        self.state.put_back(None if now is None else now.state)

    def restore_where(self, flag: Tensor, other: Snapshot) -> None:
        """The same; where `flag` (0-dim bool, not read) is False, the tensors of modules as in another snapshot."""
        self.restore_modes()
        write_states(self.random)
        self.state.keep_where(flag, other.state)

    def changed_modes(self) -> list[nn.Module]:
        """The modules whose training modes have changed."""
        return [m for m, mode in zip(self._modules, self._modes, strict=True) if m.training != mode]

    def restore_modes(self) -> None:
        """Put the training modes of the modules back."""
        if list(map(_mode, self._modules)) != self._modes:
            for module, training in zip(self._modules, self._modes, strict=True):
                module.training = training

    @torch.no_grad()
    def restore_gradients(self) -> None:
        """Put the gradients back: the tensors that they were, with their values."""
        for param, gradient, value in self._gradients:
            param.grad = gradient
            if gradient is not None and value is not None:
                gradient.copy_(value)


_mode = attrgetter("training")


def checked_model(model: object, weights: Iterable[Tensor]) -> nn.Module:
    """Return `model` if it is a module that holds at least one of `weights`; raise otherwise."""
    module = checked_module(model)
    if {id(w) for w in weights}.isdisjoint(id(p) for p in module.parameters()):
        raise ValueError(
            f"`model` must hold the weights of the optimizer, got a {type(module).__name__} with none of them"
        )
    return module


@contextmanager
def frozen_statistics(model: nn.Module) -> Generator[None]:
    """A context whose passes do not change the state of `model`, such as BatchNorm's running statistics.

    The layers compute as usual, in training mode with the statistics of the batch. On exit every buffer
    (`running_mean`, `running_var`, `num_batches_tracked`, and those of any other module), every plain attribute and
    every parameter that does not require gradients has the value that it had on entry, also if the body raises
    (docs/how-to/state-of-modules.md). It may be nested. Run the backward pass inside as well. A `SharpnessAware` that
    was given `model` does this itself; this is for your own passes, such as a measurement in training mode.

    Args:
        model: the network, wrapped (DDP, Fabric, `torch.compile`) or not; must not be moved to another device inside.

    Yields:
        Nothing.

    Raises:
        TypeError: `model` is not a module.

    Example:
        >>> import torch, letsam
        >>> layer = torch.nn.BatchNorm1d(2)
        >>> with letsam.frozen_statistics(layer):
        ...     _ = layer(torch.ones(4, 2))
        >>> layer.running_mean, layer.num_batches_tracked
        (tensor([0., 0.]), tensor(0))
    """
    modules = list(checked_module(model).modules())
    weights = [param for param in model.parameters() if param.requires_grad]
    before = ModuleState()
    with torch.no_grad():
        before.take(modules, weights, FrozenParameters().begin(modules, weights))
    try:
        yield
    finally:
        with torch.no_grad():
            before.put_back()
