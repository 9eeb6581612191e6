"""Methods by name: what each name stands for, and which names are refused."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

import training_cases
from letsam.optimizer import SharpnessAware
from letsam.perturbations import ASAMPerturbation, SAMPerturbation
from letsam.perturbations.aesam import AESAMPerturbation
from letsam.radius import FixedRadius, LearnedRadius, LinearRadius, LossBudgetRadius, ProportionalRadius, ReplayedRadius
from letsam.results import MethodName
from letsam.tasks import Task
from letsam.training import methods
from letsam.training.methods import KINDS, Kind, Method, PlannedRun, register
from letsam.variants import SAM, VARIANTS, Variant


@pytest.fixture
def base() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)


@pytest.fixture
def task() -> Task:
    return training_cases.task(sam_rho=0.03, asam_rho=0.7)


@pytest.mark.parametrize(
    ("name", "perturbation", "radius", "rho"),
    [
        ("sam", SAMPerturbation, FixedRadius, 0.03),
        ("sam:0.1", SAMPerturbation, FixedRadius, 0.1),
        ("sam:1e-3", SAMPerturbation, FixedRadius, 0.001),
        ("asam", ASAMPerturbation, FixedRadius, 0.7),
        ("asam:2", ASAMPerturbation, FixedRadius, 2.0),
        ("lets-sam", SAMPerturbation, LearnedRadius, 0.03),
        ("lets-sam:0.1", SAMPerturbation, LearnedRadius, 0.1),
        ("lets-asam", ASAMPerturbation, LearnedRadius, 0.7),
        ("lets-asam:0.2", ASAMPerturbation, LearnedRadius, 0.2),
        ("lets-paper-sam", SAMPerturbation, LearnedRadius, 0.03),
        ("lets-paper-asam:0.4", ASAMPerturbation, LearnedRadius, 0.4),
    ],
)
def test_names_and_the_optimizers_they_stand_for(
    name: str, perturbation: type, radius: type, rho: float, task: Task, base: torch.optim.Optimizer
) -> None:
    method = Method.parse(name)
    optimizer = method.optimizer(base, method.initial_rho(task, None))

    assert method.name == name
    assert isinstance(optimizer, SharpnessAware)
    assert optimizer.base_optimizer is base
    assert type(optimizer.perturbation) is perturbation
    assert type(optimizer.radius) is radius
    assert optimizer.rho.item() == pytest.approx(rho)
    assert method.is_learned == MethodName.parse(name).learned == (radius is LearnedRadius)


def test_sgd_is_the_base_optimizer_itself(task: Task, base: torch.optim.Optimizer) -> None:
    method = Method.parse("sgd")

    assert method.initial_rho(task, 0.3) is None
    assert method.optimizer(base, None) is base
    assert not method.is_learned


def settings(value: Any, depth: int = 3) -> Any:
    """The public attributes of a radius and of its parts, as plain values."""
    if value is None or isinstance(value, (str, int, float, tuple)):
        return value
    if isinstance(value, torch.Tensor):
        return value.tolist()
    public = {name: item for name, item in getattr(value, "__dict__", {}).items() if not name.startswith("_")}
    return type(value), {name: settings(item, depth - 1) for name, item in public.items()} if depth else None


def test_the_paper_and_the_default_are_different_methods(base: torch.optim.Optimizer) -> None:
    made = [Method.parse(name).optimizer(base, 0.1) for name in ("lets-sam", "lets-paper-sam")]
    default, paper = (settings(optimizer.radius) for optimizer in made if isinstance(optimizer, SharpnessAware))
    assert default == settings(SAM(base, LearnedRadius(0.1)).radius)
    assert paper == settings(SAM(base, LearnedRadius.paper(0.1)).radius)
    assert default != paper


@pytest.mark.parametrize(
    ("name", "override", "rho"),
    [
        ("sam", None, 0.03),
        ("sam", 0.2, 0.2),
        ("sam:0.1", 0.2, 0.1),
        ("asam", 0.2, 0.2),
        ("lets-asam:0.1", None, 0.1),
    ],
)
def test_radius_comes_from_the_name_then_the_option_then_the_task(
    name: str, override: float | None, rho: float, task: Task
) -> None:
    assert Method.parse(name).initial_rho(task, override) == rho


def test_scheduled_methods_and_the_radii_they_stand_for(base: torch.optim.Optimizer) -> None:
    def made(name: str) -> SharpnessAware:
        optimizer = Method.parse(name).optimizer(base, float(name.split(":")[1]), None, 50)
        assert isinstance(optimizer, SharpnessAware)
        return optimizer

    for name, perturbation in (("sam-rising:0.2", SAMPerturbation), ("asam-rising:0.2", ASAMPerturbation)):
        rising = made(name)
        assert type(rising.perturbation) is perturbation
        assert isinstance(rising.radius, LinearRadius)
        assert (rising.radius.start, rising.radius.end, rising.radius.steps) == (pytest.approx(0.002), 0.2, 50)
    gsam = made("gsam-schedule:0.2").radius
    assert isinstance(gsam, ProportionalRadius)
    assert (gsam.maximum, gsam.minimum) == (0.2, pytest.approx(0.002))
    budget = made("sam-budget:0.3").radius
    assert isinstance(budget, LossBudgetRadius)
    assert (budget.budget, budget.steps, budget.relative) == (0.3, 50, False)
    assert not any(Method.parse(name).is_learned for name in ("sam-rising", "gsam-schedule", "sam-budget"))


@pytest.mark.parametrize(
    ("name", "units", "learned", "per"),
    [
        ("sam-relative", "relative", False, "all"),
        ("sam-layerwise", "layerwise", False, "all"),
        ("lets-sam-relative", "relative", True, "all"),
        ("lets-sam-layerwise", "layerwise", True, "all"),
        ("lets-sam-per-layer", None, True, "layer"),
    ],
)
def test_shares_and_many_radii(
    name: str, units: str | None, learned: bool, per: str, task: Task, base: torch.optim.Optimizer
) -> None:
    method = Method.parse(name)
    rho = method.initial_rho(task, 0.2)
    optimizer = method.optimizer(base, rho)

    assert isinstance(optimizer, SharpnessAware)
    assert rho == (0.01 if units else 0.2), "the option `rho` is a radius, not a share"
    assert optimizer.radius.units == units
    assert method.is_learned == learned
    assert optimizer.radius.per == method.kind.per == per
    if units:
        replayed = method.optimizer(base, rho, ReplayedRadius([0.2, 0.3], 2))
        assert isinstance(replayed, SharpnessAware)
        assert replayed.radius.kind == f"{units} ReplayedRadius"
    else:
        replayed = method.optimizer(base, rho, ReplayedRadius([[0.2], [0.3]], 2, per="layer"))
        assert isinstance(replayed, SharpnessAware)
        assert replayed.radius.kind == "ReplayedRadius per layer"


def test_the_radius_option_is_no_loss_budget(task: Task) -> None:
    assert Method.parse("sam-rising").initial_rho(task, 0.2) == 0.2
    assert Method.parse("asam-rising").initial_rho(task, None) == 0.7
    assert Method.parse("sam-budget").initial_rho(task, 0.2) == 0.1
    assert Method.parse("sam-budget:0.4").initial_rho(task, 0.2) == 0.4


def test_a_schedule_without_its_length(base: torch.optim.Optimizer) -> None:
    with pytest.raises(
        ValueError, match=r"^`steps` must be given for the scheduled radius of sam-rising:0.1, got None$"
    ):
        Method.parse("sam-rising:0.1").optimizer(base, 0.1)


@pytest.mark.parametrize("name", ["lets-sam", "lets-asam"])
def test_a_replayed_schedule_takes_the_place_of_the_learned_radius(name: str, base: torch.optim.Optimizer) -> None:
    optimizer = Method.parse(name).optimizer(base, 0.1, ReplayedRadius([0.2, 0.3], 2))

    assert isinstance(optimizer, SharpnessAware)
    assert isinstance(optimizer.radius, ReplayedRadius)
    assert optimizer.radius.schedule == (0.2, 0.3)


def test_every_kind_has_a_description_and_tells_by_its_name_whether_it_learns() -> None:
    assert list(KINDS)[:5] == ["sgd", "sam", "asam", "lets-sam", "lets-asam"]
    for name, kind in KINDS.items():
        assert kind.description
        assert MethodName.parse(name).learned == (kind.learned is not None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "lets-sma",
            r"`methods` must be of those .* lists, got 'lets-sma', did you mean 'lets-sam'\?$",
        ),
        ("adam-is-best", r"`methods` must be of those that `letsam methods` lists, got 'adam-is-best'$"),
        ("", r"`methods` must be of those that `letsam methods` lists, got ''$"),
        ("SAM", r"`methods` must be of .*, got 'SAM'"),
        (" sam", r"`methods` must be of .*, got ' sam'"),
        ("lets-sam+refit", r"`methods` must be of .*, got 'lets-sam\+refit', did you mean 'lets-sam'\?"),
        (":0.1", r"`methods` must be of .*, got ':0.1'"),
        ("sgd:0.1", r"^`methods`: sgd has no radius, got 'sgd:0.1'$"),
        ("sam:0", r"^`methods`: the radius in 'sam:0' must be a number > 0, got '0'$"),
        ("sam:-0.1", r"the radius in 'sam:-0.1' must be a number > 0, got '-0.1'$"),
        ("sam:nan", r"the radius in 'sam:nan' must be a number > 0, got 'nan'$"),
        ("asam:inf", r"the radius in 'asam:inf' must be a number > 0, got 'inf'$"),
        ("sam:x", r"the radius in 'sam:x' must be a number > 0, got 'x'$"),
        ("lets-sam:", r"the radius in 'lets-sam:' must be a number > 0, got ''$"),
        ("sam:0.1:0.2", r"the radius in 'sam:0.1:0.2' must be a number > 0, got '0.1:0.2'$"),
    ],
)
def test_names_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Method.parse(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", VARIANTS.values())
def test_every_variant_is_a_method_fixed_and_learned(kind: type[Variant], task: Task) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    name = kind.__name__.lower()
    for prefix, radius in (("", FixedRadius), ("lets-", LearnedRadius)):
        for text, rho in ((f"{prefix}{name}", None), (f"{prefix}{name}:0.2", 0.2)):
            method = Method.parse(text)
            base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            optimizer = method.optimizer(base, method.initial_rho(task, None), None, 50, model)
            assert isinstance(optimizer, kind)
            assert type(optimizer.radius) is radius
            expected = 0.7 if name == "asam" else 0.03 * kind.facts.rho / 0.05
            assert optimizer.rho.item() == pytest.approx(rho or expected)


def test_a_variant_with_a_schedule_gets_the_length_of_the_run() -> None:
    base = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1)
    optimizer = Method.parse("lets-aesam").optimizer(base, 0.1, None, 50)
    assert isinstance(optimizer, SharpnessAware)
    assert isinstance(optimizer.perturbation, AESAMPerturbation)
    assert optimizer.perturbation.steps == 50


# The registry


def burn_in(radius: LearnedRadius) -> int:
    return radius.rule.burn_in


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.learned is not None])
def test_a_kind_knows_the_options_of_its_radius(name: str) -> None:
    """A refit needs them, and makes no learned radius."""
    kind = KINDS[name]
    assert kind.learned is not None
    radius = kind.learned(0.1)
    assert (kind.per, kind.burn_in) == (radius.per, burn_in(radius))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Kind]:
    """A copy of the registry, so that what a test registers is gone after it."""
    copy = dict(KINDS)
    monkeypatch.setattr(methods, "KINDS", copy)
    return copy


def test_a_kind_is_registered(registry: dict[str, Kind], base: torch.optim.Optimizer) -> None:
    fixed, learned = Kind("mine", SAM), Kind("mine, learned", SAM, LearnedRadius)
    register("mine_2.0", fixed)
    register("lets-mine", learned)
    assert list(registry)[-2:] == ["mine_2.0", "lets-mine"]
    assert Method.parse("mine_2.0:0.3") == Method("mine_2.0:0.3", fixed, 0.3)
    optimizer = Method.parse("lets-mine").optimizer(base, 0.1)
    assert isinstance(optimizer, SharpnessAware)
    assert isinstance(optimizer.radius, LearnedRadius)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("sam", Kind("again", SAM), r"^`name` must be new, got 'sam', which is registered already$"),
        ("a:b", Kind("colon", SAM), r"^`name` must be of letters, digits, '-', '_' and '.', got 'a:b'$"),
        ("", Kind("nothing", SAM), r"^`name` must be of letters, .*, got ''$"),
        ("a,b", Kind("comma", SAM), r"^`name` must be of letters, .*, got 'a,b'$"),
        ("sam+refit", Kind("refit", SAM), r"^`name` must be of letters, .*, got 'sam\+refit'$"),
        ("mine", Kind("learned", SAM, LearnedRadius), r"^`name` must begin with 'lets-', as .* learned, got 'mine'$"),
        ("lets-mine", Kind("fixed", SAM), r"^`name` must not begin with 'lets-', as .* learned, got 'lets-mine'$"),
    ],
)
def test_kinds_that_are_refused(registry: dict[str, Kind], name: str, kind: Kind, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register(name, kind)
    assert registry == KINDS


# Planned runs


def test_the_names_of_planned_runs() -> None:
    search = PlannedRun(Method.parse("lets-sam:0.1"), 3)
    refit = PlannedRun(search.method, 3, refit=True)
    assert (search.name, search.key, search.search) == ("lets-sam:0.1", ("lets-sam:0.1", 3), search)
    assert (refit.name, refit.key, refit.search) == ("lets-sam:0.1+refit", ("lets-sam:0.1+refit", 3), search)
    assert MethodName.parse(refit.name).search == search.name


@pytest.mark.parametrize("name", KINDS)
def test_methods_can_be_sent_to_worker_processes(name: str) -> None:
    one = PlannedRun(Method.parse(name), 1, refit=True)
    assert pickle.loads(pickle.dumps(one)) == one
    assert len({one, pickle.loads(pickle.dumps(one))}) == 1
