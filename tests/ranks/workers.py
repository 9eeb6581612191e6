"""What each of two processes does: all cases in one go, since starting processes takes seconds. Nothing is asserted."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import letsam
from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from letsam.perturbations import SAMPerturbation
from letsam.tensors import Buffers, dot, norm
from letsam.tensors.shards import complete_gradients
from oracle.problems import BASES, Batch, batch, closure_on, network
from page_code import blocks_of, run_code

RANKS = 2
STEPS = 6
Factory = Callable[..., SharpnessAware]


def _case(variant: type[SharpnessAware], base: str, rho: Callable[[], Any], **options: Any) -> Factory:
    return lambda weights, **more: variant(BASES[base](weights), rho=rho(), **options, **more)


def _learned(**options: Any) -> Callable[[], LearnedRadius]:
    return lambda: learned_radius(0.1, interval=1, **options)


def _partly_perturbed(weights: Any, **options: Any) -> SharpnessAware:
    first, *others = weights
    groups = [{"params": [first]}, {"params": others, "perturb": False}]
    return SAM(BASES["momentum"](groups), rho=_learned()(), **options)


CASES: dict[str, Factory] = {
    "sam-fixed": _case(SAM, "momentum", lambda: 0.1),
    "asam-fixed": _case(ASAM, "adamw", lambda: 0.3, scale="matrices", eta=0.01),
    "sam-budget": _case(SAM, "momentum", lambda: letsam.LossBudgetRadius(0.05, relative=True)),
    "sam-excluded": _partly_perturbed,
    "sam-clipped": _case(SAM, "rmsprop", _learned(), max_grad_norm=0.2),
    "asam-finite_difference": _case(ASAM, "adam-decay", _learned(hypergradient="finite_difference")),
    "sam-layerwise": _case(SAM, "momentum", lambda: letsam.layerwise(LearnedRadius(0.05, interval=1))),
    "asam-relative": _case(ASAM, "momentum", lambda: letsam.relative(letsam.LinearRadius(0.01, 0.03, 6))),
    "sam-per_layer": _case(SAM, "momentum", _learned(per="layer")),
    "sam-diagonal": _case(SAM, "nesterov", _learned(hypergradient="diagonal")),
    "sam-paper": _case(SAM, "adamw", lambda: LearnedRadius.paper(0.1)),
} | {
    f"{variant.__name__.lower()}-{objective}-{training_batch}": _case(
        variant, base, _learned(objective=objective, training_batch=training_batch)
    )
    for variant, base in ((SAM, "momentum"), (ASAM, "adamw"))
    for objective in ("validation_loss", "squared_gap")
    for training_batch in ("next", "same")
}
SHARDED = [
    "sam-layerwise",
    "asam-relative",
    "sam-per_layer",
    "sam-fixed",
    "asam-fixed",
    "sam-clipped",
    "sam-excluded",
    "asam-finite_difference",
    "sam-diagonal",
    "sam-squared_gap-next",
    "asam-validation_loss-next",
    "asam-squared_gap-same",
]
M_SHARPNESS: dict[str, tuple[str, str, str, bool]] = {
    f"{variant}-{estimator}-{objective}-{normalize}": (variant, estimator, objective, normalize)
    for variant, estimator, objective, normalize in (
        ("SAM", "secant", "validation_loss", False),
        ("SAM", "secant", "squared_gap", True),
        ("ASAM", "secant", "validation_loss", True),
        ("ASAM", "finite_difference", "squared_gap", False),
        ("SAM", "diagonal", "squared_gap", False),
    )
}
CHECKPOINTS: dict[str, tuple[Factory, int]] = {  # and the step after which it is written
    "learned-adamw": (CASES["asam-squared_gap-next"], 3),
    "learned-momentum-no-Z": (_case(SAM, "momentum", lambda: LearnedRadius(0.1, interval=4)), 1),
    "learned-same": (CASES["sam-squared_gap-same"], 3),
    "learned-per_layer": (CASES["sam-per_layer"], 3),
    "fixed-sgd": (_case(SAM, "sgd", lambda: 0.1), 3),
    "fresh-adamw": (CASES["asam-validation_loss-next"], 0),
}


class MixedDescent(SAMPerturbation):
    """Climbs in every other step, and descends with g_rho - 0.3 g_0 then."""

    keeps_ascent_gradient = True

    def ascends(self, step: int) -> bool:
        return step % 2 == 0

    def descent(self, weights: Any, gradients: Any, ascent_gradients: Any) -> None:
        for g, g0 in zip(gradients, ascent_gradients or (), strict=ascent_gradients is not None):
            g.sub_(g0, alpha=0.3)


def m_sharp(name: str, weights: Any, **options: Any) -> SharpnessAware:
    """Without prior and burn-in, as the oracle has it."""
    variant, estimator, objective, normalize = M_SHARPNESS[name]
    radius = learned_radius(
        0.1,
        interval=1,
        objective=objective,
        normalize=normalize,
        prior=None,
        burn_in=0,
        follow_lr=False,
        hypergradient=estimator,
    )
    return {"SAM": SAM, "ASAM": ASAM}[variant](torch.optim.SGD(weights, lr=0.1), rho=radius, **options)


def share(data: Batch, rank: int) -> Batch:
    """The part of a batch that a process sees."""
    return data[0][rank::RANKS], data[1][rank::RANKS]


def whole(model: nn.Module) -> list[Tensor]:
    return [p.detach().full_tensor() if isinstance(p, DTensor) else p.detach().clone() for p in model.parameters()]


def train(
    model: nn.Module,
    opt: SharpnessAware,
    rank: int | None,
    first: int = 0,
    last: int = STEPS,
    change: Callable[[int, Callable[[], Tensor]], Callable[[], Tensor]] = lambda step, closure: closure,
) -> dict[str, Any]:
    """Train on this process's share, or on whole batches; what came of it."""
    radii, losses = [], []
    for t in range(first, last):
        batches = [data if rank is None else share(data, rank) for data in (batch(t), batch(50 + t))]
        closure, validation_closure = (closure_on(model, data) for data in batches)
        losses.append(opt.step(change(t, closure), validation_closure))
        radii.append(opt.metrics["rho"].clone())
    return {
        "weights": whole(model),
        "radii": radii,
        "losses": losses,
        "rho": opt.rho,
        "metrics": opt.metrics,
        "reach": opt.state_dict()["sharpness_aware"]["radius"].get("reach"),
    }


