"""Steps that were skipped are counted in the record, and the table, the verdict and the command say so."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import training_cases
from letsam.cli.terminal import print_results
from letsam.reports.html import render_report
from letsam.reports.table import markdown_table
from letsam.reports.verdict import verdict
from letsam.results import Results, Run
from training_cases import finish, start, weights


def results_of(*runs: Run) -> Results:
    return Results("blobs", {}, {}, runs)


@pytest.fixture(scope="module")
def runs() -> tuple[Run, Run]:
    """A run with a radius at which every perturbed pass overflows, and a usual one."""
    task = training_cases.task(epochs=2)
    return finish(start(task, "sam:1e38")).result(), finish(start(task, "sam:0.05")).result()


def test_a_run_whose_steps_were_all_skipped_is_not_taken_for_a_finished_one(
    runs: tuple[Run, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hopeless, usual = runs
    assert hopeless.steps == hopeless.skipped_steps == usual.steps > 0
    assert usual.skipped_steps == 0
    results = results_of(hopeless, usual)
    results.save(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["runs"][0]["skipped_steps"] == hopeless.steps
    loaded = Results.load(tmp_path / "results.json")
    assert [(run.steps, run.skipped_steps) for run in loaded.runs] == [
        (hopeless.steps, hopeless.steps),
        (usual.steps, 0),
    ]

    lines = markdown_table(loaded).splitlines()
    assert "(100 % skipped)" in next(line for line in lines if "sam:1e38" in line)
    assert "skipped" not in next(line for line in lines if "sam:0.05" in line)
    (caveat,) = [text for text in verdict(loaded).caveats if "Skipped" in text]
    assert f"sam:1e38 ({hopeless.steps} of {hopeless.steps} steps)" in caveat
    assert "Hardly trained" in caveat
    assert "sam:1e38 with seed 0" in caveat
    assert caveat in render_report(loaded)
    print_results(loaded)
    assert f"warning: {caveat}" in capsys.readouterr().err


def test_a_usual_run_gives_no_warning(runs: tuple[Run, Run], capsys: pytest.CaptureFixture[str]) -> None:
    print_results(results_of(runs[1]))
    assert capsys.readouterr().err == ""
    assert not any("kipped" in text for text in verdict(results_of(runs[1])).caveats)


def test_a_few_skipped_steps_are_told_without_a_judgement(runs: tuple[Run, Run]) -> None:
    few = Run(**{**vars(runs[1]), "steps": 1000, "skipped_steps": 2})
    (caveat,) = [text for text in verdict(results_of(few)).caveats if "Skipped" in text]
    assert caveat == "Skipped, because a loss or gradient was not finite: sam:0.05 (2 of 1,000 steps)."
    assert "skipped" not in markdown_table(results_of(few))


def test_files_without_the_field(runs: tuple[Run, Run], tmp_path: Path) -> None:
    results_of(runs[0]).save(tmp_path / "results.json")
    fields: Any = json.loads((tmp_path / "results.json").read_text())
    for name in ("steps", "skipped_steps"):
        del fields["runs"][0][name]
    (tmp_path / "results.json").write_text(json.dumps(fields))
    (run,) = Results.load(tmp_path / "results.json").runs
    assert (run.steps, run.skipped_steps) == (0, 0)
    assert not any("Skipped" in text for text in verdict(results_of(run)).caveats)
    fields["runs"][0]["skipped_steps"] = "many"
    (tmp_path / "results.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=r"expected runs\[0\].skipped_steps to be an integer, got \"many\""):
        Results.load(tmp_path / "results.json")


def test_the_count_survives_a_resumption() -> None:
    task = training_cases.task(epochs=2)
    run = start(task, "sam:1e38")
    run.advance()
    state = copy.deepcopy(run.state_dict())
    resumed = start(task, "sam:1e38")
    resumed.load_state_dict(state)
    assert resumed.skipped_steps == run.skipped_steps == run.step
    del state["progress"]["skipped_steps"]  # as in checkpoints of earlier versions
    other = start(task, "sam:1e38")
    other.load_state_dict(state)
    record = finish(other).result()
    assert record.skipped_steps == record.steps
    assert torch.equal(weights(other), weights(run))
