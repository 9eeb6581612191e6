"""Snapshots: what passes change besides the gradients, copied and restored. For steps, the doctor, sharpness measures.

The buffers of a model, BatchNorm's running statistics above all, are a `BufferCopy`; a `Snapshot` adds random numbers,
weights, modes and gradients.

Buffers are followed by the module that owns them and their name, so wrappers (DDP, Fabric, `torch.compile`) change
nothing, and a buffer that a forward pass replaces by a new tensor is put back too. A copy lies in one block of memory
for each device and dtype: taking it, putting it back and choosing between two of them are one operator per block.
Sparse buffers are followed by their indices and values, expanded ones by what they have of memory; buffers of other
layouts keep their places, but not their values.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..checks import checked_module
from ..tensors import copy_
from .randomness import States, read_states, write_states

Kind = tuple[torch.device, torch.dtype]


class BufferCopy:
    """The values of a model's buffers at one moment; its memory is used again at the next one."""

    def __init__(self) -> None:
        self._places: list[tuple[dict[str, Tensor | None], str]] = []
        self._tensors: list[Tensor] = []
        self._parts: list[Tensor] = []  # of the tensors, in their memory: what is copied
        self._sparse: list[tuple[Tensor, Tensor]] = []  # sparse tensors, with their indices and values of then
        self._layout: list[tuple[torch.Size, torch.dtype, torch.device]] = []
        self._blocks: dict[Kind, Tensor] = {}
        self._views: list[Tensor] = []
        self._members: dict[Kind, list[int]] = {}

    def take(self, modules: Iterable[nn.Module]) -> None:
        """Copy all buffers that these modules own; lazy ones that are not made yet are left out."""
        found = [(_places(module), name, value) for module in modules for name, value in _own(module)]
        self._places = [(owner, name) for owner, name, _ in found]
        self._tensors = [value for _, _, value in found]
        self._parts = [part for tensor in self._tensors for part in _parts(tensor)]
        self._sparse = [(tensor, tensor.detach()) for tensor in self._tensors if tensor.layout is torch.sparse_coo]
        layout = [(t.shape, t.dtype, t.device) for t in self._parts]
        if layout != self._layout:
            self._allocate()
            self._layout = layout
        for indices in self._members.values():
            copy_([self._views[i] for i in indices], [self._parts[i] for i in indices])

    def put_back(self) -> None:
        """Restore the values of the buffers, and the tensor objects that the modules held."""
        for (owner, name), tensor in zip(self._places, self._tensors, strict=True):
            if owner.get(name) is not tensor:
                owner[name] = tensor
        for indices in self._members.values():
            copy_([self._parts[i] for i in indices], [self._views[i] for i in indices])
        for tensor, then in self._sparse:
            if not _values(tensor).is_set_to(_values(then)):  # an addition in place replaces the values
                tensor.copy_(then)

    def holds(self, owner: nn.Module, name: str) -> bool:
        """Whether a buffer, and its place in the module, are as they were when the copy was taken."""
        place = next((i for i, (o, n) in enumerate(self._places) if o is _places(owner) and n == name), None)
        if place is None:
            return _places(owner).get(name) is None
        first = sum(len(_parts(tensor)) for tensor in self._tensors[:place])
        now = _places(owner).get(name)
        parts = [] if now is None else _parts(now)
        then = self._views[first : first + len(_parts(self._tensors[place]))]
        return len(parts) == len(then) and all(map(torch.equal, parts, then))

    def keep_where(self, flag: Tensor, other: BufferCopy) -> None:
        """Where `flag` (0-dim bool) is False, take the values of `other`; without reading the flag.

        Blocks on another device than the flag keep their own values, and so do all where the buffers have changed
        their shapes in between.
        """
        if self._layout != other._layout:
            return
        for (device, dtype), block in self._blocks.items():
            if device == flag.device:
                torch.where(flag, block, other._blocks[device, dtype], out=block)

    def _allocate(self) -> None:
        self._members = {}
        for i, tensor in enumerate(self._parts):
            self._members.setdefault((tensor.device, tensor.dtype), []).append(i)
        self._views = list(self._parts)  # each is replaced below
        self._blocks = {}
        for (device, dtype), indices in self._members.items():
            sizes = [self._parts[i].numel() for i in indices]
            self._blocks[device, dtype] = torch.empty(sum(sizes), dtype=dtype, device=device)
            for i, part in zip(indices, torch.split(self._blocks[device, dtype], sizes), strict=True):
                self._views[i] = part.view(self._parts[i].shape)


