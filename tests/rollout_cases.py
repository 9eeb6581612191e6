"""Champion and challenger for the tests of shadow mode and of roll-outs, trained on real data by the command line."""

from __future__ import annotations

import functools
import io
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pandas
import pytest
from sklearn.datasets import load_diabetes, load_digits

from letsam.cli import run


def call(*arguments: object) -> tuple[int, str, str]:
    """The command line here: status, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run([str(one) for one in arguments])
    return status, out.getvalue(), err.getvalue()


def train(data: object, out: object, *options: str, target: str | None = "target") -> None:
    """A model; its report is not made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("letsam.reports.html.write_report", lambda results, path: path.write_text("page"))
        named = () if target is None else ("--target", target)
        status, _, err = call("train", data, *named, *options, "--out", out)
    assert status == 0, err


@functools.cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="letsam-pairs-")


@functools.cache
def digits() -> Path:
    """A folder with the models `v1` and `v2` of handwritten digits, and `july.csv`, 497 rows that none has seen.

    The champion was trained for one epoch and the challenger for four. Tests must not change the folder.
    """
    folder = Path(_kept().name) / "digits"
    folder.mkdir()
    frame = load_digits(as_frame=True).frame
    frame["target"] = frame["target"].map("digit {}".format)
    frame = frame.sample(frac=1.0, random_state=0)
    frame[:900].to_csv(folder / "train.csv", index=False)
    frame[900:1300].to_csv(folder / "test.csv", index=False)
    frame[1300:].to_csv(folder / "july.csv", index=False)
    test = ("--test", str(folder / "test.csv"))
    train(folder / "train.csv", folder / "v1", *test, "--method", "sgd", "--epochs", "3")
    train(folder / "train.csv", folder / "v2", *test, "--method", "sam", "--epochs", "6")
    return folder


@functools.cache
def diabetes() -> Path:
    """The same for numbers to predict: `v1` and `v2` of the progression of diabetes, and `july.csv` with 142 rows."""
    folder = Path(_kept().name) / "diabetes"
    folder.mkdir()
    frame = load_diabetes(as_frame=True).frame
    frame[:300].to_csv(folder / "train.csv", index=False)
    frame[300:].to_csv(folder / "july.csv", index=False)
    train(folder / "train.csv", folder / "v1", "--method", "sgd", "--epochs", "3")
    train(folder / "train.csv", folder / "v2", "--method", "sam", "--epochs", "6")
    return folder


def july(folder: Path) -> Any:
    """The rows of `july.csv`."""
    return pandas.read_csv(folder / "july.csv")
