"""Which tests a model has, what their limits are made of, and what is measured when."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import letsam
from letsam.data.loss_by_kind import KindLoss
from letsam.model_folder.reference import FeatureColumn, ModelReference
from letsam.operation.measuring import DRIFT, Measuring
from letsam.operation.watched_batch import read_batch
from watch_cases import batch


def reference(**fields: object) -> ModelReference:
    stream = torch.Generator().manual_seed(0)
    rows = torch.randn(80, 4, generator=stream)
    outputs = torch.randn(60, 3, generator=stream)
    found = ModelReference(
        modality="table",
        features=rows,
        columns=tuple(FeatureColumn(f"column {i}", i, i + 1) for i in range(4)),
        outputs=outputs,
        targets=outputs.argmax(dim=1),
        weights=None,
        embeddings=torch.randn(60, 5, generator=stream),
        held_out="60 samples",
        training_loss=0.1,
        loss=KindLoss("classification"),
        sharpness=(0.1, 0.2, 0.15),
    )
    return dataclasses.replace(found, **fields)  # type: ignore[arg-type]


def test_which_tests_a_model_has() -> None:
    every = (*DRIFT, "expected_accuracy", "balanced_accuracy", "generalization_gap", "sharpness")
    assert Measuring(reference(), "classification", "balanced accuracy", 0.05).possible == every
    lacking = {
        "drift_auc": reference(modality=None),
        "sharpness": reference(sharpness=(0.1,)),
        "generalization_gap": reference(training_loss=None),
    }
    for name, one in lacking.items():
        found = Measuring(one, "classification", "balanced accuracy", 0.05).possible
        assert found == tuple(test for test in every if test != name)
    without = Measuring(reference(loss=None), "classification", "BLEU", 0.05).possible
    assert without == (*DRIFT, "expected_accuracy")
    assert "expected_accuracy" not in Measuring(reference(), "regression", "RMSE", 0.05).possible


def test_limits_have_the_spread_of_the_trial_and_the_rate() -> None:
    targets = reference().targets.clone()
    targets[:9] = (targets[:9] + 1) % 3
    plain = Measuring(reference(targets=targets), "classification", "accuracy", 0.05)
    spread = reference(targets=targets, spread={"accuracy": 0.03, "generalization_gap": 0.2}, seeds=3)
    wide = Measuring(spread, "classification", "accuracy", 0.05)
    strict = Measuring(reference(targets=targets), "classification", "accuracy", 1e-6)
    limits = [{name: bound.limit for name, bound in one.bounds.items()} for one in (plain, wide, strict)]
    for name, change in {
        "accuracy": -0.06,
        "expected_accuracy": -0.06,
        "generalization_gap": 0.4,
        "sharpness": 0,
    }.items():
        assert limits[1][name] == pytest.approx(limits[0][name] + change)
        assert (limits[2][name] - limits[0][name]) * (1 if name in ("generalization_gap", "sharpness") else -1) > 0
    assert plain.bounds["accuracy"].expected == pytest.approx(51 / 60)


def test_the_labels_of_a_known_batch_do_not_test_its_inputs_again(trained_digits: Path) -> None:
    model = letsam.load(trained_digits)
    found = ModelReference.load(model.folder)
    assert found is not None
    measuring = Measuring(found, model.kind, model.config["metric"], 0.05)
    unlabelled = measuring.measured(read_batch(model, found, batch(0)))
    labelled = read_batch(model, found, batch(0), True)
    alone, both = measuring.measured(labelled, drift=False), measuring.measured(labelled)
    assert set(unlabelled.tests) == {*DRIFT, "expected_accuracy"}
    assert set(alone.tests) == {"accuracy", "generalization_gap", "sharpness"}
    assert both.tests == {**unlabelled.tests, **alone.tests}
    assert unlabelled.tests["feature_drift"]["statistic"] == unlabelled.metrics["feature_drift"].value


def test_a_batch_does_not_depend_on_the_order_of_its_rows(trained_digits: Path) -> None:
    model = letsam.load(trained_digits)
    found = ModelReference.load(model.folder)
    assert found is not None
    data = batch(0)
    reversed_rows = data.iloc[::-1].reset_index(drop=True)
    one, other = (read_batch(model, found, frame, True, batch_size=50) for frame in (data, reversed_rows))
    assert one.fingerprint == other.fingerprint
    torch.testing.assert_close(one.outputs, other.outputs.flip(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one.features.sum(0), other.features.sum(0), rtol=1e-4, atol=1e-4)
    assert one.fingerprint != read_batch(model, found, batch(1)).fingerprint
    assert len(one.sharpness) == 120 // 32
