"""Buffers that are sparse, expanded or nested, those of wrapped models, and what following them costs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import letsam
from letsam import SAM, LearnedRadius
from oracle.problems import batch, closure_on, same_bits


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: b.detach().clone() for name, b in model.named_buffers()}


def small() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


class Follower(nn.Linear):
    """Changes its one buffer in place at every pass."""

    def __init__(self, buffer: Tensor, change: Callable[[Tensor], Any]) -> None:
        super().__init__(4, 3, dtype=torch.float64)
        self.register_buffer("buffer", buffer)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.change(self.buffer)
        return super().forward(x)


def eye() -> Tensor:
    return torch.eye(3, dtype=torch.float64)


def double(buffer: Tensor) -> None:
    buffer.mul_(2)


def double_first(buffer: Tensor) -> None:
    buffer[:1] *= 2


def grow(buffer: Tensor) -> None:
    buffer.mul_(2).add_(eye().roll(1, 0).to_sparse())


KINDS: dict[str, tuple[Callable[[], Tensor], Callable[[Tensor], Any]]] = {
    "coo": (lambda: eye().to_sparse(), double),
    "coo that grows": (lambda: eye().to_sparse(), grow),
    "coo of one number": (
        lambda: torch.sparse_coo_tensor([[0, 2]], eye()[0, :1].expand(2), (3,), check_invariants=True),
        lambda buffer: double_first(buffer._values()),
    ),
    "csr": (lambda: eye().to_sparse_csr(), lambda buffer: double(buffer.values())),
    "csc": (lambda: eye().to_sparse_csc(), lambda buffer: double(buffer.values())),
    "bsr": (lambda: eye().to_sparse_bsr((1, 1)), lambda buffer: double(buffer.values())),
    "expanded": (lambda: eye()[:1].expand(5, 3), double_first),
    "number": (lambda: eye()[0, 0].expand(5, 3), lambda buffer: double(buffer[0, 0])),
}


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_and_expanded_buffers_move_once(kind: str) -> None:
    make, change = KINDS[kind]
    model, expected = Follower(make(), change), make()
    held = model.buffer
    opt = SAM(sgd(model), rho=LearnedRadius(0.2, interval=1), model=model)
    for i in range(3):
        change(expected)
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        assert model.buffer is held
        assert same_bits(held.to_dense(), expected.to_dense())
    with letsam.frozen_statistics(model):
        model(batch(3)[0])
        assert not same_bits(held.to_dense(), expected.to_dense())
    assert same_bits(held.to_dense(), expected.to_dense())
    if "grows" not in kind:
        x, y = batch(4)
        opt.step(closure_on(model, (x * math.inf, y)), closure_on(model, batch(5)))
        assert opt.metrics["skipped_steps"] == 1
        assert same_bits(held.to_dense(), expected.to_dense())


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_buffers_stay_where_they_are(layout: torch.layout) -> None:
    rows = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)
    model = Follower(rows, lambda buffer: None)
    opt = SAM(sgd(model), rho=0.2, model=model)
    opt.step(closure_on(model, batch(0)))
    with letsam.frozen_statistics(model):
        model.buffer = None
    assert model.buffer is rows


# --- wrapped models -----------------------------------------------------------------------------------------------


def _ddp(model: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


def _fabric(model: nn.Module) -> nn.Module:
    return pytest.importorskip("lightning_fabric").Fabric(accelerator="cpu", devices=1).setup(model)


@pytest.fixture
def _group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize(
    "wrap",
    [
        _ddp,
        _fabric,
        partial(torch.compile, backend="eager"),
        pytest.param(partial(torch.compile, backend="aot_eager"), marks=pytest.mark.slow),
    ],
    ids=["ddp", "fabric", "eager", "aot_eager"],
)
def test_wrapped_models(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = small()
    reference = copy.deepcopy(model)
    wrapped = wrap(model)
    opt = SAM(sgd(model), rho=LearnedRadius(0.2, interval=1), model=wrapped)
    for i in range(3):
        reference.load_state_dict({**model.state_dict(), **buffers_of(reference)})
        reference(batch(i)[0])
        opt.step(closure_on(wrapped, batch(i)), closure_on(wrapped, batch(50 + i)))
        assert same_bits(buffers_of(model), buffers_of(reference))
    assert buffers_of(model)["1.num_batches_tracked"] == 3


# --- cost ---------------------------------------------------------------------------------------------------------


class Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def _operators(layers: int, given: bool) -> list[str]:
    model = nn.Sequential(nn.Linear(4, 3), *(nn.BatchNorm1d(3) for _ in range(layers))).double()
    opt = SAM(sgd(model), rho=0.2, model=model if given else None)
    opt.step(closure_on(model, batch(0)))
    with Operators() as operators:
        opt.step(closure_on(model, batch(1)))
    return operators.names


def test_the_cost_does_not_grow_with_the_number_of_layers() -> None:
    """Four copies and one choice for each of the two dtypes; blocks are allocated once; nothing is read."""
    for layers in (1, 20):
        names, without = _operators(layers, True), _operators(layers, False)
        assert names.count("_foreach_copy_") - without.count("_foreach_copy_") == 8
        assert names.count("where") - without.count("where") == 2
        assert len(names) - len(without) == 10
        assert not {"_local_scalar_dense", "equal", "is_nonzero", "nonzero"} & set(names)
