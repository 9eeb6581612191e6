"""What processes send each other in a step under DDP: all-reduces and their bytes, counted, not timed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from benchmarks.speed.contenders import climb
from benchmarks.speed.cost import Rows
from benchmarks.speed.networks import mlp
from letsam import ASAM, SAM, LearnedRadius

WIDTHS = (64, 128, 10)
STEPS = 4  # of which the last is counted: DDP arranges its buckets in the first, and radii that learn begin
REFERENCE = "SAM written out"
Closure = Callable[[], Tensor]
Step = Callable[[Closure, Closure], Any]


def written_out(ddp: nn.Module) -> Step:
    """Plain SAM: two passes, whose gradients DDP averages."""
    params = list(ddp.parameters())
    base = torch.optim.SGD(params, lr=0.1)

    def step(train: Closure, validate: Closure) -> None:
        train()
        moved = climb(params, 0.05)
        train()
        with torch.no_grad():
            torch._foreach_sub_(params, moved)
        base.step()

    return step


def letsam(variant: type[SAM], rho: float | LearnedRadius, **options: Any) -> Callable[[nn.Module], Step]:
    """This library."""
    return lambda ddp: variant(torch.optim.SGD(ddp.parameters(), lr=0.1), rho, model=ddp, **options).step


LEARNED = LearnedRadius(0.05, interval=1)
CONTENDERS: dict[str, Callable[[nn.Module], Step]] = {
    REFERENCE: written_out,
    "SAM": letsam(SAM, 0.05),
    "ASAM": letsam(ASAM, 0.5),
    "LETS-SAM": letsam(SAM, LEARNED),
    "LETS-ASAM": letsam(ASAM, LEARNED),
    "SAM, m_sharpness": letsam(SAM, 0.05, m_sharpness=True),
    "LETS-SAM, m_sharpness": letsam(SAM, LEARNED, m_sharpness=True),
}


def numbers() -> int:
    """The weights of the network."""
    return sum(p.numel() for p in mlp(*WIDTHS).parameters())


def measure(ranks: int) -> Rows:
    """For each contender: all-reduces of a step of one rank, their bytes, and how many of these are plain SAM's not."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_rank, args=(ranks, folder), nprocs=ranks)
        counted = [torch.load(Path(folder, f"{rank}.pt")) for rank in range(ranks)]
    assert all(rows == counted[0] for rows in counted)
    found: Rows = counted[0]
    for row in found.values():
        row["beyond"] = row["bytes"] - found[REFERENCE]["bytes"]
    return found


def _rank(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    rows = {name: _counted(make) for name, make in CONTENDERS.items()}
    torch.save(rows, Path(folder, f"{rank}.pt"))
    dist.barrier()
    dist.destroy_process_group()


def _counted(make: Callable[[nn.Module], Step]) -> dict[str, int]:
    torch.manual_seed(0)
    ddp = DistributedDataParallel(mlp(*WIDTHS))
    # DDP's own all-reduces are made out of Python's sight; those of this hook, which are the same, are not.
    ddp.register_comm_hook(None, default_hooks.allreduce_hook)
    step = make(ddp)

    def closure() -> Tensor:
        ddp.zero_grad()
        with torch.enable_grad():
            loss = ddp(torch.randn(8, WIDTHS[0])).square().mean()
            loss.backward()
        return loss.detach()

    sent: list[int] = []
    with counting(sent):
        for _ in range(STEPS):
            sent.clear()
            step(closure, closure)
    return {"calls": len(sent), "bytes": sum(sent)}


@contextmanager
def counting(sent: list[int]) -> Iterator[None]:
    """Appends the bytes of every all-reduce among several processes."""
    all_reduce = dist.all_reduce

    def counted(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if dist.get_world_size() > 1:
            sent.append(tensor.numel() * tensor.element_size())
        return all_reduce(tensor, *args, **kwargs)

    dist.all_reduce = counted
    try:
        yield
    finally:
        dist.all_reduce = all_reduce
