"""Save, build fresh objects, load, go on: bit for bit the uninterrupted run. Nothing else is in the file."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import letsam
from contract.pairwise import pairwise
from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from oracle.problems import BASES, batch, closure_on, network, same_bits, snapshot, weights_of

STEPS = 12
RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.1,
    "linear": lambda: letsam.LinearRadius(0.2, 0.1, 9),
    "cosine": lambda: letsam.CosineRadius(0.2, 0.1, 9),
    "proportional": lambda: letsam.ProportionalRadius(0.2, 0.1),
    "replayed": lambda: letsam.ReplayedRadius([0.1, 0.3, 0.2], STEPS),
    "paper": lambda: LearnedRadius.paper(0.1),
} | {
    f"{e}-{t}-{k}": lambda e=e, t=t, k=k: learned_radius(
        0.1, hypergradient=e, training_batch=t, interval=k, objective="squared_gap", burn_in=2
    )
    for e in ("secant", "finite_difference", "diagonal")
    for t in ("next", "same")
    for k in (1, 3)
}


class Run:
    """Model, optimizer and scheduler of one training run."""

    def __init__(self, variant: type[SharpnessAware], base: str, radius: str, seed: int = 0) -> None:
        self.model = network(seed)
        self.opt = variant(BASES[base](self.model.parameters()), rho=RADII[radius]())
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.opt, max_lr=self.opt.param_groups[0]["lr"], total_steps=STEPS + 1, cycle_momentum=False
        )

    def go(self, first: int, last: int) -> list[Tensor]:
        radii = []
        for i in range(first, last):
            self.opt.step(closure_on(self.model, batch(i)), closure_on(self.model, batch(50 + i)))
            self.scheduler.step()
            radii.append(self.opt.rho.clone())
        return radii

    def saved(self) -> bytes:
        file = io.BytesIO()
        parts = {"model": self.model, "opt": self.opt, "scheduler": self.scheduler}
        torch.save({name: part.state_dict() for name, part in parts.items()}, file)
        return file.getvalue()

    def load(self, data: bytes) -> None:
        state = torch.load(io.BytesIO(data), weights_only=True)
        self.model.load_state_dict(state["model"])
        self.opt.load_state_dict(state["opt"])
        self.scheduler.load_state_dict(state["scheduler"])


@pytest.mark.parametrize(("radius", "base", "variant"), pairwise([list(RADII), ["momentum", "adam"], ["SAM", "ASAM"]]))
def test_a_resumed_run_is_the_uninterrupted_one(radius: str, base: str, variant: str) -> None:
    """Cut after each of four steps, so that every phase of an interval of 3 is met; through a file, fresh objects."""
    kind = {"SAM": SAM, "ASAM": ASAM}[variant]
    whole = Run(kind, base, radius)
    radii, files = [], {}
    for step in range(STEPS):
        radii += whole.go(step, step + 1)
        if step + 1 in (1, 4, 5, 6):
            files[step + 1] = whole.saved()
    for at, data in files.items():
        resumed = Run(kind, base, radius, seed=77)
        resumed.load(data)
        assert same_bits(resumed.opt.rho, radii[at - 1])

        assert same_bits(resumed.go(at, STEPS), radii[at:]), at
        assert same_bits(weights_of(resumed.model), weights_of(whole.model)), at
        assert same_bits(resumed.opt.state_dict(), whole.opt.state_dict()), at
        assert same_bits(resumed.opt.metrics, whole.opt.metrics), at
    if radius != "fixed":
        assert len({float(r) for r in radii}) > 3


def test_resuming_without_the_radius_would_show() -> None:
    """The test above fails where the radius starts anew."""
    whole = Run(SAM, "momentum", "secant-next-1")
    whole.go(0, 6)
    other = Run(SAM, "momentum", "secant-next-1", seed=77)
    other.load(whole.saved())
    other.opt._parts.radius = LearnedRadius(0.05, interval=1)
    other.opt.radius.to(torch.device("cpu"), torch.float64)
    whole.go(6, STEPS)
    other.go(6, STEPS)
    assert not same_bits(weights_of(whole.model), weights_of(other.model))


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors_in(part)


def elements(value: Any) -> int:
    return sum(t.numel() for t in tensors_in(value) if t.ndim > 0)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("base", ["sgd", "momentum", "adam"])
def test_state_dict_holds_no_scratch(base: str, radius: str) -> None:
    """The base optimizer's own state, scalars, and Z where the next step will use it."""
    run = Run(SAM, base, radius)
    size = sum(p.numel() for p in run.model.parameters())
    learned = run.opt.radius if isinstance(run.opt.radius, LearnedRadius) else None
    for step in range(7):
        run.go(step, step + 1)
        state = run.opt.state_dict()
        pending = (
            learned is not None and learned.objective.training_batch == "next" and (step + 2) % learned.interval == 0
        )
        assert elements(state) == elements(run.opt.base_optimizer.state_dict()) + pending * size
        assert len(list(tensors_in(state["sharpness_aware"]))) <= 18
        storages = {t.untyped_storage().data_ptr() for t in tensors_in(state["sharpness_aware"])}
        run.go(step + 1, step + 1)
        assert len(storages) == len(list(tensors_in(state["sharpness_aware"])))


