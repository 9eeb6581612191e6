"""The sentences about a trial."""

import dataclasses
import math
import re

import pytest

from letsam.results import Results, Run
from report_cases import make_run, trial

pytest.importorskip("rich.console")

from letsam.decision import decide
from letsam.reports.table import table_rows
from letsam.reports.verdict import Verdict, missing_runs, verdict


def _bounds_of(found: Verdict) -> float:
    """The distance of the bounds in the first comparison."""
    low, high = re.findall(r"[+-]\d+\.\d+", found.comparisons[0][1].split("true value between")[1])
    return float(high) - float(low)


def test_a_clear_winner(five):
    found = verdict(five)
    assert found.headline == (
        "Of the 5 methods compared on digits, lets-sam reached the highest mean test accuracy: 91.00 ± 1.00 % over "
        "3 seeds. It is not clearly ahead of lets-sam+refit: over 3 seeds, such a difference may be chance."
    )
    assert found.comparisons[0] == (
        "lets-sam",
        "5.00 points better than sam:0.1, the best of 2 fixed radii, at 1.50 times its gradient passes; "
        "20.00 points better than sgd, at 3.00 times its gradient passes.",
    )


def test_a_difference_that_may_be_chance_is_hedged(five):
    method, sentence = verdict(five).comparisons[1]
    assert method == "lets-sam+refit"
    assert sentence.startswith(
        "no clear difference from sam:0.1, the best of 2 fixed radii, at 1.50 times its gradient passes "
        "(+0.50 points, true value between -"
    )


def test_bounds_that_say_nothing_are_left_out():
    found = verdict(trial({"sgd": [0.70, 0.71, 0.72], "lets-sam": [0.30, 0.71, 0.99]}))
    assert found.comparisons[0][1] == (
        "-4.33 points against sgd, at 3.00 times its gradient passes (3 seeds are too few to bound the true value)."
    )
    assert "Its lead over lets-sam cannot be bounded with 3 seeds." in found.headline
    assert "not clearly" not in found.headline


def test_many_pairs_are_said_to_need_stronger_evidence(five):
    told = "All 10 pairs of methods are compared here, so each needs stronger evidence than a verdict on two of them."
    assert told in verdict(five).caveats
    assert not any("pairs" in caveat for caveat in verdict(trial({"sgd": [0.7] * 3, "sam": [0.8] * 3})).caveats)


def test_runs_with_another_number_of_epochs_are_told():
    results = trial({"sgd": [0.7, 0.71, 0.72], "lets-sam": [0.9, 0.91, 0.92]})
    assert not any("Continued" in caveat for caveat in verdict(results).caveats)
    runs = tuple(dataclasses.replace(run, continued_at=(40,)) if run.seed == 1 else run for run in results.runs)
    found = verdict(dataclasses.replace(results, runs=runs))
    assert (
        "Continued with another number of epochs, so the learning rate rose again: sgd with seed 1 and lets-sam with "
        "seed 1. A run of all these epochs from its start may end elsewhere."
    ) in found.caveats


def test_a_lead_over_all_others_is_told():
    rows = {"sgd": [0.70, 0.71, 0.72], "sam": [0.80, 0.81, 0.82], "lets-sam": [0.90, 0.91, 0.92]}
    assert verdict(trial(rows)).headline.endswith("Its lead over each of the others is larger than chance explains.")


def test_a_learned_method_that_loses_is_said_to_lose():
    found = verdict(trial({"sgd": [0.70, 0.71, 0.7], "sam": [0.90, 0.91, 0.9], "lets-sam": [0.80, 0.81, 0.8]}))
    assert found.headline.startswith("Of the 3 methods compared on digits, sam reached")
    assert found.comparisons == (
        (
            "lets-sam",
            "10.00 points worse than sam, at 1.50 times its gradient passes; "
            "10.00 points better than sgd, at 3.00 times its gradient passes.",
        ),
    )


