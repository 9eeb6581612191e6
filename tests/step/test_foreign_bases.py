"""Base optimizers that keep more than tensors in `state`: they never see a gradient that is not finite, and resume."""

from __future__ import annotations

import copy
import io
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from learned_radius import learned_radius
from letsam import SAM, LearnedRadius, Rule, SharpnessAware, ValidationLoss
from oracle.problems import batch, closure_on, network, same_bits, weights_of

po = pytest.importorskip("pytorch_optimizer")
Make = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]


class Counts(torch.optim.SGD):
    """Python counters in a group, in the state and as an attribute, and a list that grows."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=0.1, momentum=0.9)
        self.steps, self.lengths = 0, []

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.steps += 1
        for group in self.param_groups:
            group["k"] = group.get("k", 0) + 1
            group["lr"] = 0.1 / group["k"]
            for p in group["params"]:
                self.state[p]["n"] = self.state[p].get("n", 0) + 1
                p.grad.mul_(1 + 1 / self.state[p]["n"])
                self.lengths.append(float(p.grad.norm()))
        super().step()


class Buffered(torch.optim.SGD):
    """Its momentum is a list of tensors beside the state, with a Python object for each weight."""

    class Part:
        def __init__(self) -> None:
            self.total: Tensor | None = None

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=0.1)
        self.parts = [Buffered.Part() for group in self.param_groups for _ in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for p, part in zip((p for group in self.param_groups for p in group["params"]), self.parts, strict=True):
            part.total = p.grad.clone() if part.total is None else part.total.mul_(0.9).add_(p.grad)
            p.sub_(part.total, alpha=0.1)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"parts": [part.total for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, total in zip(self.parts, state_dict["parts"], strict=True):
            part.total = total.clone()
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "parts"})


class Copies(torch.optim.SGD):
    """Tensors in the state alone, which begin as copies of the weights: unlike torch's own, not at 0."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for p in (p for group in self.param_groups for p in group["params"]):
            self.state[p].setdefault("slow", p.detach().clone())
            p.sub_(p.grad, alpha=0.1).lerp_(self.state[p]["slow"], 0.3)
            self.state[p]["slow"].lerp_(p, 0.1)


class Factorizing(Copies):
    """Raises for a gradient that is not finite, as preconditioners do."""

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for p in (p for group in self.param_groups for p in group["params"]):
            torch.linalg.cholesky(p.grad.reshape(-1, 1) @ p.grad.reshape(1, -1) + torch.eye(p.numel(), dtype=p.dtype))
        super().step()


def eight_bit(params: Any) -> torch.optim.Optimizer:
    return pytest.importorskip("torchao.optim").AdamW8bit(params, lr=0.01, block_size=2)


def schedule_free(params: Any) -> torch.optim.Optimizer:
    base = pytest.importorskip("schedulefree").AdamWScheduleFree(params, lr=0.01)
    base.train()
    return base


def averaged(params: Any) -> torch.optim.Optimizer:
    """An average of the weights that a hook keeps."""
    params = list(params)
    base = torch.optim.SGD(params, lr=0.1)
    base.average = [p.detach().clone() for p in params]  # pyright: ignore[reportAttributeAccessIssue]

    @torch.no_grad()
    def follow(*_: Any) -> None:
        for one, p in zip(base.average, params, strict=True):  # pyright: ignore[reportAttributeAccessIssue]
            one.lerp_(p, 0.1)

    base.register_step_post_hook(follow)
    return base


BASES: dict[str, Make] = {
    "counts": Counts,
    "buffered": Buffered,
    "copies": lambda p: Copies(p, lr=0.1),
    "factorizing": lambda p: Factorizing(p, lr=0.1),
    "lookahead": lambda p: po.Lookahead(torch.optim.SGD(p, lr=0.1, momentum=0.9), k=2, pullback_momentum="pullback"),
    "lookahead of adamp": lambda p: po.Lookahead(po.AdamP(p, lr=0.01), k=3),
    "shampoo": lambda p: po.Shampoo(p, lr=0.1, preconditioning_compute_steps=2),
    "scalable shampoo": lambda p: po.ScalableShampoo(p, lr=0.1, start_preconditioning_step=2, block_size=4),
    "soap": lambda p: po.SOAP(p, lr=0.01, precondition_frequency=2),
    "kron": lambda p: po.Kron(p, lr=0.01, balance_prob=0.0),  # else it draws from NumPy
    "ranger21": lambda p: po.Ranger21(p, num_iterations=50, lr=0.01),
    "adan": lambda p: po.Adan(p, lr=0.01),
    "schedule free": schedule_free,
    "8 bit": eight_bit,
    "average": averaged,
    "several": lambda p: _several(list(p)),
}
RESUMES = [
    name for name in BASES if name not in ("counts", "kron", "average", "several")
]  # do not resume by themselves


