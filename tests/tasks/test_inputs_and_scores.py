"""Inputs in parts, batches and scores of a task's own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import training_cases
from letsam.results import Results
from letsam.tasks import (
    Task,
)
from training_cases import TEST, TRAIN, finish, same, start, weights, without_seconds

# A task whose inputs are a dict or a tuple


class Parts(Dataset[tuple[Any, Tensor]]):
    """The blobs of the training tests with their inputs in two parts."""

    def __init__(self, data: Any, kind: type) -> None:
        self.data, self.kind = data, kind

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        inputs, target = self.data[index]
        return ({"id": inputs[:1], "rest": inputs[1:]} if self.kind is dict else (inputs[:1], inputs[1:])), target


class Joined(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Any) -> Tensor:
        parts = inputs.values() if isinstance(inputs, dict) else inputs
        return self.network(torch.cat(list(parts), dim=1))


def in_parts(kind: type, **options: Any) -> Task:
    task = training_cases.task(**options)
    return dataclasses.replace(
        task, train=Parts(TRAIN, kind), test=Parts(TEST, kind), model=lambda: Joined(task.model())
    )


@pytest.mark.parametrize("kind", [dict, tuple])
@pytest.mark.parametrize("method", ["sgd", "lets-sam"])
def test_inputs_in_parts_train_like_one_tensor(kind: type, method: str) -> None:
    whole = finish(start(training_cases.task(dropout=0.3), method, label_noise=0.2))
    parts = finish(start(in_parts(kind, dropout=0.3), method, label_noise=0.2))

    assert torch.equal(weights(parts), weights(whole))
    assert same(without_seconds(parts.result()), without_seconds(whole.result()))


def test_collate_makes_every_batch() -> None:
    sizes: list[int] = []

    def collate(samples: list[Any]) -> tuple[Tensor, Tensor]:
        sizes.append(len(samples))
        inputs, targets = zip(*samples, strict=True)
        return torch.stack(inputs), torch.stack(targets)

    task = training_cases.task()
    run = finish(start(dataclasses.replace(task, collate=collate, evaluation_batch=50, evaluations=1), "lets-sam"))

    assert torch.equal(weights(run), weights(finish(start(task, "lets-sam"))))
    assert sizes == [8, 6] * 18 + [50, 4, 45, 6]  # training and validation in turn; then the three splits


def test_a_score_takes_the_place_of_the_metric() -> None:
    seen: list[tuple[bool, bool, int]] = []

    def score(model: nn.Module, dataset: Dataset[Any]) -> float:
        seen.append((model.training, torch.is_grad_enabled(), len(dataset)))  # type: ignore[arg-type]
        torch.rand(3)  # as sampling would
        return 0.25 * len(seen)

    plain = training_cases.task(dropout=0.5, epochs=4)
    scored = dataclasses.replace(plain, score=score, metric_name="BLEU", evaluations=2)
    run = finish(start(scored, "lets-sam"))
    record = run.result()

    assert seen == [(False, False, 45)] * 2
    assert record.history["test_accuracy"] == [0.25, 0.5]
    assert (record.test_accuracy, record.metric) == (0.5, "BLEU")
    assert run.model.training
    assert torch.equal(weights(run), weights(finish(start(plain, "lets-sam"))))


def test_a_score_that_is_no_number() -> None:
    run = start(dataclasses.replace(training_cases.task(), score=lambda model, data: "good"), "sgd")  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match=r"^`score` must be a number, got 'good'$"):
        finish(run)


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("score", 3, TypeError, "`score` must be a function or None, got 3"),
        ("collate", "pad", TypeError, "`collate` must be a function or None, got 'pad'"),
        ("first_samples", 3, TypeError, "`first_samples` must be a function or None, got 3"),
        ("metric_name", " ", ValueError, "`metric_name` must be a non-empty string, got an empty one"),
        ("metric_name", 1, TypeError, "`metric_name` must be a string, got 1"),
        ("evaluations", 0, ValueError, "`evaluations` must be a whole number >= 1, got 0"),
        ("evaluation_batch", 0, ValueError, "`evaluation_batch` must be a whole number >= 1, got 0"),
    ],
)
def test_fields_that_are_wrong(field: str, value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        training_cases.task(**{field: value})


def test_the_name_of_the_metric_is_saved_and_old_files_load(tmp_path: Path) -> None:
    record = finish(start(training_cases.task(metric_name="F1"), "sgd")).result()
    path = tmp_path / "results.json"
    Results("blobs", {}, {}, (record,)).save(path)
    assert Results.load(path).metric == "F1"

    old = json.loads(path.read_text())
    del old["runs"][0]["metric"]
    path.write_text(json.dumps(old))
    assert Results.load(path).metric == Results("blobs", {}, {}).metric == "accuracy"
    old["runs"][0]["metric"] = 3
    path.write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r"expected runs\[0\].metric to be a string, got 3$"):
        Results.load(path)
