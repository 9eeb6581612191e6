"""What is compared, which verdict follows, and what is recorded."""

import dataclasses
import json
import math

import pytest

from decision_cases import BASE, changed, plus
from letsam.decision import Decision, TrialLook, decide
from letsam.results import Results
from report_cases import make_run, trial


@pytest.mark.parametrize(
    ("gains", "options", "verdict", "reason"),
    [
        ((5.0, 5.5, 4.8, 5.2), {}, "go", "shown"),
        ((5.0, 5.5, 4.8, 5.2), {"minimum_effect": 3.0}, "go", "shown"),
        ((5.0, 5.5, 4.8, 5.2), {"minimum_effect": 7.0}, "no-go", "too small"),
        ((-5.0, -5.5, -4.8, -5.2), {}, "no-go", "too small"),
        ((1.0, 5.0, 0.0, 3.0), {}, "more seeds", "undecided"),
        ((1.0, 5.0, 0.0, 3.0), {"planned_seeds": 4}, "no-go", "not shown"),
        ((1.0, -1.1, 0.4, -0.5), {"minimum_effect": 1.2}, "no-go", "hopeless"),
        ((5.0, 5.5), {}, "more seeds", "few seeds"),
        ((5.0,), {}, "more seeds", "few seeds"),
        ((0.0, 0.0, 0.0), {}, "no-go", "too small"),
    ],
)
def test_verdicts(gains, options, verdict, reason):
    results = trial({"sgd": BASE[: len(gains)], "lets-sam": plus(*gains)})
    found = decide(results, **options)
    assert (found.verdict, found.reason) == (verdict, reason)
    assert found.exit_status == {"go": 0, "no-go": 1, "more seeds": 3}[verdict]
    assert (found.more_seeds > 0) == (verdict == "more seeds")
    assert found.gain == pytest.approx(sum(gains) / len(gains))


def test_seeds_that_are_missing_for_three_are_asked_for():
    assert decide(trial({"sgd": BASE[:1], "lets-sam": plus(5)})).more_seeds == 2
    assert decide(trial({"sgd": BASE[:2], "lets-sam": plus(5, 5)})).more_seeds == 1


def test_a_larger_gain_needs_fewer_seeds():
    gains = [(scale + 1.0, scale - 1.0, scale + 0.7, scale - 0.7) for scale in (0.4, 0.9, 1.2)]
    needed = [decide(trial({"sgd": BASE, "lets-sam": plus(*row)}), planned_seeds=40).more_seeds for row in gains]
    assert needed[0] > needed[1] > needed[2] > 0


def test_an_error_is_better_if_it_is_lower():
    results = trial({"sgd": [3.0, 3.1, 3.2], "lets-sam": [2.0, 2.15, 2.18]})
    found = decide(changed(results, metric="RMSE", lower_is_better=True), minimum_effect=0.5)
    assert (found.verdict, found.unit) == ("go", "")
    assert found.gain == pytest.approx((1.0 + 0.95 + 1.02) / 3)
    worse = changed(trial({"sgd": [2.0, 2.15, 2.18], "lets-sam": [3.0, 3.1, 3.2]}), lower_is_better=True)
    assert decide(worse).verdict == "no-go"


def test_differences_are_paired_by_seed():
    results = trial({"sgd": [0.5, 0.7, 0.9], "lets-sam": [0.55, 0.752, 0.951]})
    runs = tuple(reversed(results.runs))
    for given in (results, dataclasses.replace(results, runs=runs)):
        found = decide(given)
        assert found.spread == pytest.approx(0.1, rel=1e-6)
        assert found.verdict == "go"


def test_only_shared_seeds_count():
    results = trial({"sgd": BASE[:3], "lets-sam": plus(5, 5.1, 4.9, -60)})
    assert decide(results).seeds == 3
    apart = Results("t", {}, {}, (make_run("sgd", 0, 0.5), make_run("lets-sam", 1, 0.6)))
    with pytest.raises(ValueError, match="no seed that both lets-sam and sgd have finished"):
        decide(apart)


