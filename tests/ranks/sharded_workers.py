"""What each of two processes does with sharded weights: the variants under FSDP2, and FSDP1. Nothing is asserted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from learned_radius import learned_radius
from letsam import MSAM, SAM, SharpnessAware
from letsam.variants import VARIANTS
from oracle.problems import BASES, batch, closure_on, flat, network, normalised_network
from ranks.workers import RANKS, in_group, raised, share, train

RADII: dict[str, Callable[[], Any]] = {"fixed": lambda: 0.1, "learned": lambda: learned_radius(0.1, interval=1)}
OPTIONS: dict[str, dict[str, Any]] = {  # masks that change within a run, and others that stay
    "ssamf": {"sparsity": 0.3, "interval": 3},
    "ssamd": {"sparsity": 0.5, "interval": 2, "drop": 0.4},
    "looksam": {"k": 2},
    "aesam": {"steps": 6},
}
WHOLE_BATCH = sorted(set(VARIANTS) - {"subbatchsam"})  # which each of several processes would climb alone


def made(name: str, radius: str, model: nn.Module, base: str = "momentum") -> SharpnessAware:
    options = OPTIONS.get(name, {})
    return VARIANTS[name](BASES[base](model.parameters()), rho=RADII[radius](), model=model, **options)


def sharded() -> nn.Module:
    model, mesh = normalised_network(), init_device_mesh("cpu", (RANKS,))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def tensor_parallel() -> nn.Module:
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    return parallelize_module(network(), init_device_mesh("cpu", (RANKS,)), plan)


def two_dimensional() -> nn.Module:
    """The rows of the first weight are split twice, by FSDP2 in an order of its own."""
    mesh = init_device_mesh("cpu", (1, RANKS), mesh_dim_names=("shard", "tensor"))
    model = parallelize_module(network(), mesh["tensor"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    return fully_shard(model, mesh=mesh["shard"])


PLACEMENTS: dict[str, Callable[[], nn.Module]] = {
    "tensor_parallel": tensor_parallel,
    "two_dimensional": two_dimensional,
}
MASKED = ["esam", "ssamd", "ssamf"]


# --- weights that are split without DTensors ---------------------------------------------------------------------


def fsdp1(strategy: str, use_orig_params: bool) -> FullyShardedDataParallel:
    return FullyShardedDataParallel(
        network(),
        sharding_strategy=ShardingStrategy[strategy],
        use_orig_params=use_orig_params,
        device_id=torch.device("cpu"),
    )


def wrapped_later(orig: bool = True) -> tuple[nn.Module, Any]:
    """An optimizer that is made before FSDP1 splits its weights."""
    plain = network()
    opt = SAM(BASES["sgd"](plain.parameters()), rho=0.1)
    return FullyShardedDataParallel(plain, use_orig_params=orig, device_id=torch.device("cpu")), lambda _: opt


def own_shards() -> tuple[nn.Module, Any]:
    """Each process holds half of the entries of every weight and gathers them in its forward pass, as ZeRO-3 does."""
    return OwnShards(), lambda model: SAM(BASES["sgd"](model.parameters()), rho=0.1)


class OwnShards(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ParameterList(p.detach().reshape(-1)[dist.get_rank() :: RANKS] for p in network().parameters())

    def forward(self, inputs: Tensor) -> Tensor:
        first, second = inputs @ self.parts[0][:4], inputs @ self.parts[2][:4]
        return torch.stack([first, second, first * second], 1) + self.parts[3].sum() + self.parts[1].sum()


def deepspeed() -> tuple[nn.Module, Any]:
    model = network()
    next(model.parameters()).ds_id = 0  # pyright: ignore[reportAttributeAccessIssue]
    return model, sam


def sam(model: nn.Module) -> SharpnessAware:
    return SAM(BASES["sgd"](model.parameters()), rho=0.1, process_group=None)


REFUSED: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "FSDP1 True": lambda: (fsdp1("FULL_SHARD", True), sam),
    "FSDP1 False": lambda: (fsdp1("FULL_SHARD", False), sam),
    "FSDP1 SHARD_GRAD_OP": lambda: (fsdp1("SHARD_GRAD_OP", True), sam),
    "FSDP1 later": wrapped_later,
    "ZeRO-3": deepspeed,
    "norms own shards": own_shards,
    "norms no DDP": lambda: (network(), lambda model: SAM(BASES["sgd"](model.parameters()), rho=0.1)),
    "norms MSAM": lambda: (network(), lambda model: MSAM(BASES["momentum"](model.parameters()), rho=0.1)),
}


def refused(rank: int, model: nn.Module, make: Any) -> tuple[str, bool]:
    """The error of making an optimizer and of its step, and whether the weights are as they were."""
    before = [p.detach().clone() for p in model.parameters()]
    error = raised(lambda: make(model).step(closure_on(model, share(batch(0), rank))))
    return error, all(map(torch.equal, before, model.parameters()))


def unsplit(rank: int, use_orig_params: bool) -> dict[str, Any]:
    """FSDP1 that splits nothing: the weights of all layers one after the other."""
    model = fsdp1("NO_SHARD", use_orig_params)
    found = train(model, SAM(BASES["momentum"](model.parameters()), rho=RADII["learned"]()), rank)
    return {"flat": flat(found["weights"]), "radii": found["radii"]}


def everything(rank: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name in WHOLE_BATCH:
        for radius in RADII:
            model = sharded()
            results[f"{name}-{radius}"] = train(model, made(name, radius, model), rank)
    for name in MASKED:
        for kind, make in PLACEMENTS.items():
            model = make()
            results[f"{name}-{kind}"] = train(model, made(name, "learned", model), None)
    model = sharded()
    results["m_sharpness"] = raised(functools.partial(made, "subbatchsam", "fixed", model))
    results["whole"] = {f"fsdp1-{orig}": unsplit(rank, orig) for orig in (True, False)}
    results["errors"] = {kind: refused(rank, *make()) for kind, make in REFUSED.items()}
    model = network()
    opt = SAM(BASES["sgd"](model.parameters()), rho=0.1, process_group=None)
    results["apart"] = raised(lambda: opt.step(closure_on(model, share(batch(0), rank))))
    return results


def main(rank: int, folder: Path) -> None:
    in_group(rank, folder, lambda: everything(rank))
