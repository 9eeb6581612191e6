"""`letsam decide`, and the verdict that `letsam trial` and `letsam report` print."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from cli_cases import MINE, TRIAL, check_error, files
from decision_cases import BASE, plus
from letsam.decision import Decision, decide
from letsam.results import Results
from letsam.results.predicted import load_predictions
from report_cases import trial as results_of
from training_cases import without_seconds


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    """Saves a trial with these gains, in points; gives its folder."""

    def save(*gains: float, **rows: list[float]) -> Path:
        folder = tmp_path / "out"
        results_of({"sgd": BASE[: len(gains)], "lets-sam": plus(*gains), **rows}).save(folder / "results.json")
        return folder

    return save


@pytest.mark.parametrize(
    ("gains", "status", "words"),
    [
        ((5.0, 5.5, 4.8, 5.2), 0, "Go: use lets-sam instead of sgd."),
        ((-5.0, -5.5, -4.8, -5.2), 1, "No-go: do not use lets-sam instead of sgd."),
        ((1.0, 5.0, 0.0, 3.0), 3, "more seeds needed: it is open whether to use lets-sam instead of sgd."),
    ],
)
def test_the_exit_status_tells_the_verdict(
    gains: tuple[float, ...], status: int, words: str, saved: Any, letsam_run: Any
) -> None:
    folder = saved(*gains)
    found, out, err = letsam_run("decide", str(folder))
    assert (found, err) == (status, "")
    assert words in out.splitlines()[0]
    assert "critical value of t" in out
    decision = Decision.from_json(Results.load(folder / "results.json").decision or {})
    assert decision == decide(results_of({"sgd": BASE, "lets-sam": plus(*gains)}))


def test_options_of_the_verdict(saved: Any, letsam_run: Any) -> None:
    folder = saved(1.0, 2.0, 1.4, 1.6, sam=BASE)
    given = ("--baseline", "sam", "--candidate", "lets-sam", "--minimum-effect", "7", "--cost-per-pass", "0.5")
    status, out, _ = letsam_run("decide", str(folder), *given, "--planned-seeds", "5")
    assert status == 1
    assert "instead of sam." in out
    assert "a training costs 50.00 more" in out
    decision = Results.load(folder / "results.json").decision or {}
    assert (decision["minimum_effect"], decision["planned_seeds"], decision["chosen"]) == (7, 5, "named")
    assert letsam_run("decide", str(folder))[1] == out  # the options are kept


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--baseline", "sgdd"),
            "`baseline` must be a method .*: sgd, lets-sam; got 'sgdd', did you mean",
        ),
        (("--minimum-effect", "-1"), "`minimum_effect` must be a number >= 0"),
        (("--candidate", "sgd", "--baseline", "sgd"), "`candidate` and `baseline` must be two methods"),
    ],
)
def test_bad_options_leave_the_results_as_they_are(
    options: tuple[str, ...], message: str, saved: Any, letsam_run: Any
) -> None:
    folder = saved(1.0, 2.0, 1.4)
    before = files(folder)
    check_error(letsam_run("decide", str(folder), *options), message)
    assert files(folder) == before


def test_a_folder_without_results_is_refused(here: Path, letsam_run: Any) -> None:
    check_error(letsam_run("decide", "nowhere"), "nowhere/results.json: expected a results file")
    assert not (here / "nowhere").exists()


def test_a_record_that_is_none_is_refused(saved: Any, letsam_run: Any) -> None:
    folder = saved(1.0, 2.0, 1.4)
    value = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**value, "decision": {"verdict": "go"}}))
    check_error(letsam_run("decide", str(folder)), "expected the field decision.looks")
    (folder / "results.json").write_text(json.dumps({**value, "decision": 3}))
    check_error(letsam_run("decide", str(folder)), "expected decision to be an object, got 3")


def test_a_trial_ends_with_its_verdict_and_the_report_repeats_it(trial: Path, here: Path, letsam_run: Any) -> None:
    """Two seeds are too few; with a third one, the second look is recorded, and test samples are considered."""
    first = Results.load(trial / "results.json")
    assert [look["seeds"] for look in (first.decision or {})["looks"]] == [2]

    status, out, err = letsam_run(*TRIAL[:-1], "3", "--resume", "--minimum-effect", "0.5")
    assert (status, err) == (0, "")
    results = Results.load(trial / "results.json")
    decision = Decision.from_json(results.decision or {})
    assert [look.seeds for look in decision.looks] == [2, 3]
    assert (decision.baseline, decision.candidate, decision.looked_at) == ("sgd", "lets-sam+refit", (3,))
    assert decision.minimum_effect == 0.5
    assert decision.sample_error is not None
    predictions = load_predictions(trial, [run.key for run in results.runs])
    earlier = dataclasses.replace(results, decision=first.decision)
    assert decide(earlier, predictions=predictions, minimum_effect=0.5) == decision
    lines = [line for line in out.splitlines() if "lets-sam+refit instead of sgd" in line]
    assert len(lines) == 1
    assert out.splitlines()[-1].startswith("report: ")

    status, again, _ = letsam_run("report", str(trial))
    assert status == 0
    assert again.splitlines()[:-1] == out.splitlines()[:-1]
    assert Results.load(trial / "results.json") == results


def test_runs_do_not_depend_on_the_options_of_the_verdict(trial: Path, letsam_run: Any) -> None:
    before = [without_seconds(run) for run in Results.load(trial / "results.json").runs]
    assert letsam_run(*TRIAL, "--out", "other", "--baseline", "sam:0.1", "--candidate", "lets-sam")[0] == 0
    results = Results.load(Path("other/results.json"))
    assert [without_seconds(run) for run in results.runs] == before
    assert (results.decision or {})["baseline"] == "sam:0.1"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            ("--baseline", "asam"),
            "`baseline` must be .* trial: sgd, sam:0.1, lets-sam, lets-sam.refit; got",
        ),
        (("--candidate", "lets-sa"), "`candidate` must be .* did you mean 'lets-sam'?"),
        (("--planned-seeds", "2"), "`planned_seeds` must be a whole number from 3 to 1000"),
        (("--cost-per-pass", "-1"), "`cost_per_pass` must be a number >= 0"),
    ],
)
def test_a_trial_refuses_bad_options_before_it_trains(option: tuple[str, ...], message: str, bad: Any) -> None:
    bad(*TRIAL, *option, message=message)


def test_a_trial_of_one_method_says_why_there_is_no_verdict(here: Path, letsam_run: Any) -> None:
    status, out, _ = letsam_run("trial", MINE, "--methods", "sgd", "--seeds", "1", "--epochs", "1")
    assert status == 0
    assert "no verdict: `candidate` must be given, as no other method of these results has a learned radius" in out