def test_two_seeds_allow_no_claim_however_large_the_difference():
    found = verdict(trial({"sgd": [0.70, 0.71], "lets-sam": [0.90, 0.91]}))
    assert "Whether it is really ahead of sgd cannot be told: that takes at least 3 seeds" in found.headline
    assert found.comparisons[0][1].endswith("(2 seeds only, so it may be chance).")


def test_a_narrow_lead_is_not_called_one():
    headline = verdict(trial({"sgd": [0.70, 0.72, 0.71], "sam": [0.705, 0.719, 0.716]})).headline
    assert "sam reached" in headline
    assert "It is not clearly ahead of sgd: over 3 seeds, such a difference may be chance." in headline


def test_equal_methods_are_not_separated():
    results = trial({"sgd": [0.7, 0.7, 0.7], "sam": [0.7, 0.7, 0.7]})
    assert "not clearly ahead of sam" in verdict(results).headline


def test_the_differences_are_paired_by_seed():
    found = verdict(trial({"sgd": [0.5, 0.7, 0.9, 0.6], "lets-sam": [0.55, 0.751, 0.95, 0.649]}))
    assert found.comparisons[0][1].startswith("5.00 points better than sgd")


def test_an_error_is_better_if_it_is_lower():
    results = trial({"sgd": [2.0, 2.1, 2.2], "lets-sam": [1.5, 1.6, 1.7]})
    runs = tuple(Run(**{**vars(run), "metric": "RMSE", "lower_is_better": True}) for run in results.runs)
    found = verdict(Results("t", {}, {}, runs))
    assert "lets-sam reached the lowest mean test RMSE: 1.600 ± 0.100 over 3 seeds." in found.headline
    assert found.comparisons[0][1].startswith("0.500 better than sgd")


def test_the_page_says_that_the_test_set_chose(five):
    assert any(text.startswith("The test set chose the best of the 5 methods") for text in verdict(five).caveats)


def test_more_methods_and_more_looks_need_stronger_evidence():
    """The error rate is shared by all pairs of methods and all looks."""
    close = {"sgd": [0.7] * 4, "lets-sam": [0.7, 0.72, 0.69, 0.71]}
    gains = (0.05, 0.06, 0.055, 0.048)
    rows = {"sgd": [0.7] * 4, "lets-sam": [0.7 + gain for gain in gains]}
    assert "better than sgd" in verdict(trial(rows)).comparisons[0][1]
    others = {f"sam:{number}": [0.1, 0.2, 0.1, 0.3] for number in range(30)}
    assert "no clear difference" in verdict(trial({**rows, **others})).comparisons[0][1].split(";")[1]
    looks = [{"baseline": "sgd", "candidates": ["lets-sam"], "seeds": seeds} for seeds in (3, 4)]
    width = [_bounds_of(verdict(dataclasses.replace(trial(close), decision={"looks": looks[:n]}))) for n in (0, 1)]
    assert width[0] < width[1]


MANY = {
    "sgd": [0.68, 0.70, 0.69],
    **{f"sam:{number}": [0.90 + number / 1000, 0.91, 0.93] for number in range(10)},
    "lets-sam": [0.94, 0.93, 0.95],
    "lets-asam": [0.93, 0.95, 0.94],
}


def decided(rows, **options):
    results = trial(rows)
    return dataclasses.replace(results, decision=decide(results, **options).as_json())


def test_the_verdict_and_the_sentences_agree():
    """With 78 pairs, a lead of 25 points is not clear over 3 seeds; the verdict compares with the base optimizer."""
    alone = verdict(trial(MANY))
    assert "(3 seeds are too few to bound the true value)" in alone.comparisons[0][1].split(";")[1]
    assert "Its lead over sgd, sam:0, " in alone.headline
    assert "cannot be bounded with 3 seeds." in alone.headline
    assert decide(trial(MANY)).verdict == "go"
    found = verdict(decided(MANY))
    assert [sentence.split("; ")[1] for _, sentence in found.comparisons] == [
        "25.00 points better than sgd, at 3.00 times its gradient passes."
    ] * 2
    assert "sgd" not in found.headline
    assert any(
        caveat.endswith("The comparisons in the verdict above are not part of this.") for caveat in found.caveats
    )
    assert not any("in the verdict above" in caveat for caveat in alone.caveats)


