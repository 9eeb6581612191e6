"""Every variant of the registry against its row: steps, passes and the hypergradient of its own update."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import letsam
from learned_radius import learned_radius
from letsam import LearnedRadius, SharpnessAware
from letsam.variants import VARIANTS
from oracle import maths
from oracle.by_hand import ByHand, InParts
from oracle.problems import (
    BASES,
    Batch,
    batch,
    closure_on,
    descend,
    flat,
    network,
    normalised_network,
    same_bits,
    weights_of,
)
from oracle.variants import ROWS

RHO = 0.2
NAMES = {kind.__name__: kind for kind in VARIANTS.values()}
STEPS = ["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop"]
EXACT: dict[str, Any] = {"hypergradient": "finite_difference", "interval": 1, "prior": None, "burn_in": 0}


def has_momentum(base: str) -> bool:
    return base not in ("sgd", "rmsprop")


PAIRS = [(name, base) for name in NAMES for base in STEPS if has_momentum(base) or not ROWS[name].needs_momentum]


# each pair with the projection or without it, by turns; both where the update has a term beside the base optimizer's
PROJECTED = [
    (name, base, projected)
    for name, base in PAIRS
    for projected in (False, True)
    if name == "WSAM" or projected == bool((STEPS.index(base) + list(NAMES).index(name)) % 2)
]


def make(name: str, base: torch.optim.Optimizer, model: torch.nn.Module, rho: Any) -> SharpnessAware:
    options = ROWS[name].options | ({"model": model} if ROWS[name].needs_model else {})
    return NAMES[name](base, rho, **options)


def pair(name: str, base: str, rho: Any) -> tuple[SharpnessAware, ByHand, torch.nn.Module]:
    """A variant, and the same by hand, on models and base optimizers that have taken a few plain steps."""
    model = ROWS[name].make_model()
    optimizer = BASES[base](model.parameters())
    descend(model, optimizer, 3, first=200)
    by_hand = ByHand(name, maths.State(*copy.deepcopy((model, optimizer))))
    return make(name, optimizer, model, rho), by_hand, model


def training(name: str, model: torch.nn.Module, data: Batch, *log: list[str], **options: Any) -> InParts:
    """The training closure that a variant is meant for: in parts, where its row has sub-batches."""
    return InParts(model, data, ROWS[name].parts, *log, **options)


def test_every_variant_has_a_row() -> None:
    assert set(NAMES) == set(ROWS)


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_tells_what_it_is(name: str) -> None:
    facts = NAMES[name].facts
    assert facts.title
    assert re.fullmatch(r"arXiv:\d{4}\.\d{5}", facts.paper)
    assert facts.paper.removeprefix("arXiv:") in (NAMES[name].made_of.__doc__ or "")
    assert facts.copies >= 1
    model = ROWS[name].make_model()
    opt = NAMES[name](torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), model=model)
    assert opt.rho.item() == pytest.approx(facts.rho)


@pytest.mark.parametrize(("name", "base"), PAIRS)
def test_a_variant_against_its_row(name: str, base: str) -> None:
    opt, by_hand, model = pair(name, base, RHO)
    for t in range(8):
        log: list[str] = []
        before = by_hand.state.theta
        loss = opt.step(training(name, model, batch(t), log))
        assert len(log) == by_hand.row.passes(t)
        by_hand.step(batch(t), RHO)
        torch.testing.assert_close(flat(model.parameters()), by_hand.state.theta, rtol=1e-9, atol=1e-11)
        if len(log) > 1:
            assert loss.item() == pytest.approx(maths.loss(model, before, batch(t)).item(), rel=1e-9)
    assert opt.metrics["skipped_steps"] == 0


def test_the_rows_differ() -> None:
    """No variant is another one, or the base optimizer; under an adaptive base, as some are SAM under SGD."""
    ends: dict[str, Tensor] = {}
    for name in NAMES:
        _, by_hand, _ = pair(name, "adam", RHO)
        for t in range(6):
            by_hand.step(batch(t), RHO)
        ends[name] = by_hand.state.theta
    for name, end in ends.items():
        _, by_hand, model = pair(name, "adam", RHO)
        descend(model, opt_of(model, by_hand), 6)
        assert (end - flat(model.parameters())).norm() > 1e-4, name
        rivals = [other for key, other in ends.items() if key != name and other.shape == end.shape]
        assert all((end - other).norm() > 1e-4 for other in rivals), name


def opt_of(model: torch.nn.Module, by_hand: ByHand) -> torch.optim.Optimizer:
    base = BASES["adam"](model.parameters())
    base.load_state_dict(by_hand.state.base.state_dict())
    return base


@pytest.mark.parametrize(("name", "base", "projected"), PROJECTED)
def test_the_hypergradient_of_its_own_update(name: str, base: str, projected: bool) -> None:
    """Central differences of the true one-step objective, eps_hat held fixed, at every step that climbs."""
    opt, by_hand, model = pair(name, base, learned_radius(RHO, **EXACT, length_invariant=projected))
    expected, held_out, seen = None, batch(50), 0
    for t in range(7):
        log: list[str] = []
        rho_before = opt.rho.item()
        opt.step(training(name, model, batch(t), log), closure_on(model, held_out, log, "validation"))
        if expected is not None:
            assert opt.metrics["hypergradient"].item() == pytest.approx(expected, rel=2e-6, abs=1e-10)
            assert opt.rho.item() != rho_before
            seen += 1
        elif t:
            assert "validation" not in log or not by_hand.row.passes_tell, "there is no Z to learn with"
            assert opt.metrics["hypergradient"] == 0 or by_hand.row.passes_tell
            assert opt.rho.item() == rho_before
        expected, held_out = true_hypergradient(by_hand, t, opt.metrics["rho"].item(), projected)
        by_hand.step(batch(t), opt.metrics["rho"].item())
        torch.testing.assert_close(flat(model.parameters()), by_hand.state.theta, rtol=1e-9, atol=1e-11)
    assert seen >= 2


def true_hypergradient(by_hand: ByHand, t: int, rho: float, projected: bool) -> tuple[float | None, Any]:
    """Of the step on batch t, and the validation batch on which it is largest of a few: sums that happen to cancel, and
    their relative errors, say nothing about a method."""
    found = []
    for held_out in map(batch, (50, 51)):
        step = by_hand.one_step(batch(t), rho, held_out)
        if step is None:
            return None, held_out
        found.append((step.projected(rho) if projected else step.central_difference(rho), held_out))
    return max(found, key=lambda pair: abs(pair[0]))


@pytest.mark.parametrize("name", NAMES)
def test_the_hypergradient_at_the_same_batch(name: str) -> None:
    """Measured at the end of the step itself, on the weights it has made."""
    radius = learned_radius(RHO, **EXACT, training_batch="same", length_invariant=False)
    opt, by_hand, model = pair(name, "momentum", radius)
    for t in range(5):
        rho_before, log = opt.rho.item(), []
        step = by_hand.one_step(batch(t), rho_before, batch(50))
        opt.step(training(name, model, batch(t)), closure_on(model, batch(50), log))
        assert (step is None) == (log == []) or not by_hand.row.passes_tell
        rho = opt.metrics["rho"].item()
        if step is not None and t > 0:
            exact = by_hand.one_step(batch(t), rho, batch(50)).central_difference(rho)
            assert opt.metrics["hypergradient"].item() == pytest.approx(exact, rel=2e-6)
        by_hand.step(batch(t), rho)


@pytest.mark.parametrize("base", ["momentum", "adam"])
@pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", range(9))
def test_a_step_that_is_not_finite_leaves_nothing(name: str, learned: bool, base: str, where: int) -> None:
    """A NaN in the gradient of one pass: weights, moments, radius and what the variant remembers stay as they were.

    A learned radius is halved if the pass at the weights was finite (tests/radius/test_overflow.py).
    """
    opt, _, model = pair(name, base, LearnedRadius(RHO, interval=1) if learned else RHO)
    for t in range(4):
        opt.step(training(name, model, batch(t)), closure_on(model, batch(50)))
    calls = [0]

    def spoil() -> None:
        if calls[0] == where:
            next(model.parameters()).grad[0] = float("nan")
        calls[0] += 1

    weights, state = weights_of(model), copy.deepcopy(opt.state_dict())
    opt.step(training(name, model, batch(9), after=spoil), closure_on(model, batch(50)))
    if where >= calls[0]:
        assert opt.metrics["skipped_steps"] == 0
        return
    assert opt.metrics["skipped_steps"] == 1
    after = opt.state_dict()
    assert same_bits(weights_of(model), weights)
    assert same_bits(after["state"], state["state"])
    assert same_bits(after["sharpness_aware"]["perturbation"], state["sharpness_aware"]["perturbation"])
    rho = torch.as_tensor(state["sharpness_aware"]["radius"]["rho"])
    assert opt.rho == rho or (learned and where > 0 and opt.rho == rho / 2)
    opt.step(training(name, model, batch(10)), closure_on(model, batch(50)))
    assert all(w.isfinite().all() for w in weights_of(model))


@pytest.mark.parametrize("where", range(6))
@pytest.mark.parametrize("name", NAMES)
def test_a_closure_that_raises_leaves_nothing(name: str, where: int) -> None:
    """Afterwards the run goes on as if that step had not been asked for."""
    opt, _, model = pair(name, "momentum", RHO)
    twin, _, twin_model = pair(name, "momentum", RHO)
    calls = [0]

    def fail() -> None:
        calls[0] += 1
        if calls[0] == where + 1:
            raise RuntimeError("out of memory")

    for t in range(6):
        opt.step(training(name, model, batch(t)))
        twin.step(training(name, twin_model, batch(t)))
        if t in (0, 3, 4) and where < ROWS[name]().passes(t + 1):
            calls[0] = 0
            with pytest.raises(RuntimeError, match="out of memory"):
                opt.step(training(name, model, batch(9), after=fail))
    assert same_bits(weights_of(model), weights_of(twin_model))
    assert same_bits(opt.state_dict(), twin.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_bf16_weights_come_back_as_they_were(name: str) -> None:
    """A learning rate of 0: whatever the passes do, no bit of the weights moves."""
    model = ROWS[name].make_model(dtype=torch.bfloat16)
    before = weights_of(model)
    base = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    opt = make(name, base, model, RHO)
    for t in range(5):
        opt.step(training(name, model, batch(t, dtype=torch.bfloat16)))
    assert same_bits(weights_of(model), before)
    assert opt.metrics["skipped_steps"] == 0


class NothingRead(TorchDispatchMode):
    """Raises where a value of a tensor is asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise AssertionError(f"a step reads a tensor's value on the host: {func}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_step_is_read_by_the_host(name: str, learned: bool) -> None:
    model = ROWS[name].make_model()
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    opt = make(name, base, model, LearnedRadius(RHO, interval=1) if learned else RHO)
    with NothingRead():
        for t in range(4):
            opt.step(training(name, model, batch(t)), closure_on(model, batch(50)))
    assert opt.metrics["skipped_steps"] == 0
    with NothingRead(), pytest.raises(AssertionError, match="on the host"):
        opt.rho.item()


def test_an_option_that_a_variant_does_not_have() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'alhpa'"):
        NAMES["GSAM"](torch.optim.SGD(network().parameters(), lr=0.1), 0.1, alhpa=1)


@pytest.mark.parametrize("base", ["momentum", "adam"])
def test_wsam_through_the_base_optimizer(base: str) -> None:
    """gamma = 1/2 is SAM then; another gamma is a weighted sum, and its hypergradient that of the sum."""
    ends = []
    for name, options in (("SAM", {}), ("WSAM", {"gamma": 0.5, "decouple": False})):
        model = network()
        opt = NAMES[name](BASES[base](model.parameters()), LearnedRadius(RHO, interval=1), **options)
        for t in range(5):
            opt.step(closure_on(model, batch(t)), closure_on(model, batch(50)))
        ends.append((flat(model.parameters()), opt.rho))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-9, atol=1e-12)

    model = network()
    optimizer = BASES[base](model.parameters())
    descend(model, optimizer, 4)
    start = maths.State(model, optimizer).copy()
    opt = NAMES["WSAM"](optimizer, learned_radius(RHO, **EXACT, length_invariant=False), gamma=0.75, decouple=False)
    g = maths.gradient(model, start.theta, batch(3))

    def objective(rho: float) -> float:
        g_rho = maths.gradient(start.model, start.theta + rho * g / g.norm(), batch(3))
        return maths.loss(start.model, maths.base_step(start, 3 * g_rho - 2 * g), batch(20)).item()

    for t in (3, 4):
        opt.step(closure_on(model, batch(t)), closure_on(model, batch(20)))
    h = 1e-3
    inner, outer = ((objective(RHO + k * h) - objective(RHO - k * h)) / (2 * k * h) for k in (1, 2))
    assert opt.metrics["hypergradient"].item() == pytest.approx((4 * inner - outer) / 3, rel=2e-6)


