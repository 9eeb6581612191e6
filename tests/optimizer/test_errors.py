"""Every error names the argument, what was expected and what came; and nothing has changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from learned_radius import learned_radius
from letsam import (
    ASAM,
    SAM,
    CosineRadius,
    Diagonal,
    LearnedRadius,
    LinearRadius,
    LogAdam,
    Prior,
    ProportionalRadius,
    ReplayedRadius,
    Secant,
    SquaredGap,
)
from letsam.hypergradient import FiniteDifference
from letsam.perturbations import SAMPerturbation
from letsam.step.record import StepRecord
from oracle.problems import batch, closure_on, loss_on, network, same_bits, snapshot, weights_of


def base(model: nn.Module | None = None) -> torch.optim.Optimizer:
    return torch.optim.SGD((model or network()).parameters(), lr=0.1, momentum=0.9)


def learned(**options: Any) -> Callable[[], Any]:
    return lambda: learned_radius(0.1, **options)


NAN, INF = math.nan, math.inf
ARGUMENTS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # a radius as a number
    (lambda: SAM(base(), rho=-1.0), ValueError, "`rho` must be > 0, got -1.0"),
    (lambda: ASAM(base(), rho=-1.0), ValueError, "`rho` must be > 0, got -1.0"),
    (lambda: SAM(base(), rho=NAN), ValueError, "`rho` must be > 0, got nan"),
    (lambda: SAM(base(), rho=INF), ValueError, "`rho` must be > 0, got inf"),
    (lambda: SAM(base(), rho="0.1"), TypeError, "`rho` must be a number > 0, a schedule or a LearnedRadius, got '0.1'"),
    (lambda: SAM(base(), rho=None), TypeError, "`rho` must be a number > 0, .*, got None"),
    (lambda: SAM(base(), rho=True), TypeError, "`rho` must be a number > 0, .*, got True"),
    (lambda: SAM(base(), rho=torch.ones(2)), TypeError, "`rho` must be a number > 0, .*, got tensor"),
    (lambda: SAM(base(), rho=torch.tensor(-2.0)), ValueError, "`rho` must be > 0, got -2.0"),
    (lambda: SAM(base(), rho=10**400), ValueError, "`rho` must be a number that a float can hold, got int 1000"),
    (lambda: SAM(base(), rho=10**5000), ValueError, "`rho` must be .* float can hold, got an object of type int"),
    (lambda: letsam.FixedRadius(-1.0), ValueError, "`rho` must be > 0, got -1.0"),
    (lambda: letsam.FixedRadius("a"), TypeError, "`rho` must be a number, got 'a'"),
    # a learned radius
    (lambda: LearnedRadius(-1.0), ValueError, "`rho` must be > 0, got -1.0"),
    (lambda: LearnedRadius(0), ValueError, "`rho` must be > 0, got 0.0"),
    (lambda: LearnedRadius(NAN), ValueError, "`rho` must be > 0, got nan"),
    (lambda: LearnedRadius("a"), TypeError, "`rho` must be a number, got 'a'"),
    (lambda: LearnedRadius(20.0), ValueError, r"`rho` must be within `bounds` = \(0.0001, 10.0\), got 20.0"),
    (learned(bounds=(0.2, 1.0)), ValueError, r"`rho` must be within `bounds` = \(0.2, 1.0\), got 0.1"),
    (learned(bounds=(1.0, 0.05)), ValueError, r"`bounds` must be \(lowest, highest\) with lowest < highest, got"),
    (learned(bounds=(0.1, 0.1)), ValueError, r"`bounds` must be \(lowest, highest\) with lowest < highest, got"),
    (learned(bounds=(0.0, 1.0)), ValueError, "`bounds` must be > 0, got 0.0"),
    (learned(bounds=(NAN, 1.0)), ValueError, "`bounds` must be > 0, got nan"),
    (learned(bounds=0.5), TypeError, r"`bounds` must be a pair \(lowest, highest\), got 0.5"),
    (learned(bounds=(1, 2, 3)), TypeError, r"`bounds` must be a pair \(lowest, highest\), got \(1, 2, 3\)"),
    (learned(bounds=None), TypeError, r"`bounds` must be a pair \(lowest, highest\), got None"),
    (learned(bounds=("a", 1.0)), TypeError, "`bounds` must be a number, got 'a'"),
    (lambda: LearnedRadius(0.1, objective="gap"), TypeError, "`objective` must be a letsam Objective .*, got 'gap'"),
    (lambda: LearnedRadius(0.1, objective=SquaredGap), TypeError, "`objective` must be a letsam Objective .*, got <cl"),
    (lambda: LearnedRadius(0.1, hypergradient="secant"), TypeError, "`hypergradient` must be a letsam Hypergradient"),
    (lambda: LearnedRadius(0.1, rule=0.05), TypeError, "`rule` must be a letsam Rule object or None, got 0.05"),
    (lambda: LogAdam(prior=0.2), TypeError, "`prior` must be a letsam.Prior or None, got 0.2"),
    (lambda: Prior(0.0), ValueError, "`reach` must be > 0, got 0.0"),
    (lambda: Prior(weight=-0.1), ValueError, "`weight` must be >= 0, got -0.1"),
    (lambda: Prior(weight=(0.1, NAN)), ValueError, "`weight` must be >= 0, got nan"),
    (lambda: Prior(weight=(1, 2, 3)), ValueError, r"`weight` must be one number or two, \(below, above\), got \(1, 2"),
    (lambda: Prior(rise=0.0), ValueError, "`rise` must be > 0, got 0.0"),
    (lambda: Secant(length_invariant=1), TypeError, "`length_invariant` must be True or False, got 1"),
    (lambda: Diagonal(length_invariant=None), TypeError, "`length_invariant` must be True or False, got None"),
    (learned(training_batch="last"), ValueError, "`training_batch` must be one of next, same, got 'last'"),
    (learned(training_batch=1), TypeError, "`training_batch` must be one of next, same, got 1"),
    (learned(length_invariant=1), TypeError, "`length_invariant` must be True or False, got 1"),
    (learned(follow_lr="yes"), TypeError, "`follow_lr` must be True or False, got 'yes'"),
    (learned(interval=0), ValueError, "`interval` must be a whole number >= 1, got 0"),
    (learned(interval=1.5), TypeError, "`interval` must be a whole number >= 1, got 1.5"),
    (learned(interval=True), TypeError, "`interval` must be a whole number >= 1, got True"),
    (learned(lr=0), ValueError, "`lr` must be > 0, got 0.0"),
    (learned(lr=-0.1), ValueError, "`lr` must be > 0, got -0.1"),
    (learned(lr=NAN), ValueError, "`lr` must be > 0, got nan"),
    (learned(lr="fast"), TypeError, "`lr` must be a number, got 'fast'"),
    (lambda: LearnedRadius.paper(-1.0), ValueError, "`rho` must be > 0, got -1.0"),
    (lambda: LearnedRadius.paper(0.1, objective=SquaredGap()), TypeError, "unexpected keyword argument 'objective'"),
    (lambda: LearnedRadius.paper(0.1, interval=0), ValueError, "`interval` must be a whole number >= 1, got 0"),
    (lambda: FiniteDifference(0.0), ValueError, "`step` must be > 0, got 0.0"),
    (lambda: FiniteDifference("a"), TypeError, "`step` must be a number, got 'a'"),
    # schedules
    *[
        case
        for kind in (LinearRadius, CosineRadius)
        for case in (
            (lambda kind=kind: kind(-0.1, 0.1, 10), ValueError, "`start` must be >= 0, got -0.1"),
            (lambda kind=kind: kind(0.1, -0.1, 10), ValueError, "`end` must be >= 0, got -0.1"),
            (lambda kind=kind: kind(0.1, NAN, 10), ValueError, "`end` must be >= 0, got nan"),
            (lambda kind=kind: kind("a", 0.1, 10), TypeError, "`start` must be a number, got 'a'"),
            (lambda kind=kind: kind(0.1, 0.1, 0), ValueError, "`steps` must be a whole number >= 1, got 0"),
            (lambda kind=kind: kind(0.1, 0.1, 2.5), TypeError, "`steps` must be a whole number >= 1, got 2.5"),
        )
    ],
    (lambda: ProportionalRadius(0.0, 0.1), ValueError, "`maximum` must be > 0, got 0.0"),
    (lambda: ProportionalRadius(0.1, 0.0), ValueError, "`minimum` must be > 0, got 0.0"),
    (lambda: ProportionalRadius(0.1, 0.2), ValueError, "`minimum` must be at most `maximum` = 0.1, got 0.2"),
    (lambda: ReplayedRadius([], 3), ValueError, "`schedule` must hold at least one radius, got none"),
    (lambda: ReplayedRadius([0.1, -0.1], 3), ValueError, "`schedule` must be >= 0, got -0.1"),
    (lambda: ReplayedRadius([0.1, NAN], 3), ValueError, "`schedule` must be >= 0, got nan"),
    (lambda: ReplayedRadius([0.1], 0), ValueError, "`steps` must be a whole number >= 1, got 0"),
    (lambda: ReplayedRadius([0.1], 3, burn_in=-1), ValueError, "`burn_in` must be a whole number >= 0, got -1"),
    # the composition
    (lambda: SAM(network().parameters()), TypeError, "`base_optimizer` must be a torch.optim.Optimizer, got <gen"),
    (lambda: SAM(torch.optim.SGD), TypeError, "`base_optimizer` must be a torch.optim.Optimizer, got <class"),
    (lambda: SAM(None), TypeError, "`base_optimizer` must be a torch.optim.Optimizer, got None"),
    (lambda: SAM(SAM(base())), TypeError, "`base_optimizer` must step without a closure of its own, got SAM"),
    (lambda: SAM(torch.optim.LBFGS(network().parameters())), TypeError, "must step without a closure .*, got LBFGS"),
    (lambda: letsam.SharpnessAware(base(), "sam", 0.1), TypeError, "`perturbation` must be a Perturbation, got 'sam'"),
    (lambda: letsam.SharpnessAware(base(), SAMPerturbation, 0.1), TypeError, "must be a Perturbation, got <class"),
    (lambda: ASAM(base(), scale="biases"), ValueError, "`scale` must be one of all, weights, matrices, got 'biases'"),
    (lambda: ASAM(base(), scale=None), TypeError, "`scale` must be one of all, weights, matrices, got None"),
    (lambda: ASAM(base(), eta=-1.0), ValueError, "`eta` must be > 0, got -1.0"),
    (lambda: ASAM(base(), eta=NAN), ValueError, "`eta` must be > 0, got nan"),
    (lambda: ASAM(base(), eta="a"), TypeError, "`eta` must be a number, got 'a'"),
    (lambda: ASAM(base(), scale="weights"), ValueError, r'`scale="weights"` needs parameter names: .*named_'),
]


@pytest.mark.parametrize(("make", "error", "message"), ARGUMENTS)
def test_arguments(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make()
    assert type(caught.value) is error
    assert "\n" not in str(caught.value), "one line"


def test_long_values_are_shortened() -> None:
    with pytest.raises(TypeError, match=r"got Tensor tensor.*\.\.\.(\n|$)") as caught:
        SAM(base(), rho=torch.randn(100, generator=torch.Generator().manual_seed(0)))
    assert len(str(caught.value)) < 200


# --- closures -----------------------------------------------------------------------------------------------------


def no_gradients(model: nn.Module) -> Tensor:
    """Forgets backward()."""
    return loss_on(model, batch(0))


def cleared(model: nn.Module) -> Tensor:
    """Clears at the end instead of at the beginning."""
    loss = closure_on(model, batch(0))()
    model.zero_grad()
    return loss


def not_scalar(model: nn.Module) -> Tensor:
    loss = nn.functional.cross_entropy(model(batch(0)[0]), batch(0)[1], reduction="none")
    loss.sum().backward()
    return loss


def nothing(model: nn.Module) -> None:
    closure_on(model, batch(0))()


def a_float(model: nn.Module) -> float:
    return closure_on(model, batch(0))().item()


CLOSURES = {
    "no gradients": (
        no_gradients,
        ValueError,
        r"must leave gradients in the optimizer's parameters, got none: call loss",
    ),
    "cleared": (cleared, ValueError, r"must leave gradients in the optimizer's parameters, got none"),
    "not scalar": (not_scalar, ValueError, r"must return a scalar loss, got a tensor of shape \(12,\)"),
    "nothing": (nothing, TypeError, "must return the loss as a tensor, got None"),
    "a float": (a_float, TypeError, r"must return the loss as a tensor, got \d"),
}


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("where", ["pass 1", "pass 2", "validation", "validation, same", "training, same"])
@pytest.mark.parametrize("name", CLOSURES)
def test_bad_closures(name: str, where: str, later: bool) -> None:
    """In every pass, in the first step and later, when the gradients of the step before are still there."""
    bad, error, message = CLOSURES[name]
    model = network()
    same = where.endswith("same")
    opt = SAM(base(model), rho=learned_radius(0.1, training_batch="same" if same else "next", interval=1))
    good, held_out = closure_on(model, batch(0)), closure_on(model, batch(9))
    if later:
        for _ in range(2):
            opt.step(good, held_out)
        assert all(p.grad is not None for p in model.parameters())
    weights, (_, state) = weights_of(model), snapshot(model, opt)
    calls = [0]
    spoiled = {"pass 1": 1, "pass 2": 2, "training, same": 3}.get(where)

    def closure() -> Any:
        calls[0] += 1
        return bad(model) if calls[0] == spoiled else good()

    name_of_closure = "closure" if spoiled else "validation_closure"
    with pytest.raises(error, match=f"^`{name_of_closure}` {message}"):
        opt.step(closure, held_out if spoiled else lambda: bad(model))

    assert same_bits(weights_of(model), weights)
    after = opt.state_dict()
    for part in (state, after):
        part["sharpness_aware"]["radius"].pop("Z", None)
        part["sharpness_aware"]["radius"].pop("usable", None)
        part["sharpness_aware"].pop("peak_lr")  # has seen this step's learning rate, as a new try will
    assert same_bits(after["sharpness_aware"], state["sharpness_aware"])
    if later:
        assert same_bits(after["state"], state["state"])
    opt.step(good, held_out)
    assert opt.metrics["skipped_steps"] == 0
    assert not same_bits(weights_of(model), weights)


@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_a_closure_without_gradients_on_a_later_step_of_a_fixed_radius(variant: Any) -> None:
    model = network()
    opt = variant(base(model), rho=0.1)
    opt.step(closure_on(model, batch(0)))
    before = snapshot(model, opt)
    with pytest.raises(ValueError, match="`closure` must leave gradients"):
        opt.step(lambda: no_gradients(model))
    assert same_bits(snapshot(model, opt), before)


@pytest.mark.parametrize("closure", [None, 3.0])
def test_step_needs_a_closure(closure: Any) -> None:
    model = network()
    opt = SAM(base(model), rho=0.1)
    before = snapshot(model, opt)
    with pytest.raises(ValueError, match=r"`closure` must be a function that clears the gradients.*, got (None|3\.0)"):
        opt.step(closure)
    assert same_bits(snapshot(model, opt), before)


@pytest.mark.parametrize("radius", [LearnedRadius(0.1), LearnedRadius(0.1, interval=3), LearnedRadius.paper(0.1)])
def test_a_learned_radius_needs_a_validation_closure(radius: LearnedRadius) -> None:
    """At the first step, whatever the interval."""
    model = network()
    opt = SAM(base(model), rho=radius)
    before = snapshot(model, opt)
    log: list[str] = []
    with pytest.raises(ValueError, match=r"`validation_closure` must be given for a learned radius, .*, got None"):
        opt.step(closure_on(model, batch(0), log))
    assert log == []
    assert same_bits(snapshot(model, opt), before)


def test_sparse_gradients() -> None:
    embedding = nn.Embedding(5, 3, sparse=True)
    opt = SAM(torch.optim.SGD(embedding.parameters(), lr=0.1), rho=0.1)
    before = embedding.weight.detach().clone()

    def closure() -> Tensor:
        loss = embedding(torch.tensor([1, 2])).square().sum()
        loss.backward()
        return loss

    with pytest.raises(ValueError, match="`closure` must leave dense gradients, got sparse ones: use sparse=False"):
        opt.step(closure)
    closure()
    with pytest.raises(ValueError, match=r"the backward\(\) before ascent_step\(\) must leave dense gradients"):
        opt.ascent_step()
    assert torch.equal(embedding.weight, before)


def test_nothing_to_train() -> None:
    model = network().requires_grad_(False)
    opt = SAM(base(model), rho=0.1)
    with pytest.raises(ValueError, match="`base_optimizer` must hold at least one parameter with requires_grad=True"):
        opt.step(lambda: torch.zeros(()))


# --- two calls ----------------------------------------------------------------------------------------------------


def test_two_calls_need_a_radius_that_is_given() -> None:
    model = network()
    opt = SAM(base(model), rho=LearnedRadius(0.1, interval=1))
    closure_on(model, batch(0))()
    before = snapshot(model, opt)
    with pytest.raises(ValueError, match=r"`rho` must be fixed or scheduled for ascent_step\(\); a learned radius"):
        opt.ascent_step()
    assert same_bits(snapshot(model, opt), before)


def test_two_calls_out_of_order() -> None:
    model = network()
    opt = SAM(base(model), rho=0.1)
    before = weights_of(model)
    with pytest.raises(RuntimeError, match=r"descent_step\(\) needs an ascent_step\(\) before it"):
        opt.descent_step()
    with pytest.raises(ValueError, match=r"the backward\(\) before ascent_step\(\) must leave gradients .*, got none"):
        opt.ascent_step()
    assert same_bits(weights_of(model), before)
    closure_on(model, batch(0))()
    opt.ascent_step()
    with pytest.raises(RuntimeError, match=r"ascent_step\(\) was called twice: call descent_step\(\)"):
        opt.ascent_step()
    with pytest.raises(ValueError, match=r"the backward\(\) before descent_step\(\) must leave gradients .*, got none"):
        opt.descent_step()
    assert same_bits(weights_of(model), before)
    with pytest.raises(RuntimeError, match=r"descent_step\(\) needs an ascent_step\(\) before it"):
        opt.descent_step()


def test_step_after_a_forgotten_ascent_starts_from_the_weights() -> None:
    models = network(), network()
    opts = [SAM(base(model), rho=0.5) for model in models]
    closure_on(models[0], batch(0))()
    opts[0].ascent_step()
    for model, opt in zip(models, opts, strict=True):
        opt.step(closure_on(model, batch(1)))
    assert same_bits(weights_of(models[0]), weights_of(models[1]))


@pytest.mark.parametrize("by_hand", [False, True])
def test_an_interrupt_while_the_weights_are_restored_leaves_none_perturbed(
    by_hand: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step after it begins at the unperturbed weights, wherever in the restoring the interrupt came."""
    model = network()
    opt, before = SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=0.1), weights_of(model)
    monkeypatch.setattr(StepRecord, "restore", interrupt_once(StepRecord.restore))
    closure = closure_on(model, batch(0))
    if by_hand:
        closure()
        opt.ascent_step()
        closure()
    with pytest.raises(KeyboardInterrupt):
        opt.descent_step() if by_hand else opt.step(closure)
    opt.step(closure)
    assert same_bits(weights_of(model), before)


def interrupt_once(restore: Callable[[StepRecord], None]) -> Callable[[StepRecord], None]:
    calls = [0]

    def interrupted(record: StepRecord) -> None:
        calls[0] += 1
        if calls[0] == 1:
            raise KeyboardInterrupt
        restore(record)

    return interrupted
