"""Whole steps, passes included: what SAM costs compared with two passes, and a learned radius with SAM and others.

The other ways solve the paper's bilevel problem (arXiv:2408.08222): its four passes written out, and `betty-ml`, a
library for multilevel optimization, given a lower level with a SAM step and an upper level with the radius.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.func import functional_call

from benchmarks.speed.contenders import OPTIONS, RHO
from benchmarks.speed.cost import Rows, Step, in_rows, ratio, seconds
from benchmarks.speed.networks import Network, network
from letsam import SAM, LearnedRadius, SharpnessAware
from letsam.step.ascent import AscentPhase
from letsam.step.record import StepRecord
from letsam.step.replay import Replay
from letsam.step.undo import StepGuard

ROUNDS = 5
RATE = 0.02  # of nu, by Adam
REFERENCE, OURS = "two passes and SGD", "SAM"
EACH, TENTH = "LETS-SAM, interval=1", "LETS-SAM, interval=10"
PARTS: dict[str, list[tuple[type, str]]] = {
    "ascent": [(AscentPhase, "norms"), (AscentPhase, "set_radius"), (AscentPhase, "move")],
    "way back": [(StepRecord, "restore")],
    "protection": [(StepGuard, "save"), (StepGuard, "settle")],
    "buffers": [(Replay, "begin"), (Replay, "_rewind"), (Replay, "keep"), (Replay, "end")],
    "clearing": [(SharpnessAware, "zero_grad")],
    "SGD": [(torch.optim.SGD, "step")],
}
PROFILED = 10  # steps


def two_passes(network: Network) -> Step:
    """The least that SAM can cost: two passes and SGD."""
    base = torch.optim.SGD(network.params, **OPTIONS)

    def step() -> None:
        network.train()
        network.train()
        base.step()

    return step


def letsam(rho: Any, network: Network) -> Step:
    """This library, with all of its protection; a radius is copied by the optimizer."""
    opt = SAM(torch.optim.SGD(network.params, **OPTIONS), rho, model=network.model)
    return lambda: opt.step(network.train, network.validate)


def four_passes(network: Network) -> Step:
    """The paper's step written out: squared gap, diagonal curvature, training loss on the same batch."""
    params, base = network.params, torch.optim.SGD(network.params, **OPTIONS)
    nu = nn.Parameter(torch.tensor(math.log(RHO), dtype=params[0].dtype))
    upper = torch.optim.Adam([nu], lr=RATE, eps=1e-16)  # the slopes are small

    def gradients() -> list[torch.Tensor]:
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in params]

    @torch.no_grad()
    def step() -> torch.Tensor:
        network.train()
        length = torch.stack([g.norm() for g in gradients()]).norm()
        eps_hat = [g / length for g in gradients()]
        saved = [p.clone() for p in params]
        rho = nu.exp()
        for p, direction in zip(params, eps_hat, strict=True):
            p.add_(rho * direction)
        network.train()
        z = [-OPTIONS["lr"] * g**2 * direction for g, direction in zip(gradients(), eps_hat, strict=True)]
        for p, weight in zip(params, saved, strict=True):
            p.copy_(weight)
        base.step()
        gap = network.validate()
        slope = sum((g * change).sum() for g, change in zip(gradients(), z, strict=True))
        gap = gap - network.train()
        slope = slope - sum((g * change).sum() for g, change in zip(gradients(), z, strict=True))
        nu.grad = gap * slope * rho
        upper.step()
        return nu.exp()

    return step


