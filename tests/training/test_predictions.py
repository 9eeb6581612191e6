"""What runs predict for the test set: the outputs of the last evaluation, kept as files of the trial."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from letsam.results import Results
from letsam.results.predicted import Predictions, load_predictions
from letsam.training import predictions
from letsam.training.predictions import OutputCollector
from training_cases import CLASSES, TEST, TRAIN, Network, config, finish, start, task, weights
from trial_cases import ROWS, run


class Counted(Network):
    """Counts the samples that it sees in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.evaluated = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.evaluated += 0 if self.training else len(inputs)
        return super().forward(inputs)


def test_the_outputs_are_those_of_the_trained_model() -> None:
    one = finish(start(task(), "lets-sam", 1))
    found = one.finish().predictions
    assert found is not None
    with torch.no_grad():
        expected = one.model.module(TEST.tensors[0])
    assert (found.method, found.seed, found.kind) == ("lets-sam", 1, "classification")
    assert np.array_equal(found.outputs, expected.numpy())
    assert np.array_equal(found.targets, TEST.tensors[1].numpy())
    right = (found.outputs.argmax(axis=1) == found.targets).mean()
    assert right == pytest.approx(one.result().test_accuracy, abs=1e-6)


def test_the_test_set_is_not_read_again_and_the_training_stays_the_same() -> None:
    one = start(task(model=Counted, evaluation_batch=7), "sam")
    one.advance()
    one.advance()
    assert one.outputs is None  # only the last evaluation is kept
    one.advance()
    seen = one.model.module.evaluated
    assert seen == one.epoch * (len(TRAIN) + len(TEST))
    assert one.finish().predictions is not None
    assert one.model.module.evaluated == seen
    plain = finish(start(task(), "sam"))
    assert torch.equal(weights(one), weights(plain))
    assert one.finish().run == one.result()


def test_a_run_that_was_restored_at_its_end_has_them_too() -> None:
    first = finish(start(task(), "lets-sam"))
    again = start(task(), "lets-sam")
    again.load_state_dict(first.state_dict())
    mine, theirs = again.finish().predictions, first.finish().predictions
    assert mine is not None
    assert theirs is not None
    assert np.array_equal(mine.outputs, theirs.outputs)


def test_a_trial_keeps_those_of_every_run(tmp_path: Path) -> None:
    results = run(task(), config(methods=("sgd", "sam:0.1", "lets-sam")), tmp_path)
    found = load_predictions(tmp_path, [one.key for one in results.runs])
    assert [one.key for one in found] == ROWS == [one.key for one in results.runs]
    for one, record in zip(found, results.runs, strict=True):
        right = (one.outputs.argmax(axis=1) == one.targets).mean()
        assert right == pytest.approx(record.test_accuracy, abs=1e-6)
    assert len({one.outputs.tobytes() for one in found}) == len(ROWS)
    assert (tmp_path / "predictions" / "lets-sam+refit-1.safetensors").is_file()
    assert Results.load(tmp_path / "results.json").runs == results.runs


def collected(
    outputs: Any,
    targets: Any,
    kind: str = "classification",
    classes: tuple[str, ...] = (),
    samples: tuple[str, ...] = (),
) -> Any:
    """The predictions of two batches of two samples."""
    task: Any = SimpleNamespace(kind=kind, classes=classes, test_names=samples)
    collector = OutputCollector(task)
    for rows in (slice(0, 2), slice(2, 4)):
        collector.add(outputs(rows) if callable(outputs) else outputs[rows], targets[rows], 2)
    return collector.predictions("sgd", 0)


def test_kinds_of_outputs() -> None:
    classes, four = torch.arange(12.0).reshape(4, 3), torch.tensor([0, 2, 1, 1])
    numbers = torch.tensor([0.5, -1.0, 2.0, 0.0])
    assert collected(classes, four, classes=("a", "b", "c")).classes == ("a", "b", "c")
    assert collected(classes, four, classes=("a", "b")).names == ("0", "1", "2")
    assert collected(classes, four, samples=("w", "x", "y", "z")).samples == ("w", "x", "y", "z")
    assert collected(classes, four, samples=("w",)).samples == ()
    assert collected(classes, (classes > 4).long(), "multilabel").targets.dtype == np.float32
    assert collected(numbers, numbers, "regression").outputs.shape == (4, 1)
    assert collected(numbers[:, None], numbers).kind == "regression"  # a task that was written before there were kinds
    assert collected(classes.to(torch.bfloat16), four).outputs.dtype == np.float32
    for made in (lambda rows: {"logits": classes[rows]}, lambda rows: SimpleNamespace(logits=classes[rows])):
        assert np.array_equal(collected(made, four).outputs, classes.numpy())