def test_sam_on_is_sam_with_the_groups_of_sam_on() -> None:
    """And it goes on alike from a pickle, which has no model."""
    models = [normalised_network() for _ in range(2)]
    opts = [
        NAMES["SAMON"](torch.optim.SGD(models[0].parameters(), lr=0.1), RHO, model=models[0]),
        NAMES["SAM"](torch.optim.SGD(letsam.param_groups(models[1], "norm"), lr=0.1), RHO),
    ]
    for t in range(4):
        for model, opt in zip(models, opts, strict=True):
            opt.step(closure_on(model, batch(t)))
        models[0], opts[0] = pickle.loads(pickle.dumps((models[0], opts[0])))
    assert same_bits(weights_of(models[0]), weights_of(models[1]))

    message = r'^`model` must be given for a SAMONPerturbation, which perturbs "norm" alone, got None(\n|$)'
    with pytest.raises(ValueError, match=message):
        NAMES["SAMON"](torch.optim.SGD(models[0].parameters(), lr=0.1), RHO)
    model = network()
    with pytest.raises(ValueError, match=r"^`model` must have normalisation layers"):
        NAMES["SAMON"](torch.optim.SGD(model.parameters(), lr=0.1), RHO, model=model)


def test_a_subclass_of_a_variant_is_that_variant() -> None:
    """One's own class, or a trainer's wrapper, adds nothing to the registry."""
    known = dict(VARIANTS)

    class Mine(VARIANTS["gsam"]):
        pass

    opt = Mine(torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1), alpha=0.3)
    assert isinstance(opt.perturbation, VARIANTS["gsam"].made_of)
    assert known == VARIANTS
