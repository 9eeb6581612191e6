"""Models to be watched, and their data: digits as a table, with batches that are like the training data or not."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.datasets import load_digits

from letsam.cli import run

SIZE = 120  # samples of a batch


def digits_table() -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Rows to train and test on, and rows of operation."""
    frame = load_digits(as_frame=True).frame
    frame["target"] = frame["target"].map(lambda digit: f"d{digit}")
    frame = frame.sample(frac=1.0, random_state=0).reset_index(drop=True)
    return frame[:900], frame[900:].reset_index(drop=True)


def noisy(frame: pandas.DataFrame, deviation: float) -> pandas.DataFrame:
    """The same rows with noise on each pixel, which has values from 0 to 16."""
    pixels = [name for name in frame if name != "target"]
    found = frame.copy()
    noise = np.random.default_rng(0).normal(0, deviation, (len(frame), len(pixels)))
    found[pixels] = (found[pixels] + noise).clip(0, 16)
    return found


def batch(number: int) -> pandas.DataFrame:
    """A batch of operation, from 0 to 6."""
    return digits_table()[1][SIZE * number : SIZE * (number + 1)].reset_index(drop=True)


def train_digits(folder: Path) -> Path:
    """The folder of results with a model of the digits, which have been written into it."""
    train, _ = digits_table()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
        patch.chdir(folder)
        patch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
        train.to_csv("digits.csv", index=False)
        options = ("--target", "target", "--test-share", "0.4", "--method", "sam", "--epochs", "8", "--out", "out")
        assert run(("train", "digits.csv", *options)) == 0
    return folder / "out"


def numbers(record: Any) -> dict[str, float]:
    """The numbers of a record."""
    return {name: one.value for name, one in record.metrics.items()}
