"""The device of a run, or the ranks that torchrun has started."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from letsam import checks

DEVICES = ("auto", "cpu", "cuda", "mps")
STRATEGIES = ("ddp", "fsdp")
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true")


def make_fabric(device: str, strategy: str | None = None, precision: str | None = None) -> Fabric:
    """Make a Fabric on one device; under torchrun, on each rank, with their process group.

    Args:
        device: "auto", "cpu", "cuda" or "mps".
        strategy: how ranks share the work: "ddp" (each has all weights) or "fsdp" (each has a part, FSDP2); None:
            "ddp" under torchrun, else no strategy.
        precision: "32-true", "16-mixed" (fp16 with a `GradScaler`; not on the CPU), "bf16-mixed", "bf16-true" or
            "64-true"; None: "32-true".

    Returns:
        The Fabric, launched.

    Raises:
        ValueError: a device that is not available, a strategy without torchrun, or a precision that the device does not
            support.
    """
    checks.choice("device", device, DEVICES)
    precision = checks.choice("precision", precision or "32-true", PRECISIONS)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    chosen = next((name for name in ("cuda", "mps") if available[name]), "cpu") if device == "auto" else device
    if not available[chosen]:
        raise ValueError(f"`device` must be available on this machine, got {device!r}")
    if precision == "16-mixed" and chosen == "cpu":
        raise ValueError("`precision` must be one that the CPU has (bf16-mixed instead of 16-mixed), got '16-mixed'")
    options: dict[str, Any] = {"accelerator": chosen, "precision": precision}
    if not torch.distributed.is_torchelastic_launched():
        if strategy is not None:
            checks.choice("strategy", strategy, STRATEGIES)
            raise ValueError(
                f"`strategy` needs several ranks (torchrun --nproc-per-node 2 -m letsam ...), got {strategy!r}"
            )
        return Fabric(devices=1, **options)
    if strategy == "fsdp" and precision not in ("32-true", "bf16-mixed", "bf16-true"):
        raise ValueError(f"`precision` must be one that fsdp has (32-true, bf16-mixed, bf16-true), got {precision!r}")
    ranks, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    fabric = Fabric(
        devices=local,
        num_nodes=ranks // local,
        strategy=_strategy(checks.choice("strategy", strategy or "ddp", STRATEGIES), ranks),
        **options,
    )
    fabric.launch()
    return fabric


def sharded(fabric: Fabric) -> bool:
    """Whether each rank holds only a part of the weights."""
    return isinstance(fabric.strategy, ModelParallelStrategy)


def gathered(value: Any) -> Any:
    """The same nested dictionaries and lists with every sharded tensor made whole; all ranks must call it together."""
    if isinstance(value, dict):
        return {name: gathered(one) for name, one in value.items()}
    if isinstance(value, list):
        return [gathered(one) for one in value]
    return value.full_tensor() if isinstance(value, DTensor) else value


def scattered(value: Any, like: Any) -> Any:
    """The reverse of `gathered`: shard each tensor in `value` as the tensor at the same place in `like`.

    Args:
        value: a tensor, or nested dictionaries of tensors.
        like: a dictionary with an entry for each of `value`; or one tensor, for all tensors of its shape in `value`.

    Returns:
        The same structure.
    """
    if isinstance(value, dict):
        return {name: scattered(one, like[name] if isinstance(like, dict) else like) for name, one in value.items()}
    if isinstance(like, DTensor) and isinstance(value, Tensor) and value.shape == like.shape:
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value


def _strategy(name: str, ranks: int) -> Strategy:
    if name == "ddp":
        return DDPStrategy()
    return ModelParallelStrategy(_shard, data_parallel_size=ranks, tensor_parallel_size=1)


def _shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """FSDP2: shard each layer of every list of layers by itself, then the rest."""
    data_parallel = mesh["data_parallel"]
    for module in list(model.modules()):
        if isinstance(module, (nn.ModuleList, nn.Sequential)):
            for layer in module.children():
                if any(True for _ in layer.parameters()) and not isinstance(layer, (nn.ModuleList, nn.Sequential)):
                    fully_shard(layer, mesh=data_parallel)
    fully_shard(model, mesh=data_parallel)
    return model
