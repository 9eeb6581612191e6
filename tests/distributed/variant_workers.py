"""What each of two processes does to compare the variants under FSDP2 with one process. Nothing is asserted."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from distributed.workers import RANKS, raised, train
from learned_radius import learned_radius
from letsam import SharpnessAware
from letsam.variants import VARIANTS
from oracle.problems import BASES, network, normalised_network

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
    results["error"] = raised(functools.partial(made, "subbatchsam", "fixed", model))
    return results


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=(folder / "store").as_uri(),
        rank=rank,
        world_size=RANKS,
        timeout=datetime.timedelta(seconds=60),
    )
    torch.save(everything(rank), folder / f"{rank}.pt")
    dist.destroy_process_group()