def test_a_saved_state_does_not_move_on() -> None:
    run = Run(SAM, "sgd", "secant-next-1")
    run.go(0, 3)
    state = run.opt.state_dict()["sharpness_aware"]
    frozen = copy.deepcopy(state)
    run.go(3, 6)
    assert same_bits(state, frozen)


def test_loading_does_not_share_memory() -> None:
    run, other = Run(SAM, "momentum", "secant-next-1"), Run(SAM, "momentum", "secant-next-1")
    run.go(0, 3)
    state = copy.deepcopy(run.opt.state_dict())
    frozen = copy.deepcopy(state[OWN])
    other.opt.load_state_dict(state)
    other.go(3, 6)
    assert same_bits(state[OWN], frozen)


def _drop(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        for key in path[:-1]:
            state = state[key]
        del state[path[-1]]

    return change


def _set(value: Any, *path: str) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value

    return change


OWN = "sharpness_aware"
DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "another optimizer's": (_drop(OWN), "must be one of a letsam optimizer"),
    "empty": (lambda s: s.clear(), "must be one of a letsam optimizer"),
    "not a dictionary": (_set(3, OWN), "must be one of a letsam optimizer"),
    "no counters": (_drop(OWN, "steps"), "must be one of a letsam optimizer"),
    "no base state": (_drop("state"), "must be one of a letsam optimizer"),
    "no groups": (_drop("param_groups"), "must be one of a letsam optimizer"),
    "another radius": (
        _set("FixedRadius", OWN, "radius", "type"),
        "must hold a LearnedRadius as its radius, got Fixed",
    ),
    "another perturbation": (
        _set("ASAMPerturbation", OWN, "perturbation", "type"),
        "must hold a SAMPerturbation as its perturbation, got ASAM",
    ),
    "radius not a dictionary": (_set(None, OWN, "radius"), "must hold a LearnedRadius as its radius"),
    "radius without nu": (_drop(OWN, "radius", "nu"), "damaged"),
    "radius without its number": (_drop(OWN, "radius", "rho"), "damaged"),
    "Z without its flag": (_drop(OWN, "radius", "usable"), "damaged"),
    "text for a number": (_set("many", OWN, "radius", "exp_avg"), "damaged"),
    "text for a counter": (_set("many", OWN, "steps"), "damaged"),
    "text for the skipped": (_set("many", OWN, "skipped_steps"), "damaged"),
    "one group more": (
        lambda s: s["param_groups"].append(s["param_groups"][0]),
        "different number of parameter groups",
    ),
    "one weight less": (lambda s: s["param_groups"][0]["params"].pop(), "doesn't match the size"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_foreign_and_damaged_states_change_nothing(damage: str) -> None:
    change, message = DAMAGES[damage]
    donor, run = Run(SAM, "momentum", "secant-next-1", seed=5), Run(SAM, "momentum", "secant-next-1")
    donor.go(0, 5)
    run.go(0, 3)
    state = copy.deepcopy(donor.opt.state_dict())
    change(state)
    before = snapshot(run.model, run.opt)

    with pytest.raises(ValueError, match=message):
        run.opt.load_state_dict(state)

    assert same_bits(snapshot(run.model, run.opt), before)
    twin = Run(SAM, "momentum", "secant-next-1")
    twin.go(0, 6)
    run.go(3, 6)
    assert same_bits(weights_of(run.model), weights_of(twin.model))


def test_a_plain_optimizers_state_is_foreign() -> None:
    model = network()
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.1)
    with pytest.raises(ValueError, match=r"with the key 'sharpness_aware'.*got another optimizer's"):
        opt.load_state_dict(BASES["momentum"](model.parameters()).state_dict())


def test_loading_in_the_middle_of_a_step_comes_back_first() -> None:
    model = network()
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.5)
    before = weights_of(model)
    closure_on(model, batch(0))()
    opt.ascent_step()
    assert not same_bits(weights_of(model), before)
    opt.load_state_dict(opt.state_dict())
    assert same_bits(weights_of(model), before)