class Snapshot:
    """What passes change, at one moment. Its memory is used again at the next one.

    `take` copies what every pass of a step must begin with: buffers and random numbers. `take_all` copies weights,
    modes and gradients, too, so that `restore` leaves no trace of passes that others have made.
    """

    def __init__(self) -> None:
        self.buffers = BufferCopy()
        self.random: States = {}
        self.weights: list[Tensor] = []
        self._params: list[Tensor] = []
        self._modules: list[tuple[nn.Module, bool, dict[str, Tensor | None]]] = []  # with mode and places of buffers
        self._gradients: list[tuple[Tensor, Tensor | None, Tensor | None]] = []

    def take(self, modules: Iterable[nn.Module], devices: Iterable[torch.device]) -> None:
        """Copy the buffers of these modules, and the states of the random generators of these devices."""
        self.random = read_states(devices)
        self.buffers.take(modules)

    @torch.no_grad()
    def take_all(
        self,
        modules: Sequence[nn.Module],
        params: Sequence[Tensor],
        devices: Iterable[torch.device],
        graded: Sequence[Tensor] | None = None,
    ) -> None:
        """The same, and the weights, the training modes of the modules and the gradients.

        Args:
            modules: each module itself, not only the outermost.
            params: weights.
            devices: of the random generators; none to leave random numbers alone.
            graded: the tensors whose gradients are kept; None: the weights.
        """
        graded = params if graded is None else graded
        self.take(modules, devices)
        self._params, self.weights = list(params), [p.detach().clone() for p in params]
        self._modules = [(module, module.training, dict(_places(module))) for module in modules]
        self._gradients = [(p, p.grad, None if p.grad is None else p.grad.detach().clone()) for p in graded]

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back that was taken, bit for bit, except the gradients."""
        copy_(self._params, self.weights)
        for module, training, places in self._modules:
            module.training = training
            _places(module).clear()
            _places(module).update(places)
        write_states(self.random)
        self.buffers.put_back()

    @torch.no_grad()
    def restore_gradients(self) -> None:
        """Put the gradients back: the tensors that they were, with their values."""
        for param, gradient, value in self._gradients:
            param.grad = gradient
            if gradient is not None and value is not None:
                gradient.copy_(value)


def _places(module: nn.Module) -> dict[str, Tensor | None]:
    return module._buffers  # pyright: ignore[reportPrivateUsage]


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in _places(module).items() if value is not None and not is_lazy(value)]


def _parts(tensor: Tensor) -> list[Tensor]:
    """Dense tensors that share this one's memory and together hold all its values."""
    if tensor.layout is torch.strided:
        parts = [] if tensor.is_nested else [tensor]
    elif tensor.layout is torch.sparse_coo:
        parts = [tensor._indices(), _values(tensor)]  # pyright: ignore[reportPrivateUsage]
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        parts = [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        parts = [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    else:
        parts = []
    return [_unexpanded(part) if 0 in part.stride() else part for part in parts]


def _unexpanded(tensor: Tensor) -> Tensor:
    return tensor[tuple(slice(None if step else 1) for step in tensor.stride())]


def _values(tensor: Tensor) -> Tensor:
    return tensor._values()  # pyright: ignore[reportPrivateUsage]


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
    """A context whose passes do not change the buffers of `model`, such as BatchNorm's running statistics.

    The layers compute as usual, in training mode with the statistics of the batch. On exit every buffer
    (`running_mean`, `running_var`, `num_batches_tracked`, and those of any other module) has the value that it had on
    entry, also if the body raises. It may be nested. Run the backward pass inside as well. A `SharpnessAware` that was
    given `model` does this itself; this is for your own passes, such as a measurement in training mode.

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
    checked_module(model)
    before = BufferCopy()
    with torch.no_grad():
        before.take(model.modules())
    try:
        yield
    finally:
        with torch.no_grad():
            before.put_back()
