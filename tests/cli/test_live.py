"""The table that a terminal shows while a trial runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from letsam.cli import live
from letsam.cli.live import LiveTrial
from letsam.results import Results
from letsam.training.methods import Method, PlannedRun
from report_cases import make_run

PLAN = [PlannedRun(Method.parse(name), seed) for seed in (0, 1) for name in ("sgd", "lets-sam")]


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def shown(trial: LiveTrial) -> list[str]:
    console = Console(file=io.StringIO(), width=100)
    console.print(trial)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def results(*runs: tuple[str, int, float]) -> Results:
    return Results("digits", {}, {}, tuple(make_run(*run) for run in runs))


def test_what_it_shows() -> None:
    clock = Clock()
    trial = LiveTrial(results(), PLAN, clock)
    assert shown(trial)[0] == "digits: 0/4 runs, 0:00 elapsed"
    clock.now += 10
    trial.epoch(PLAN[0], 5, 10)
    trial.epoch(PLAN[1], 5, 10)
    title, head, sgd, lets = shown(trial)
    assert title == "digits: 0/4 runs, 0:10 elapsed, about 0:30 left"  # one of four in ten seconds
    assert head == "method seeds test accuracy %, so far now"
    assert sgd == "sgd 0/2 seed 0: epoch 5 of 10"
    assert lets == "lets-sam 0/2 seed 0: epoch 5 of 10"
    trial.finished(results(("sgd", 0, 0.7)))
    trial.finished(results(("sgd", 0, 0.7), ("lets-sam", 0, 0.9)))
    trial.epoch(PLAN[2], 1, 10)
    clock.now += 50
    title, _, sgd, lets = shown(trial)
    assert title.startswith("digits: 2/4 runs, best so far lets-sam 90.00, 1:00 elapsed, about 0:54 left")
    assert sgd == "sgd 1/2 70.00 seed 1: epoch 1 of 10"
    assert lets == "lets-sam 1/2 90.00"


def test_runs_that_were_there_before_do_not_count_as_speed() -> None:
    clock = Clock()
    trial = LiveTrial(results(("sgd", 0, 0.7), ("lets-sam", 0, 0.9), ("other", 3, 0.9)), PLAN, clock)
    assert trial.seconds_left is None
    clock.now += 20
    trial.epoch(PLAN[2], 1, 1)
    assert trial.seconds_left == pytest.approx(20)
    assert shown(trial)[0].startswith("digits: 2/4 runs")


def test_names_do_nothing() -> None:
    trial = LiveTrial(Results("[red]\x1b[31m", {}, {}), PLAN, Clock())
    assert shown(trial)[0] == r"[red]\x1b[31m: 0/4 runs, 0:00 elapsed"


def test_a_pipe_has_a_line_now_and_then() -> None:
    clock, lines = Clock(), list[str]()
    trial = LiveTrial(results(), PLAN, clock, lines.append)
    for second in range(1, 100):
        clock.now += 1
        trial.epoch(PLAN[0], second, 200)
    assert lines[0] == "digits: 0/4 runs, 0:05 elapsed; running: sgd seed 0 epoch 5 of 200"
    assert lines[1] == "digits: 0/4 runs, 0:20 elapsed, about 13:00 left; running: sgd seed 0 epoch 20 of 200"
    assert [line.split(",")[1] for line in lines[2:]] == [" 0:50 elapsed", " 1:20 elapsed"]
    clock.now += 30
    trial.finished(results(("sgd", 0, 0.7)))
    assert lines[-1] == "digits: 1/4 runs, best so far sgd 70.00, 2:09 elapsed, about 6:27 left"


def test_a_short_trial_is_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for shown, seconds in ((True, 30.0), (False, 0.0), (True, 0.0)):
        monkeypatch.setattr(live, "SECONDS", seconds)
        with live.live_trial(results(), PLAN, shown=shown) as trial:
            trial.epoch(PLAN[0], 1, 2)
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("digits: 0/4 runs" if shown and not seconds else "")
        assert bool(printed.err) == (shown and not seconds)
