"""`--validation-shift auto`: the drift of validation data is learned from deployed data, and on record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cli_cases import check_error
from letsam.reports.html import render_report
from letsam.results import Results
from letsam.training import learned_shift
from letsam.training.loop import Training
from letsam.validation import Mixture

Run = Callable[..., tuple[int, str, str]]
COMMAND = ("trial", "rows.csv", "--target", "kind", "--methods", "sgd,lets-sam", "--epochs", "2", "--out", "run")
AUTO = ("--validation-shift", "auto", "--deployed", "july.csv")


@pytest.fixture
def rows(here: Path) -> None:
    """Training data, and data from operation in which sensors fail: values are missing."""
    drawn = np.random.default_rng(0)
    target = drawn.integers(0, 2, 500)
    values = drawn.normal(size=(500, 6)) + 2 * target[:, None]
    frame = pd.DataFrame({**{f"x{i}": values[:, i] for i in range(6)}, "kind": target})
    frame[:300].to_csv("rows.csv", index=False)
    operation = frame[300:].drop(columns="kind")
    operation.mask(drawn.random(operation.shape) < 0.5).to_csv("july.csv", index=False)


def test_the_mixture_is_learned_recorded_and_shown(
    rows: None, letsam_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out: list[torch.Tensor] = []
    finish = Training.finish

    def finished(run: Training) -> Any:
        if run.learns and run.validation is not None:
            data: Any = run.validation.dataset
            held_out.append(data[:][0])
        return finish(run)

    monkeypatch.setattr(Training, "finish", finished)
    status, out, _ = letsam_run(*COMMAND, "--seeds", "1", *AUTO)
    assert status == 0
    results = Results.load("run/results.json")
    shift = results.config["learned_shift"]
    assert (results.config["validation_shift"], results.config["deployed"]) == ("auto", "july.csv")
    mixture = Mixture.parse(shift, "table")
    weights = dict(zip(mixture.alternatives, mixture.weights, strict=True))
    assert sum(weight for steps, weight in weights.items() if "missing" in dict(steps)) > 0.5
    text = dict(results.inferred)["validation shift"]
    assert text.startswith(f"{shift}, learned from 200 deployed inputs; the AUC of a classifier")
    assert shift[:20] in out
    page = render_report(results)
    assert f"validation shift <b>{shift}</b>" in page
    assert "learned from 200 deployed inputs" in page

    (shifted,) = held_out
    letsam_run(*COMMAND[:-1], "plain", "--seeds", "1")
    plain = held_out[1]
    medians = torch.tensor([float(column.mode().values) for column in shifted.T[:6]])
    assert not torch.equal(shifted, plain)
    assert float((shifted[:, :6] == medians).float().mean()) > 0.1  # what is missing is filled in


def test_more_seeds_keep_the_mixture(rows: None, letsam_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert letsam_run(*COMMAND, "--seeds", "1", *AUTO)[0] == 0
    first = Results.load("run/results.json")
    monkeypatch.delattr(learned_shift, "learn_mixture")
    assert letsam_run(*COMMAND, "--seeds", "2", *AUTO, "--resume")[0] == 0
    second = Results.load("run/results.json")
    assert len(second.runs) == 2 * len(first.runs)
    assert second.inferred == first.inferred
    assert second.config["learned_shift"] == first.config["learned_shift"]
    status, _, err = letsam_run(*COMMAND, "--seeds", "3", "--validation-shift", "missing:2", "--resume")
    assert status == 2
    assert "holds another trial: its validation_shift is 'auto', got 'missing:2'" in err


def test_a_run_of_one_method_learns_it_as_well(rows: None, letsam_run: Run) -> None:
    train = ("train", "rows.csv", "--target", "kind", "--method", "lets-sam", "--out", "one", *AUTO)
    assert letsam_run(*train, "--epochs", "1")[0] == 0
    first = json.loads(Path("one/results.json").read_text())["config"]["learned_shift"]
    assert letsam_run(*train, "--epochs", "2", "--resume")[0] == 0
    assert json.loads(Path("one/results.json").read_text())["config"]["learned_shift"] == first
    assert len(Results.load("one/results.json").runs[0].history["epoch"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--validation-shift", "auto"), "`validation_shift` = auto needs `deployed`, a file or folder of inputs"),
        (("--validation-shift", "auto", "--deployed", "none.csv"), "none.csv: expected a table"),
        (("--validation-shift", "auto", "--deployed", "few.csv"), "needs 20 samples or more, got .* 3 of `deployed`"),
    ],
)
def test_bad_input_is_one_line(rows: None, letsam_run: Run, options: tuple[str, ...], message: str) -> None:
    pd.read_csv("july.csv")[:3].to_csv("few.csv", index=False)
    check_error(letsam_run(*COMMAND, *options), message)
    check_error(
        letsam_run("trial", "digits", "--validation-shift", "auto", "--deployed", "july.csv"),
        "`deployed` needs a file or folder of data, got the task 'digits'",
    )
    assert not Path("run").exists()