def _several(params: list[Any]) -> Any:
    return [Counts(params[:2]), torch.optim.Adam(params[2:], lr=0.01)]


def made(name: str, rho: Any, seed: int = 0) -> tuple[torch.nn.Module, SharpnessAware]:
    torch.manual_seed(0)
    model = network(seed, torch.float32)
    return model, SAM(BASES[name](list(model.parameters())), rho=rho)


def step(model: torch.nn.Module, opt: SharpnessAware, i: int, bad: int | None = None) -> None:
    calls = [0]

    def closure_of(data: Any) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            calls[0] += 1
            loss = closure_on(model, data)()
            if calls[0] == bad:
                for p in model.parameters():
                    p.grad = torch.full_like(p, math.nan)
            return loss

        return closure

    opt.step(closure_of(batch(i, dtype=torch.float32)), closure_of(batch(50 + i, dtype=torch.float32)))


@pytest.mark.parametrize("bad_step", [0, 1, 4])
@pytest.mark.parametrize("name", BASES)
def test_a_bad_step_might_not_have_been(name: str, bad_step: int) -> None:
    """The next steps are those of a run that never saw it."""
    runs = []
    for spoiled in (False, True):
        model, opt = made(name, 0.05)
        for i in range(8):
            if spoiled and i == bad_step:
                torch.manual_seed(i)
                before = weights_of(model)
                step(model, opt, 99, 2)
                assert same_bits(weights_of(model), before)
            torch.manual_seed(i)
            step(model, opt, i)
        extra = getattr(opt.base_optimizer, "average", [])
        runs.append((weights_of(model), extra, opt.base_optimizer.state_dict()))
        assert opt.metrics["skipped_steps"] == spoiled
    assert same_values(*runs)