def betty(network: Network) -> Step | None:
    """`betty-ml`: nothing but its own first-order way (darts); None where it is not installed."""
    if importlib.util.find_spec("betty") is None:
        return None
    config, problems = importlib.import_module("betty.configs"), importlib.import_module("betty.problems")
    engine = importlib.import_module("betty.engine")
    logging.disable(logging.INFO)

    class Weights(problems.ImplicitProblem):
        """Lower level: the loss at the perturbed weights, which depends on the radius."""

        def training_step(self, batch: Any) -> torch.Tensor:
            ascent = torch.autograd.grad(network.loss(0), network.params)
            factor = self.radius() / torch.stack([g.norm() for g in ascent]).norm()
            names = (name for name, _ in network.model.named_parameters())
            moved = {name: p + factor * g for name, p, g in zip(names, network.params, ascent, strict=True)}
            images, labels = network.batches[0]
            return nn.functional.cross_entropy(functional_call(network.model, moved, (images,)), labels)

    class Radius(problems.ImplicitProblem):
        """Upper level: the squared gap at the weights after the step of the lower level."""

        def training_step(self, batch: Any) -> torch.Tensor:
            return (network.loss(1) - network.loss(0)) ** 2 / 2

    class Nu(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nu = nn.Parameter(torch.tensor(math.log(RHO), dtype=network.params[0].dtype))

        def forward(self) -> torch.Tensor:
            return self.nu.exp()

    nu, rest = Nu(), (None, [(torch.zeros(()),)], "cpu")
    sgd, adam = torch.optim.SGD(network.params, **OPTIONS), torch.optim.Adam(nu.parameters(), lr=RATE)
    lower = Weights("weights", config.Config(), network.model, sgd, *rest)
    upper = Radius("radius", config.Config(retain_graph=True), nu, adam, *rest)
    dependencies = {"u2l": {upper: [lower]}, "l2u": {lower: [upper]}}
    running = engine.Engine([lower, upper], config.EngineConfig(), dependencies)
    running.train()

    def step() -> torch.Tensor:
        running.global_step += 1
        running.train_step()
        return nu().detach()

    return step


CONTENDERS: dict[str, tuple[Callable[[Network], Step | None], int]] = {  # and how many of its steps are a round
    REFERENCE: (two_passes, 10),
    OURS: (functools.partial(letsam, RHO), 10),
    EACH: (functools.partial(letsam, LearnedRadius(RHO, interval=1)), 10),
    TENTH: (functools.partial(letsam, LearnedRadius(RHO, interval=10)), 10),
    "LETS-SAM, the paper's": (functools.partial(letsam, LearnedRadius.paper(RHO)), 2),
    "four passes written out": (four_passes, 2),
    "betty-ml": (betty, 2),
}


def measure(name: str) -> Rows:
    """For each contender milliseconds and ratios; of SAM and LETS-SAM the parts, as shares of two passes and SGD."""
    networks = {contender: network(name) for contender in CONTENDERS}
    made = {contender: make(networks[contender]) for contender, (make, _) in CONTENDERS.items()}
    steps = {contender: step for contender, step in made.items() if step is not None}
    for step in steps.values():
        step()
        step()
    times = seconds(steps, ROUNDS, {contender: count for contender, (_, count) in CONTENDERS.items()})
    found = in_rows(times, REFERENCE)
    for contender, values in times.items():
        found[contender]["to SAM"] = ratio(values, times[OURS])
    for contender in (OURS, EACH):
        parts = profile(networks[contender], steps[contender])
        found[contender] |= {part: 1000 * value / found[REFERENCE]["ms"] for part, value in parts.items()}
    found[REFERENCE]["weights"] = sum(p.numel() for p in networks[REFERENCE].params)
    return found


def profile(network: Network, step: Step) -> dict[str, float]:
    """Seconds of a step by `PARTS`, and the rest that is outside of the passes."""
    spent = dict.fromkeys(PARTS, 0.0)
    network.seconds = 0.0
    with ExitStack() as stack:
        for part, methods in PARTS.items():
            for owner, method in methods:
                stack.enter_context(_timed(owner, method, part, spent))
        started = time.process_time()
        for _ in range(PROFILED):
            step()
        whole = time.process_time() - started
    spent["rest"] = whole - network.seconds - sum(spent.values())
    return {part: value / PROFILED for part, value in spent.items()}


@contextmanager
def _timed(owner: type, method: str, part: str, spent: dict[str, float]) -> Iterator[None]:
    plain = getattr(owner, method)

    @functools.wraps(plain)
    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.process_time()
        try:
            return plain(*args, **kwargs)
        finally:
            spent[part] += time.process_time() - started

    with mock.patch.object(owner, method, timed):
        yield