def test_a_verdict_against_the_learned_radius_agrees_as_well():
    rows = {**MANY, "sgd": [0.99, 0.98, 1.0], "lets-asam": [0.94, 0.93, 0.951]}
    found = verdict(decided(rows))
    assert "sgd reached the highest" in found.headline
    assert not re.search(r"lets-a?sam", found.headline)  # it is clearly ahead of both
    assert found.comparisons[0][1].split("; ")[1].startswith("5.00 points worse than sgd")


def test_a_verdict_on_other_methods_or_fewer_seeds_changes_no_sentence():
    plain = verdict(trial(MANY)).comparisons
    assert verdict(decided(MANY, baseline="sam:0")).comparisons[1] == plain[1]
    more = trial({method: [*scores, scores[1]] for method, scores in MANY.items()})
    record = decide(trial(MANY)).as_json()
    earlier, looks = (dataclasses.replace(more, decision=one) for one in (record, {"looks": record["looks"]}))
    assert verdict(earlier) == verdict(looks)


def test_a_verdict_on_runs_that_are_gone_changes_no_sentence():
    """With another number of epochs, the runs are made again, and the last verdict stays until the next one."""
    old = decide(trial({"sgd": [0.7, 0.71, 0.72], "lets-sam": [0.8, 0.81, 0.82]})).as_json()
    results = trial({"sgd": [0.81, 0.83, 0.82], "lets-sam": [0.83, 0.81, 0.81]})
    stale, looks = (dataclasses.replace(results, decision=one) for one in (old, {"looks": old["looks"]}))
    assert verdict(stale) == verdict(looks)


def test_the_best_mean_may_be_behind_on_the_seeds_that_both_have():
    results = trial({"sam": [0.9, 0.901, 0.899], "sgd": [0.95, 0.951, 0.949, *[0.7] * 7]})
    headline = verdict(results).headline
    assert "sam reached the highest mean" in headline
    assert headline.endswith("On the seeds that both have finished, it is behind sgd.")


def test_methods_with_other_numbers_of_seeds_are_told_apart():
    wave = [0.7, 0.72, 0.71, 0.75, 0.76]
    headline = verdict(trial({"lets-sam": [0.71, 0.72, 0.71, 0.76, 0.76], "sgd": wave, "sam": wave[:3]})).headline
    assert "not clearly ahead of sgd: over 5 seeds" in headline
    assert "not clearly ahead of sam: over 3 seeds" in headline


def test_one_seed_allows_no_claim():
    found = verdict(trial({"sgd": [0.7], "sam": [0.8], "lets-sam": [0.9]}))
    assert "lets-sam reached the highest mean test accuracy: 90.00 % (one seed)." in found.headline
    assert "Whether it is really ahead of sgd and sam cannot be told" in found.headline
    assert "chance explains" not in found.headline
    assert found.comparisons[0][1].count("(one seed only, so it may be chance)") == 2


def test_only_shared_seeds_are_compared():
    # Over all seeds lets-sam would lead by 5 points; over the two that both have finished it is 20.
    results = trial({"sgd": [0.6, 0.62, 0.93], "lets-sam": [0.8, 0.82]}, seeds=[0, 1, 2])
    found = verdict(results)
    assert found.comparisons[0][1].startswith("+20.00 points against sgd")
    assert found.caveats[0].startswith("The trial is incomplete: 1 of 6 runs are missing.")


def test_seeds_that_only_the_learned_method_has_are_left_out():
    assert verdict(trial({"sgd": [0.6, 0.62], "lets-sam": [0.8, 0.82, 0.1]})).comparisons[0][1].startswith("+20.00 ")
    apart = Results("t", {}, {}, (make_run("sgd", 0, 0.5), make_run("lets-sam", 1, 0.6)))
    assert verdict(apart).comparisons == (("lets-sam", "no seed shared with sgd."),)


