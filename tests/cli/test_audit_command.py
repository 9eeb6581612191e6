"""`letsam audit`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

Run = Callable[..., tuple[int, str, str]]


def table(seed: int, rows: int = 260) -> pd.DataFrame:
    drawn = np.random.default_rng(seed)
    target = drawn.integers(0, 2, rows)
    values = drawn.normal(size=(rows, 4)) + 2 * target[:, None]
    return pd.DataFrame({**{f"x{i}": values[:, i] for i in range(4)}, "user": np.arange(rows) // 4, "kind": target})


def test_a_file_of_data_is_audited_and_compared_with_deployed_data(here: Path, letsam_run: Run) -> None:
    clean = table(0)
    clean.to_csv("clean.csv", index=False)
    arguments = ("--target", "kind", "--drop", "user", "--validation-share", "0.25")
    assert letsam_run("audit", "clean.csv", *arguments) == (0, "nothing is wrong\n", "")
    operation = table(1, 120).drop(columns=["kind", "user"])
    operation[["x0", "x1"]] += 4
    operation.to_csv("deployed.csv", index=False)
    status, out, err = letsam_run(
        "audit", "clean.csv", *arguments, "--deployed", "deployed.csv", "--out", "a/audit.json"
    )
    assert (status, err) == (1, "")
    assert "deployed-differs" in out
    saved = json.loads(Path("a/audit.json").read_text())
    assert [row["code"] for row in saved["findings"]] == ["deployed-differs"]
    assert saved["measures"]["deployed_auc"][0] > 0.9


def test_repeated_rows_are_found_and_groups_are_kept_apart(here: Path, letsam_run: Run) -> None:
    data = table(2, 130)
    pd.concat([data, data]).to_csv("twice.csv", index=False)
    status, out, _ = letsam_run(
        "audit", "twice.csv", "--target", "kind", "--drop", "user", "--validation-share", "0.25"
    )
    assert status == 1
    assert "duplicates" in out
    apart = ("--target", "kind", "--group", "user", "--validation-share", "0.25")
    assert "group-leakage" not in letsam_run("audit", "twice.csv", *apart)[1]


def test_bad_input_is_one_line(here: Path, letsam_run: Run) -> None:
    for arguments, message in (
        (("digits", "--deployed", "x.csv"), "`deployed` needs a file or folder of data, got the task 'digits'"),
        (("digits", "--target", "x"), "`--target` needs a TASK that is a file or folder"),
        (("digits", "--validation-share", "2"), "`validation_share` must be between 0 and 1"),
    ):
        status, out, err = letsam_run("audit", *arguments)
        assert status != 0
        assert out == ""
        assert message in err
        assert err.count("\n") == 1
