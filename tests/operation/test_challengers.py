"""Which methods challenge a model, and where their radii begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from letsam.cli import run
from letsam.operation.challengers import BASE, OLD, RETUNED, RadiusHistory, challengers
from letsam.operation.champion import Champion
from letsam.operation.new_data import NewData
from letsam.operation.retune_plan import RetuneOptions, RetunePlan
from letsam.optimizer import SharpnessAware
from letsam.radius import LearnedRadius
from letsam.results import Results
from letsam.training.loop import Training
from letsam.training.methods import KINDS, Kind
from letsam.training.sampling import make_splits
from letsam.variants import SAM, VARIANTS, Variant
from retune_cases import champion


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
    return tmp_path


def plan(radius: str = "fresh", model: str = "wine", **options: Any) -> RetunePlan:
    values = {"epochs": 2, "lr": None, "seeds": (0, 1, 2), "validation_share": 0.1, "evaluate_shift": None}
    asked = RetuneOptions(**{**values, **options}, radius=radius, minimum_effect=0.0)
    return RetunePlan.of(Champion.read(model), NewData("new.csv"), asked, "cpu")


def begun(found: RetunePlan, role: str) -> Training:
    challenger = next(one for one in found.compared if one.role == role)
    task, seed = found.tuned.task, 0
    splits = make_splits(task, seed, **found.config.split_options, hold_out=True)
    training = Training(task, challenger.method, seed, found.config, found.fabric, splits=splits)
    challenger.prepare(training)
    return training


def radius_of(training: Training) -> Any:
    assert isinstance(training.optimizer, SharpnessAware)
    return training.optimizer.radius


def test_a_radius_begins_afresh_or_goes_on(here: Path) -> None:
    champion(here)
    (trained,) = Results.load("wine/model/results.json").runs
    assert trained.rho_final is not None
    fresh, on = plan("fresh"), plan("continue")
    old = f"sam:{trained.rho_final:.4g}"
    assert [one.method.name for one in fresh.compared] == ["sgd", old, "lets-sam:0.05"]
    assert [one.role for one in fresh.compared] == [BASE, OLD, RETUNED]
    assert [one.method.name for one in on.compared] == ["sgd", old, f"lets-{old}"]
    assert not isinstance(begun(fresh, BASE).optimizer, SharpnessAware)
    assert float(radius_of(begun(fresh, OLD)).rho) == pytest.approx(trained.rho_final, rel=1e-3)
    new, going = radius_of(begun(fresh, RETUNED)), radius_of(begun(on, RETUNED))
    assert (float(new.rho), new.rule.burn_in) == (pytest.approx(0.05), 100)
    assert (float(going.rho), going.rule.burn_in) == (pytest.approx(trained.rho_final, rel=1e-3), 0)
    updates = [[step for step in range(1, 12) if one.wants(step).validation] for one in (new, going)]
    assert updates == [[*range(1, 12)], [3, 7, 11]]  # each step of the burn-in, or every fourth one


def test_the_weights_and_the_learning_rate(here: Path) -> None:
    champion(here)
    found = plan(lr=None)
    weights = begun(found, BASE).model.state_dict()
    expected = Champion.read("wine")
    from letsam.model_folder import load

    for name, tensor in load(expected.place).model.state_dict().items():
        assert torch.equal(weights[name], tensor)
    assert begun(found, BASE).optimizer.param_groups[0]["lr"] == pytest.approx(found.options["lr"])
    assert type(begun(found, BASE).optimizer) is torch.optim.AdamW  # as the model was trained
    assert begun(plan(lr=0.5), OLD).optimizer.param_groups[0]["lr"] == 0.5


def test_a_radius_for_each_layer_goes_on_with_each(here: Path) -> None:
    champion(here, "lets-sam-per-layer")
    (trained,) = Results.load("wine/model/results.json").runs
    last = trained.radii[-1]
    assert len(set(last)) > 1
    going = radius_of(begun(plan("continue"), RETUNED))
    torch.testing.assert_close(going.rho.float(), torch.tensor(last))
    training = begun(plan("continue"), RETUNED)
    while not training.finished:
        training.advance()
    assert len(training.result().radii[-1]) == len(last)
    assert plan("fresh").compared[1].method.name == f"sam:{sum(last) / len(last):.4g}"


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("asam:2", ["sgd", "asam:2", "lets-asam:0.5"]),
        ("sam-rising:0.2", ["sgd", "sam:0.", "lets-sam:0.05"]),
        ("sgd", ["sgd", "lets-sam:0.05"]),
        ("lets-sam-relative", ["sgd", "sam-relative:", "lets-sam-relative:0.01"]),
    ],
)
def test_the_variant_stays(method: str, names: list[str], here: Path) -> None:
    champion(here, method)
    found = [one.method.name for one in plan().compared]
    assert len(found) == len(names)
    assert all(name.startswith(start) for name, start in zip(found, names, strict=True))


def test_every_kind_has_a_fixed_and_a_learned_form() -> None:
    for name, kind in KINDS.items():
        if kind.learned is not None and kind.wrap in VARIANTS.values():  # not those that a benchmark has registered
            fixed = challengers(RadiusHistory(name, 0.05, (0.1,)), "fresh")[1]
            assert fixed.method.kind.wrap is kind.wrap
            assert fixed.method.kind.units is kind.units
            assert not fixed.method.is_learned


def test_a_variant_without_a_fixed_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Variant):
        made_of = SAM.made_of
        facts = SAM.facts

    monkeypatch.setitem(KINDS, "lets-own", Kind("of one's own", Own, LearnedRadius))
    with pytest.raises(ValueError, match=r"^the fixed radius .* must be that of a registered method, got none of Own;"):
        challengers(RadiusHistory("lets-own", 0.05, (0.1,)), "fresh")
    monkeypatch.setitem(KINDS, "own", Kind("of one's own", Own))
    names = [one.method.name for one in challengers(RadiusHistory("lets-own", 0.05, (0.1,)), "fresh")]
    assert names == ["sgd", "own:0.1", "lets-own:0.05"]


def test_what_the_base_optimizer_trained_keeps_the_radius_of_its_parents(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion(here, "lets-asam")
    monkeypatch.setattr("letsam.operation.promotion._validation_loss", lambda results, name: name != "sgd")
    quick = ("--seeds", "3", "--epochs", "1")
    assert run(["retune", "wine", "new.csv", *quick]) in (0, 1)
    assert Results.load("wine-versions/v0002/results.json").runs[0].method == "sgd"
    first, second = plan(), plan(model="wine-versions/v0002")
    assert [one.method.name for one in second.compared] == [one.method.name for one in first.compared]
    assert second.options["lr"] == first.options["lr"]  # a part of that of training, not of that of the parent
    monkeypatch.setattr("letsam.operation.promotion._validation_loss", lambda results, name: not name.startswith("le"))
    assert run(["retune", "wine-versions/v0002", "new.csv", *quick]) in (0, 1)
    (tuned,) = Results.load("wine-versions/v0003/results.json").runs
    assert tuned.method == "lets-asam:0.5"
    assert plan(model="wine-versions/v0003").compared[1].method.name == f"asam:{tuned.rho_final:.4g}"