@pytest.mark.parametrize("field", ["test_accuracy", "test_loss"])
def test_a_diverged_run_never_wins(field):
    results = trial({"sgd": BASE, "lets-sam": plus(20, 20.1, 20.2, 20.1)})
    assert decide(results).verdict == "go"
    values = [getattr(run, field) for run in results.runs_of("lets-sam")]
    found = decide(changed(results, "lets-sam", **{field: [*values[:3], math.nan]}))
    assert (found.verdict, found.reason, found.diverged, found.seeds) == ("no-go", "diverged", (3,), 3)


def test_a_baseline_that_diverges_is_not_counted_for_the_candidate():
    results = trial({"sgd": BASE, "lets-sam": plus(5, 5.1, 4.9, 5)})
    found = decide(changed(results, "sgd", test_loss=[0.5, math.nan, 0.5, 0.5]))
    assert (found.verdict, found.seeds, found.baseline_diverged) == ("go", 3, (1,))
    with pytest.raises(ValueError, match="`baseline`: every run of sgd diverged"):
        decide(changed(results, "sgd", test_loss=math.nan))


def test_the_methods_that_are_compared():
    rows = {"sam:0.1": BASE, "sgd": BASE, "lets-sam": BASE, "lets-sam+refit": BASE}
    found = decide(trial(rows))
    assert (found.baseline, found.candidate, found.chosen, found.sharing) == ("sgd", "lets-sam+refit", "only", 1)
    found = decide(trial({name: rows[name] for name in ("sam:0.1", "lets-sam")}))
    assert (found.baseline, found.candidate) == ("sam:0.1", "lets-sam")
    found = decide(trial(rows), baseline="lets-sam+refit", candidate="sam:0.1")
    assert (found.baseline, found.candidate, found.chosen) == ("lets-sam+refit", "sam:0.1", "named")


def test_validation_data_choose_among_several_learned_radii():
    """The test set prefers the other one; a refit is chosen by the validation loss of its search."""
    rows = {"sgd": BASE, "lets-sam": BASE, "lets-asam": BASE, "lets-sam+refit": plus(9, 9, 9, 9)}
    rows["lets-asam+refit"] = plus(1, 1.1, 0.9, 1)
    results = changed(trial(rows), "lets-asam", validation_loss=0.4)
    found = decide(results)
    assert (found.candidate, found.chosen, found.sharing) == ("lets-asam+refit", "validation", 2)
    found = decide(changed(results, "lets-asam", validation_loss=math.nan))
    assert found.candidate == "lets-sam+refit"


def test_a_shared_error_rate_gives_wider_bounds():
    rows = {"sgd": BASE, "lets-sam": plus(5, 5.5, 4.8, 5.2)}
    one, two = decide(trial(rows)), decide(trial({**rows, "lets-asam": rows["lets-sam"]}))
    assert two.sharing == 2
    assert two.lower < one.lower < one.upper < two.upper


def test_a_comparison_that_is_chosen_afterwards_pays_for_the_choice():
    rows = {"sgd": BASE, "sam": BASE, "lets-sam": plus(1, 2, 1.5, 1.2), "lets-asam": plus(3, 2, 2.5, 2.2)}
    first = decide(trial(rows), candidate="lets-sam")
    assert first.sharing == 1
    later = dataclasses.replace(trial(rows), decision=first.as_json())
    assert decide(later, candidate="lets-asam").sharing == 3  # each of the other methods could have been chosen
    assert decide(later, candidate="lets-asam", baseline="sam").sharing == 12  # and each as the baseline
    assert decide(later, candidate="lets-sam") == first


def test_a_look_at_an_interrupted_trial_is_no_choice():
    """With one seed, the refit was not there yet; nothing could be told, and the candidate follows from the methods."""
    rows = {"sgd": BASE, "lets-sam": plus(1, 2, 1.5, 1.2), "lets-sam+refit": plus(3, 2, 2.5, 2.2)}
    whole = trial(rows)
    early = tuple(run for run in whole.runs if run.seed == 0 and run.method != "lets-sam+refit")
    first = decide(dataclasses.replace(whole, runs=early))
    assert (first.candidate, first.reason) == ("lets-sam", "few seeds")
    found = decide(dataclasses.replace(whole, decision=first.as_json()))
    assert (found.candidate, found.sharing, found.critical) == ("lets-sam+refit", 1, decide(whole).critical)
    assert len(found.looks) == 2
    again = dataclasses.replace(whole, decision=found.as_json())
    assert decide(again).sharing == 1
    named = dataclasses.replace(whole, decision=first.as_json())
    assert decide(named, candidate="lets-sam+refit").sharing == 2  # chosen with the results in view


