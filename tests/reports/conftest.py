"""Trials that the tests of the reports share."""

import math

import pytest

from letsam.results import Run
from report_cases import make_run, trial


@pytest.fixture(scope="session")
def five():
    return trial(
        {
            "sgd": [0.70, 0.71, 0.72],
            "sam": [0.80, 0.81, 0.82],
            "sam:0.1": [0.85, 0.86, 0.87],
            "lets-sam": [0.90, 0.91, 0.92],
            "lets-sam+refit": [0.86, 0.865, 0.87],
        }
    )


@pytest.fixture(scope="session")
def broken():
    """The second seed of the second method explodes and ends in NaN."""
    results = trial({"sgd": [0.7, 0.71], "lets-sam": [0.9, 0.1]})
    run = make_run("lets-sam", 1, 0.1, loss=math.nan)
    history = {**run.history, "test_loss": [1.0, 1e9, math.nan], "generalization_gap": [0.1, 1e9, math.nan]}
    return results.with_run(Run(**{**vars(run), "history": history}))
