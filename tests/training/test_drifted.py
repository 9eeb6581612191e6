"""Validation data under simulated drift in trials."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from letsam.data import DataOptions, data_task
from letsam.models import ModelOptions
from letsam.tasks import load_task
from letsam.training.config import TrialConfig
from letsam.training.drifted import with_drift
from letsam.training.sampling import make_splits
from letsam.validation import shifted

OPTIONS = {"label_noise": 0.0, "validation_share": 0.2, "hold_out": True}


def test_only_the_validation_data_are_shifted_and_as_shifted_does() -> None:
    task = load_task("digits", train_size=200)
    plain = make_splits(task, 3, **OPTIONS)  # pyright: ignore[reportArgumentType]
    found = make_splits(task, 3, validation_shift="noise:3", **OPTIONS)  # pyright: ignore[reportArgumentType]
    assert torch.equal(found.train[:][0], plain.train[:][0])
    assert found.test is task.test
    assert plain.validation is not None
    assert found.validation is not None
    pixels = task.train[:][0]
    expected = shifted(plain.validation, "noise:3", seed=3, value_range=(float(pixels.min()), float(pixels.max())))
    assert torch.equal(found.validation[:][0], expected[:][0])
    assert torch.equal(found.validation[:][1], plain.validation[:][1])
    assert not torch.equal(found.validation[:][0], plain.validation[:][0])
    without = make_splits(task, 3, validation_shift="noise:3", **{**OPTIONS, "hold_out": False})  # pyright: ignore[reportArgumentType]
    assert without.validation is None


def test_texts_are_shifted_through_their_tokenizer(tmp_path: Path) -> None:
    words = ["good", "bad", "film", "plot", "never", "dull", "slow", "and", "very"]
    rows = [" ".join(words[(i * k + k) % 9] for k in range(2, 8)) for i in range(80)]
    pd.DataFrame({"text": rows, "label": [i % 2 for i in range(80)]}).to_csv(tmp_path / "films.csv")
    options = DataOptions(path=str(tmp_path / "films.csv"), text="text", target="label", drop=())
    task = data_task(options, ModelOptions())
    found = with_drift(task, task.test, "truncated:5", 0)
    assert task.collate is not None
    inputs, targets = task.collate([found[i] for i in range(4)])
    whole, same = task.collate([task.test[i] for i in range(4)])
    assert inputs["input_ids"].shape[1] < whole["input_ids"].shape[1]
    assert torch.equal(targets, same)
    with_drift(task, task.test, "typos:3", 0)[0]


def test_shifts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="`validation_shift` must be of clean"):
        TrialConfig(task="digits", validation_shift="wind:2")
    with pytest.raises(ValueError, match="`validation_shift` must not resample"):
        TrialConfig(task="digits", validation_shift="labels:2", folds=3)
    task = load_task("digits", train_size=50)
    with pytest.raises(ValueError, match=r"`validation_shift` must be of clean, noise, .* for image data, got 'typos'"):
        make_splits(task, 0, validation_shift="typos:2", **OPTIONS)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`validation_shift` = groups:2 needs the groups of the samples: name their"):
        make_splits(task, 0, validation_shift="groups:2", **OPTIONS)  # pyright: ignore[reportArgumentType]