def test_longer_training_is_another_comparison():
    rows = {"sgd": BASE, "lets-sam": plus(1, 2, 1.5, 1.2)}
    first = decide(trial(rows))
    found = decide(dataclasses.replace(trial(rows, epochs=6), decision=first.as_json()))
    assert [look.epochs for look in found.looks] == [3, 6]
    assert (found.sharing, found.looked_at) == (2, (4,))


def test_options_are_kept_from_the_last_verdict():
    rows = {"sgd": BASE, "sam": BASE, "lets-sam": plus(1, 2, 1.5, 1.2)}
    options = {"baseline": "sam", "minimum_effect": 0.3, "cost_per_pass": 0.1, "planned_seeds": 6}
    first = decide(trial(rows), **options)
    again = decide(dataclasses.replace(trial(rows), decision=first.as_json()))
    assert again == first
    assert decide(dataclasses.replace(trial(rows), decision=first.as_json()), minimum_effect=0).minimum_effect == 0


def test_the_record_survives_results_json(tmp_path):
    results = trial({"sgd": BASE, "lets-sam": plus(1, 2, 1.5, 1.2)})
    found = decide(results, cost_per_pass=0.5)
    dataclasses.replace(results, decision=found.as_json()).save(tmp_path / "results.json")
    loaded = Results.load(tmp_path / "results.json")
    assert Decision.from_json(loaded.decision) == found
    assert loaded.decision["looks"] == [{"baseline": "sgd", "candidates": ["lets-sam"], "seeds": 4, "epochs": 3}]
    assert found.looks == (TrialLook("sgd", ("lets-sam",), 4, 3),)
    results.save(tmp_path / "results.json")
    assert "decision" not in json.loads((tmp_path / "results.json").read_text())


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "perhaps"},
        {"looks": 3},
        {"passes": [1.0]},
        {"seeds": "many"},
        {"looks": [{"seeds": 3}]},
        {"level": None},
    ],
)
def test_another_record_is_refused(change):
    value = decide(trial({"sgd": BASE, "lets-sam": BASE})).as_json()
    with pytest.raises(ValueError, match="expected the field decision"):
        Decision.from_json({**value, **change})
    with pytest.raises(ValueError, match="expected the field decision"):
        Decision.from_json({name: item for name, item in value.items() if name not in change})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"baseline": "sgdd"},
            "`baseline` must be a method of these results: sgd, lets-sam; got 'sgdd', did you mean 'sgd'",
        ),
        ({"candidate": "asam"}, "`candidate` must be a method"),
        ({"candidate": "sgd", "baseline": "sgd"}, "must be two methods, got 'sgd' for both"),
        ({"baseline": "lets-sam"}, "`candidate` must be given"),
        ({"minimum_effect": -1.0}, "`minimum_effect` must be a number >= 0, got -1"),
        ({"minimum_effect": math.nan}, "`minimum_effect` must be a number >= 0, got nan"),
        ({"cost_per_pass": -0.1}, "`cost_per_pass` must be a number >= 0"),
        ({"planned_seeds": 2}, "`planned_seeds` must be a whole number from 3 to 1000, got 2"),
        ({"planned_seeds": 100_000}, "`planned_seeds` must be a whole number from 3 to 1000, got 100000"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        decide(trial({"sgd": BASE, "lets-sam": BASE}), **options)


def test_results_without_two_methods_have_no_verdict():
    with pytest.raises(ValueError, match="`candidate` must be given"):
        decide(trial({"sgd": BASE}))
    with pytest.raises(ValueError, match="`baseline` must be given"):
        decide(trial({"lets-sam": BASE}))


def test_cost_is_that_of_the_paired_runs():
    results = trial({"sgd": BASE, "lets-sam": plus(1, 2, 3)})
    assert decide(changed(results, "sgd", gradient_passes=[10, 20, 30, 1000])).passes == (20.0, 300.0)
