"""The audit of the data of a trial: when it is made, that it is on record, and how `letsam audit` replaces it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli_cases import check_error
from letsam.results import Results
from letsam.training import task_audit
from letsam.validation.auditing import data_audit

Run = Callable[..., tuple[int, str, str]]
TRAIN = ("--target", "kind", "--methods", "lets-sam", "--no-refit", "--seeds", "1", "--epochs", "1", "--out", "run")


def table(seed: int, rows: int) -> pd.DataFrame:
    drawn = np.random.default_rng(seed)
    target = drawn.integers(0, 2, rows)
    values = drawn.normal(size=(rows, 4)) + 2 * target[:, None]
    return pd.DataFrame({**{f"x{i}": values[:, i] for i in range(4)}, "kind": target})


@pytest.fixture
def faulty(here: Path) -> pd.DataFrame:
    """Rows of which some were exported twice."""
    frame = table(0, 300)
    frame = pd.concat([frame, frame[:60]], ignore_index=True)
    frame.to_csv("faulty.csv", index=False)
    return frame


def audit_of(folder: str = "run") -> Any:
    return Results.load(f"{folder}/results.json").audit


def test_a_trial_of_a_file_audits_its_split(faulty: pd.DataFrame, letsam_run: Run) -> None:
    status, out, err = letsam_run("trial", "faulty.csv", *TRAIN)
    assert (status, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("data audit: ")]
    assert line.startswith("data audit: error: ")
    assert line.endswith("leave them out of one side, or split by group [duplicates]")
    audit = audit_of()
    assert (audit["seed"], audit["validation_share"], audit["probe"], audit["deployed"]) == (0, 0.1, False, None)
    (finding,) = audit["findings"]
    assert finding["count"] == len(finding["samples"])
    for pair in finding["samples"]:  # the rows of the file, which are equal
        first, second = (int(row) - 1 for row in pair.removesuffix(")").replace("row ", "").split(" (training: "))
        assert first != second
        assert faulty.iloc[first].equals(faulty.iloc[second])
    more = [*TRAIN[:4], "--no-refit", "--seeds", "2", *TRAIN[7:], "--resume"]
    assert "data audit" not in letsam_run("trial", "faulty.csv", *more)[1]  # it is on record
    assert audit_of() == audit


def test_a_run_of_one_method_has_an_audit_as_well(faulty: pd.DataFrame, letsam_run: Run) -> None:
    command = ("train", "faulty.csv", "--target", "kind", "--method", "lets-sam", "--epochs", "1", "--out", "one")
    assert letsam_run(*command)[0] == 0
    assert [one["code"] for one in audit_of("one")["findings"]] == ["duplicates"]


def test_clean_data_from_operation_and_drifted_ones(here: Path, letsam_run: Run) -> None:
    table(1, 300).to_csv("clean.csv", index=False)
    table(2, 100).drop(columns="kind").to_csv("june.csv", index=False)
    july = table(3, 100).drop(columns="kind")
    july["x0"] += 5
    july.to_csv("july.csv", index=False)
    options = ("--validation-share", "0.3")
    status, out, _ = letsam_run("trial", "clean.csv", *TRAIN, *options, "--deployed", "june.csv")
    assert (status, "data audit: nothing is wrong" in out) == (0, True)
    assert audit_of()["deployed"] == "june.csv"
    other = (*TRAIN[:-1], "july", *options)
    assert letsam_run("trial", "clean.csv", *other, "--deployed", "july.csv")[0] == 0
    assert [one["code"] for one in audit_of("july")["findings"]] == ["deployed-differs"]


@pytest.mark.parametrize(
    ("task", "options", "made"),
    [
        ("faulty.csv", (), True),
        ("faulty.csv", ("--no-audit",), False),
        ("faulty.csv", ("--methods", "sgd"), False),
        ("faulty.csv", ("--methods", "sgd", "--audit"), True),
        ("my_task.py:make_task", (), False),
        ("my_task.py:make_task", ("--audit",), True),
    ],
)
def test_when_a_trial_has_an_audit(
    faulty: pd.DataFrame, letsam_run: Run, task: str, options: tuple[str, ...], made: bool
) -> None:
    target = TRAIN[:2] if task == "faulty.csv" else ()
    assert letsam_run("trial", task, *target, *TRAIN[2:], *options)[0] == 0
    assert (audit_of() is not None) == made


def test_without_scikit_learn_no_audit_is_made_unless_it_is_asked_for(
    faulty: pd.DataFrame, letsam_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_audit, "find_spec", lambda _: None)
    monkeypatch.setattr(task_audit, "can_audit", lambda: False)
    check_error(
        letsam_run("trial", "faulty.csv", *TRAIN, "--audit"),
        r'audits need scikit-learn; install it with `pip install "letsam\[validation\]"`',
    )
    assert letsam_run("trial", "faulty.csv", *TRAIN)[0] == 0
    assert audit_of() is None


def test_an_audit_replaces_that_of_a_trial(faulty: pd.DataFrame, letsam_run: Run) -> None:
    assert letsam_run("trial", "faulty.csv", *TRAIN, "--no-audit")[0] == 0
    plain = Results.load("run/results.json")
    status, out, _ = letsam_run("audit", "faulty.csv", "--target", "kind", "--out", "run")
    assert status == 1
    assert out.splitlines()[-1] == f"report: {Path('run/report.html')}"
    found = Results.load("run/results.json")
    assert found.audit is not None
    assert (found.audit["probe"], "slope_noise" in found.audit["measures"]) == (True, True)
    assert "duplicates" in [one["code"] for one in found.audit["findings"]]
    assert dataclasses.replace(found, audit=None) == plain

    table(5, 200).to_csv("other.csv", index=False)
    check_error(
        letsam_run("audit", "other.csv", "--target", "kind", "--out", "run"),
        "results.json: holds runs on other data: .* samples for training",
    )
    (Path("empty")).mkdir()
    check_error(
        letsam_run("audit", "other.csv", "--target", "kind", "--out", "empty"),
        "results.json: expected a results file, but there is no such file",
    )


def test_data_that_cannot_be_examined(here: Path, letsam_run: Run) -> None:
    check_error(letsam_run("trial", "my_task.py:three", "--audit", *TRAIN[2:]), "`validation_share` = 0.1 of 3 samples")
    assert not Path("run").exists()
    check_error(
        letsam_run("trial", "my_task.py:make_task", *TRAIN[2:], "--deployed", "x.csv", "--no-audit"),
        "`deployed` is used by the audit, or by `validation_shift` = auto, got --no-audit",
    )