def ddp() -> nn.Module:
    return DistributedDataParallel(network())


def fsdp(mesh: tuple[int, ...] = (RANKS,)) -> nn.Module:
    model, devices = network(), init_device_mesh("cpu", mesh, mesh_dim_names=("replicate", "shard")[-len(mesh) :])
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=devices)
    fully_shard(model, mesh=devices)
    return model


def tensor_parallel() -> nn.Module:
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    return parallelize_module(network(), init_device_mesh("cpu", (RANKS,)), plan)


def two_dimensional() -> nn.Module:
    """Tensor parallelism and FSDP2 together, each over a dimension of its own."""
    devices = init_device_mesh("cpu", (RANKS, 1), mesh_dim_names=("shard", "tensor"))
    model = parallelize_module(network(), devices["tensor"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    return fully_shard(model, mesh=devices["shard"])


def raised(call: Callable[[], Any]) -> str:
    """The error of a call, as text."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def nan_in_rank_1(rank: int, at: int) -> Any:
    def change(step: int, closure: Callable[[], Tensor]) -> Callable[[], Tensor]:
        return (lambda: closure() * torch.nan) if step == at and rank == 1 else closure

    return change


def joined(rank: int) -> dict[str, Any]:
    """A step inside DDP's join(), and everything as it was after it."""
    model = ddp()
    opt = CASES["sam-fixed"](model.parameters(), model=model)
    with model.join():
        error = raised(lambda: opt.step(closure_on(model, share(batch(0), rank))))
    return {"error": error, "weights": whole(model)}


def by_hand(rank: int) -> dict[str, Any]:
    """m-sharpness without closures: the loop keeps the ascent's gradients apart itself."""
    model = ddp()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1, model=model, m_sharpness=True)
    for t in range(STEPS):
        closure = closure_on(model, share(batch(t), rank))
        with model.no_sync():
            closure()
        opt.ascent_step()
        closure()
        opt.descent_step()
    return {"weights": whole(model), "gradient_norm": opt.metrics["gradient_norm"]}


def sums(rank: int) -> dict[str, Any]:
    """Norms and dot products of split tensors, and what they send."""
    model = fsdp()
    train(model, CASES["sam-fixed"](model.parameters()), rank, 0, 1)
    plain = network().requires_grad_(False)
    weights = [p.detach() for p in model.parameters()]
    calls, all_reduce = [], dist.all_reduce
    try:
        dist.all_reduce = lambda *args, **kwargs: calls.append(args[0].shape) or all_reduce(*args, **kwargs)
        left, right = Buffers(), Buffers()
        left.copy_of(weights), right.copy_of(weights)
        lengths = [norm(weights), left.norm(), norm([*weights, *plain.parameters()])]
        found = [*lengths, dot(left, right)]
    finally:
        dist.all_reduce = all_reduce
    flat = torch.cat([w.full_tensor().reshape(-1) for w in weights])
    extra = torch.cat([p.reshape(-1) for p in plain.parameters()])
    expected = [flat.norm(), flat.norm(), torch.cat([flat, extra]).norm(), flat @ flat]
    return {"found": found, "expected": expected, "types": [type(x).__name__ for x in found], "calls": calls}


def partial_gradient(rank: int) -> list[Tensor]:
    """A gradient of which each process holds one term: completed, and its norm."""
    devices = init_device_mesh("cpu", (RANKS,))
    weight = nn.Parameter(distribute_tensor(torch.zeros(3), devices, [Replicate()]))
    weight.grad = DTensor.from_local(torch.full((3,), rank + 1.0), devices, [Partial()])
    with torch.no_grad():
        complete_gradients([weight])
        return [weight.grad.to_local(), norm([weight.grad])]


def checkpoints(rank: int, folder: Path) -> dict[str, Any]:
    """Write, go on; resume in fresh objects, go on; resume what one process has written."""
    results = {}
    for name, (make, at) in CHECKPOINTS.items():
        model = fsdp()
        opt = make(model.parameters())
        train(model, opt, rank, 0, at)
        dcp.save({"training": letsam.DistributedState(model, opt)}, checkpoint_id=folder / f"two-{name}")
        results[name] = {"uninterrupted": train(model, opt, rank, at, STEPS)}
        for source in ("two", "one"):
            fresh = fsdp()
            with torch.no_grad():
                for p in fresh.parameters():
                    p.to_local().fill_(0.123)
            fresh_opt = make(fresh.parameters())
            state = letsam.DistributedState(fresh, fresh_opt)
            dcp.load({"training": state}, checkpoint_id=folder / f"{source}-{name}")
            results[name][source] = train(fresh, fresh_opt, rank, at, STEPS)
    return results


def page(folder: Path) -> dict[str, Any]:
    """The code of docs/how-to/distributed.md, block after block; the radius after each."""
    names: dict[str, Any] = {}
    os.chdir(folder)
    radii = []
    for block in blocks_of("docs/how-to/distributed.md"):
        run_code(block, "distributed.md", names)
        radii.append(names["opt"].rho.clone())
    return {"radii": radii, "weights": whole(names["model"])}


def everything(rank: int, folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = {
        "ddp": {},
        "fsdp": {},
        "hsdp": {},
        "tensor_parallel": {},
        "two_dimensional": {},
        "m_sharpness": {},
    }
    for name, make in CASES.items():
        model = ddp()
        results["ddp"][name] = train(model, make(model.parameters(), model=model), rank)
    for name in SHARDED:
        model = fsdp()
        results["fsdp"][name] = train(model, CASES[name](model.parameters(), model=model), rank)
    for name in ("sam-squared_gap-next", "asam-validation_loss-next"):
        model = fsdp((1, RANKS))
        results["hsdp"][name] = train(model, CASES[name](model.parameters()), rank)
        model = two_dimensional()
        results["two_dimensional"][name] = train(model, CASES[name](model.parameters()), rank)
        model = tensor_parallel()
        results["tensor_parallel"][name] = train(model, CASES[name](model.parameters()), None)
    for name in M_SHARPNESS:
        model = ddp()
        opt = m_sharp(name, model.parameters(), model=model, m_sharpness=True)
        results["m_sharpness"][name] = train(model, opt, rank)
    model = ddp()
    make = CASES["asam-validation_loss-next"]
    results["m_sharpness_prior"] = train(model, make(model.parameters(), model=model, m_sharpness=True), rank, 0, 1)
    results["m_sharpness_by_hand"] = by_hand(rank)
    model = ddp()
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    opt = SharpnessAware(base, MixedDescent(), 0.1, model=model, m_sharpness=True)
    results["m_sharpness_mixed"] = train(model, opt, rank)

    model = ddp()
    make = CASES["sam-squared_gap-next"]
    opt = make(model.parameters())
    results["nan"] = train(model, opt, rank, change=nan_in_rank_1(rank, 2))
    group = dist.new_group([0, 1])
    model = ddp()
    results["own_group"] = train(model, make(model.parameters(), process_group=group), rank)
    model = fsdp()
    opt = CASES["asam-validation_loss-next"](model.parameters())
    results["nan_fsdp"] = train(model, opt, rank, change=nan_in_rank_1(rank, 0))
    model = network()
    results["alone"] = train(model, make(model.parameters(), process_group=None), rank)

    sharded = fsdp()
    results["errors"] = {
        "no model": raised(lambda: SAM(torch.optim.SGD(network().parameters()), m_sharpness=True)),
        "plain": raised(lambda: SAM(torch.optim.SGD(model.parameters()), model=model, m_sharpness=True)),
        "fsdp": raised(lambda: SAM(torch.optim.SGD(sharded.parameters()), model=sharded, m_sharpness=True)),
    }
    results["joined"] = joined(rank)
    results["sums"] = sums(rank)
    results["partial_gradient"] = partial_gradient(rank)
    results["checkpoints"] = checkpoints(rank, folder)
    results["page"] = page(folder)
    return results


def in_group(rank: int, folder: Path, work: Callable[[], Any]) -> None:
    """Do the work of a rank in a process group of all ranks, and save its results for `warm.in_ranks`."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=(folder / "store").as_uri(),
        rank=rank,
        world_size=RANKS,
        timeout=datetime.timedelta(seconds=60),
    )
    torch.save(work(), folder / f"{rank}.pt")
    dist.destroy_process_group()


def main(rank: int, folder: Path) -> None:
    in_group(rank, folder, lambda: everything(rank, folder))