def test_missing_runs_include_the_refits():
    results = trial({"sgd": [0.6, 0.6], "lets-sam": [0.8]}, seeds=[0, 1], refit=True)
    assert missing_runs(results) == (("lets-sam", 1), ("lets-sam+refit", 0), ("lets-sam+refit", 1))
    many = trial({"lets-sam-per-layer": [0.8, 0.8]}, seeds=[0, 1], refit=True)
    assert missing_runs(many) == (("lets-sam-per-layer+refit", 0), ("lets-sam-per-layer+refit", 1))


def test_a_single_method_is_compared_with_nothing():
    found = verdict(trial({"sgd": [0.7, 0.8]}))
    assert found.headline.startswith(
        "Only sgd has been run; it reached a test accuracy of 75.00 ± 7.07 % over 2 seeds."
    )
    assert found.comparisons == ()


def test_divergence_is_reported(broken):
    assert any("lets-sam (1 of 2)" in caveat for caveat in verdict(broken).caveats)
    found = verdict(trial({"sgd": [0.7, 0.7], "lets-sam": [0.9, math.nan]}))
    assert "sgd reached the highest" in found.headline
    assert "chance explains" not in found.headline
    assert found.comparisons[0][1] == "not compared with sgd, because a run diverged."
    assert "no method can be called the best" in verdict(trial({"sgd": [math.nan], "sam": [math.nan]})).headline


def test_a_run_whose_loss_is_lost_does_not_win_by_its_accuracy():
    """The accuracy of a network of NaNs is finite: it names the first class."""
    runs = [make_run("sgd", seed, 0.6) for seed in (0, 1)]
    runs += [make_run("lets-sam", 0, 0.9), make_run("lets-sam", 1, 0.9, loss=math.nan)]
    results = Results("digits", {}, {}, tuple(runs))
    found = verdict(results)
    assert "sgd reached the highest" in found.headline
    assert found.comparisons[0][1] == "not compared with sgd, because a run diverged."
    assert [row.best for row in table_rows(results)] == [True, False]


def test_the_advantage_of_choosing_among_fixed_radii_is_told(five):
    assert any("The best of the 2 fixed radii is chosen by its test accuracy" in text for text in verdict(five).caveats)
    single = verdict(trial({"sam": [0.7], "lets-sam": [0.8]}))
    assert not any("fixed radii" in text for text in single.caveats)
    assert "sam is the only fixed radius here, so nothing is said about the best one" in single.caveats[0]


def test_a_schedule_is_no_fixed_radius():
    """Nor is one in float32 a schedule."""
    runs = [dataclasses.replace(make_run("sam-rising", seed, 0.9), rho_initial=0.001) for seed in (0, 1)]
    runs += [dataclasses.replace(make_run("sam:0.1", seed, 0.8, rho=0.1), rho_final=0.10000000149) for seed in (0, 1)]
    runs += [make_run("sam:0.2", seed, 0.7, rho=0.2) for seed in (0, 1)] + [
        make_run("lets-sam", s, 0.85) for s in (0, 1)
    ]
    results = Results("digits", {}, {}, tuple(runs))
    ((method, sentence),) = verdict(results).comparisons
    assert method == "lets-sam"
    assert "+5.00 points against sam:0.1, the best of 2 fixed radii," in sentence
    assert "-5.00 points against sam-rising," in sentence


@pytest.mark.parametrize(("by", "favours"), [("test accuracy", True), ("validation loss", False)])
def test_the_page_says_what_chose_the_model(by, favours):
    results = trial({"sgd": [0.5, 0.6], "sam": [0.7, 0.8]})
    chosen = {"method": "sam", "seed": 0, "chosen_by": f"among 2 by the highest mean {by} over 2 seeds"}
    found = [
        caveat
        for caveat in verdict(dataclasses.replace(results, config={**results.config, "refit_best": chosen})).caveats
        if "The folder model" in caveat
    ]
    assert len(found) == 1
    assert f"holds sam with seed 0, trained on all the training data; it was chosen {chosen['chosen_by']}." in found[0]
    assert ("favours its number" in found[0]) == favours
    assert not any("The folder model" in caveat for caveat in verdict(results).caveats)