def same_values(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        if hasattr(one, "dequantize") and type(one) is not Tensor:
            return same_bits(one.dequantize(), other.dequantize())
        return same_bits(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_values(v, other[k]) for k, v in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(itertools.starmap(same_values, zip(one, other, strict=True)))
    if hasattr(one, "__dict__") and not callable(one):
        return same_values(vars(one), vars(other))
    return type(one) is type(other) and (callable(one) or one == other)


class Still(Rule):
    """A rule that keeps the radius."""

    def move(self, rho: Tensor, slope: Tensor, update: Any) -> Tensor:
        return rho.clone()


@pytest.mark.parametrize("bad", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["counts", "buffered", "copies", "lookahead", "shampoo", "soap", "8 bit"])
def test_a_step_whose_new_weights_fail_is_undone(name: str, bad: int) -> None:
    """With `training_batch="same"`, when the base optimizer has stepped already. The last pass is the held-out one."""
    runs = []
    for spoiled in (False, True):
        model, opt = made(name, LearnedRadius(0.05, objective=ValidationLoss("same"), rule=Still(), interval=1))
        for i in range(5):
            if spoiled and i == 2 and bad < 4:
                torch.manual_seed(i)
                step(model, opt, 99, bad)
                opt.radius.rho.fill_(0.05)
            torch.manual_seed(i)
            step(model, opt, i, 4 if spoiled and i == 2 and bad == 4 else None)
        runs.append((weights_of(model), opt.base_optimizer.state_dict()))
        assert opt.metrics["skipped_steps"] == (spoiled and bad < 4)
    assert same_values(*runs)


@pytest.mark.parametrize("radius", ["fixed", "learned"])
@pytest.mark.parametrize("name", RESUMES)
def test_whatever_saves_loads(name: str, radius: str) -> None:
    """Into a fresh object, through a file; training goes on bit for bit, as it does with the base optimizer alone."""

    def rho() -> Any:
        return 0.05 if radius == "fixed" else LearnedRadius(0.05, interval=1)

    model, opt = made(name, rho())
    for i in range(5):
        step(model, opt, i)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "opt": opt.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    kept = copy.deepcopy(saved["opt"]["sharpness_aware"])
    other, resumed = made(name, rho())
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["opt"])
    assert same_values(saved["opt"]["sharpness_aware"], kept)
    for i in range(5, 9):
        for run in ((model, opt), (other, resumed)):
            torch.manual_seed(i)
            step(*run, i)
    assert same_bits(weights_of(other), weights_of(model))
    assert same_bits(opt.rho, resumed.rho)


def reads(opt: SharpnessAware, model: torch.nn.Module, i: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the host reads a flag in a step."""
    count = [0]
    real = Tensor.__bool__

    def counted(self: Tensor) -> bool:
        count[0] += 1
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "__bool__", counted)
        step(model, opt, i)
    return count[0]


@pytest.mark.parametrize(("name", "expected"), [("copies", [1, 0, 0]), ("counts", [1, 1, 1]), ("average", [1, 1, 1])])
def test_the_host_reads_once_and_only_where_there_is_more_than_tensors(
    name: str, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """State that is made counts as a change, so the first step is read in any case."""
    model, opt = made(name, 0.05)
    step(model, opt, 0)
    assert [reads(opt, model, i, monkeypatch) for i in range(1, 4)] == expected


@pytest.fixture
def one_process() -> Any:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def sharded(model: torch.nn.Module, rho: Any) -> SharpnessAware:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    return SAM(ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam, lr=0.01), rho=rho)


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("bad_step", [0, 3])
def test_a_bad_step_with_sharded_state(bad_step: int) -> None:
    """The state is in an optimizer within the optimizer, and `state` itself is empty."""
    ends = []
    for spoiled in (False, True):
        model = network()
        opt = sharded(model, 0.05)
        for i in range(6):
            if spoiled and i == bad_step:
                inputs, targets = batch(99)
                opt.step(closure_on(model, (inputs * math.nan, targets)))
            opt.step(closure_on(model, batch(i)))
        assert opt.metrics["skipped_steps"] == spoiled
        ends.append(weights_of(model))
    assert same_bits(*ends)


@pytest.mark.usefixtures("one_process")
def test_sharded_state_saves_and_loads() -> None:
    model = network()
    opt = sharded(model, learned_radius(0.05, interval=1))
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
    opt.base_optimizer.consolidate_state_dict(0)  # pyright: ignore[reportAttributeAccessIssue]
    before = opt.state_dict()
    state = copy.deepcopy(before)  # as from a file
    twin = network()
    twin.load_state_dict(model.state_dict())
    resumed = sharded(twin, learned_radius(0.05, interval=1))
    resumed.load_state_dict(state)
    assert same_bits(state, before), "the caller's state must not change"
    for i in range(3, 6):
        for run, its in ((opt, model), (resumed, twin)):
            run.step(closure_on(its, batch(i)), closure_on(its, batch(50 + i)))
    assert same_bits(weights_of(twin), weights_of(model))
    assert same_bits(opt.rho, resumed.rho)


def test_several_optimizers_of_which_one_saves_in_a_format_of_its_own() -> None:
    params = list(network().parameters())
    opt = SAM([BASES["lookahead"](params[:2]), torch.optim.Adam(params[2:])], rho=0.05)
    with pytest.raises(ValueError, match="can only be saved together in torch's format, got a Lookahead with its own"):
        opt.state_dict()


class Interrupted(torch.optim.SGD):
    """Stops after half of its weights, as with Ctrl-C."""

    stops = False

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for i, p in enumerate(p for group in self.param_groups for p in group["params"]):
            if self.stops and i == 2:
                raise KeyboardInterrupt
            self.state[p]["n"] = self.state[p].get("n", 0) + 1
            p.sub_(p.grad, alpha=0.1 / self.state[p]["n"])


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("learned", [None, "next", "same"])
@pytest.mark.parametrize("base", ["own", "adam", "momentum"])
def test_an_interrupt_within_the_step_of_the_base_optimizer(
    base: str, learned: str | None, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are as before the step, what it has made is removed, and the next step runs."""
    model = network()
    bases: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "own": lambda: Interrupted(model.parameters(), lr=0.1),
        "adam": lambda: torch.optim.Adam(model.parameters(), lr=0.01, foreach=False),
        "momentum": lambda: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=False),
    }
    rho: Any = 0.05 if learned is None else learned_radius(0.05, interval=1, training_batch=learned)
    opt = SAM(bases[base](), rho=rho)
    if not first:
        opt.step(closure_on(model, batch(0)), closure_on(model, batch(50)))
    before, radius = weights_of(model), opt.rho.clone()
    state = copy.deepcopy(opt.base_optimizer.state_dict()["state"])
    with monkeypatch.context() as patch:
        if base == "own":
            patch.setattr(Interrupted, "stops", True)
        else:
            count = [0]
            name = "addcdiv_" if base == "adam" else "add_"
            real = getattr(Tensor, name)

            def stopping(self: Tensor, *args: Any, **options: Any) -> Tensor:
                count[0] += any(self is p for p in model.parameters())
                if count[0] == 3:
                    raise KeyboardInterrupt
                return real(self, *args, **options)

            patch.setattr(Tensor, name, stopping)
        with pytest.raises(KeyboardInterrupt):
            opt.step(closure_on(model, batch(1)), closure_on(model, batch(51)))
    assert same_bits(weights_of(model), before)
    assert same_bits(opt.rho, radius)
    now = opt.base_optimizer.state_dict()["state"]
    if first or learned == "same" or base == "own":  # else the moments of some weights have moved
        assert same_bits(now, state)
    opt.step(closure_on(model, batch(2)), closure_on(model, batch(52)))
    assert not same_bits(weights_of(model), before)