@pytest.mark.parametrize(
    ("outputs", "targets", "kind"),
    [
        (torch.ones(4, 3, 5), torch.zeros(4, 5, dtype=torch.long), "classification"),  # a class for each pixel
        (torch.ones(4, 1), torch.tensor([0.0, 1.0, 1.0, 0.0]), "classification"),  # a score or a probability?
        (torch.ones(4, 3), torch.ones(4, 3) / 3, "classification"),  # soft labels
        (torch.ones(4, 3), torch.tensor([0, 1, 2, 3]), "classification"),
        (torch.ones(4, 2), torch.ones(4, 3), "multilabel"),
        (lambda rows: "text", torch.zeros(4), "classification"),
    ],
)
def test_what_is_not_one_row_of_scores_for_each_sample_is_not_kept(outputs: Any, targets: Tensor, kind: str) -> None:
    assert collected(outputs, targets, kind) is None


def test_very_many_outputs_are_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    results = run(task(), config(methods=("sgd",), seeds=(0,)), tmp_path)
    assert load_predictions(tmp_path, [("sgd", 0)])
    monkeypatch.setattr(predictions, "LARGEST_OUTPUTS", len(TEST) * CLASSES - 1)
    found = finish(start(task())).finish()
    assert found.predictions is None
    found.save_predictions(tmp_path)  # those of the earlier run would be another model's
    assert load_predictions(tmp_path, [one.key for one in results.runs]) == ()


def test_a_regression() -> None:
    inputs = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(inputs, inputs.sum(dim=1, keepdim=True))
    fields = {"train": data, "test": data, "loss": nn.functional.mse_loss, "metric": nn.functional.mse_loss}
    of = task(**fields, model=lambda: nn.Linear(4, 1), kind="regression", lower_is_better=True, metric_name="MSE")
    one = finish(start(of))
    found = one.finish().predictions
    assert found is not None
    assert float(((found.outputs - found.targets) ** 2).mean()) == pytest.approx(one.result().test_loss, rel=1e-5)


def test_files(tmp_path: Path) -> None:
    outputs = np.array([[1.0, 2.0], [3.0, float("nan")]], dtype=np.float32)
    one = Predictions("lets-sam:0.1+refit", 3, "classification", outputs, np.array([0, 1]), ("a", "ü <b>"), ("x", "y"))
    path = one.save(tmp_path)
    assert path == tmp_path / "predictions" / "lets-sam-0.1+refit-3.safetensors"
    read = Predictions.load(path)
    assert (read.key, read.kind, read.classes, read.samples) == (one.key, one.kind, one.classes, one.samples)
    assert np.array_equal(read.outputs, outputs, equal_nan=True)
    assert load_predictions(tmp_path, [("sgd", 0), ("lets-sam-0.1+refit", 3)]) == ()  # of another method
    about = json.dumps({"method": "lets-sam:0.1+refit", "seed": 3, "kind": "classification"})  # names may be missing
    save_file({"outputs": outputs, "targets": one.targets}, path, metadata={"run": about})
    assert Predictions.load(path).names == ("0", "1")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"0\.1\+refit-3\.safetensors: expected the predictions of a run, got another"):
        load_predictions(tmp_path, [one.key])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "ranking"}, "`kind` must be one of classification, multilabel, regression"),
        ({"outputs": np.zeros((0, 2), np.float32)}, "`outputs` must have the shape"),
        ({"targets": np.array([0, 2])}, "`targets` must be classes from 0 to 1"),
        ({"targets": np.array([0.0, 1.0])}, "`targets` must be classes"),
        ({"targets": np.array([0])}, "`targets` must have the shape"),
        ({"classes": ("a",)}, "`classes` must name 2 outputs, got 1"),
        ({"samples": ("a",)}, "`samples` must name 2 samples, got 1"),
    ],
)
def test_predictions_are_checked(changes: dict[str, Any], message: str) -> None:
    fields = {"kind": "classification", "outputs": np.zeros((2, 2), np.float32), "targets": np.array([0, 1])}
    with pytest.raises(ValueError, match=message):
        Predictions("sgd", 0, **{**fields, **changes})
