"""Targets of tables: told apart as classes, labels and numbers; loss, metric and model that follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from letsam.data import DataError, DataOptions, data_task, read_data
from letsam.data.loss_by_kind import KindLoss
from letsam.data.targets import plan_targets
from letsam.models import ModelOptions, rebuild
from letsam.tasks import Task, targets_of

ABC = ["a", "b", "c", "a", "b", "c"] * 10


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        (ABC, "classification", ("a", "b", "c")),
        ([True, False] * 30, "classification", ("False", "True")),
        ([1, 2, 3] * 20, "classification", ("1", "2", "3")),
        ([1.0, 2.0, 10.0] * 20, "classification", ("1", "2", "10")),
        (["10", "9", "x"] * 20, "classification", ("10", "9", "x")),
        ([0.5, 1.5] * 30, "regression", ()),
        (list(range(60)), "regression", ()),
        ([0, 1] * 10, "classification", ("0", "1")),
        (["red|round", "red", "blue|round"] * 20, "multilabel", ("blue", "red", "round")),
        (["x; y", "y", "x"] * 20, "multilabel", ("x", "y")),
        (["a|b"] * 30 + ["c"] * 30, "classification", ("a|b", "c")),  # the mark divides nothing
    ],
)
def test_kinds_are_told_from_the_values(values: list[Any], kind: str, classes: tuple[str, ...]) -> None:
    plan = plan_targets(pd.DataFrame({"y": values}), ("y",), None, "file.csv")
    assert (plan.kind, plan.classes) == (kind, classes)


def test_kinds_that_the_user_says() -> None:
    def plan(values: list[Any], kind: str) -> Any:
        return plan_targets(pd.DataFrame({"y": values}), ("y",), kind, "file.csv")

    assert plan([1, 2, 3] * 20, "regression").kind == "regression"
    assert plan([0.5, 1.5] * 30, "classification").classes == ("0.5", "1.5")
    assert plan(["a, b", "b", "a"] * 20, "multilabel").classes == ("a", "b")


def test_encoded_targets() -> None:
    frame = pd.DataFrame(
        {
            "c": [2, 1, 2, 3] * 5,
            "l": ["a|b", "b", "", "a"] * 5,
            "p": [1, 0, 0, 1] * 5,
            "q": [True, True, False, True] * 5,
        }
    )
    frame["v"] = frame.index * 0.5
    plan = plan_targets(frame, ("c",), None, "f")
    assert plan.encode(frame, "f")[:4].tolist() == [1, 0, 1, 2]
    plan = plan_targets(frame, ("l",), "multilabel", "f")
    assert plan.encode(frame, "f")[:4].tolist() == [[1, 1], [0, 1], [0, 0], [1, 0]]
    plan = plan_targets(frame, ("p", "q"), None, "f")
    assert (plan.kind, plan.classes, plan.outputs) == ("multilabel", ("p", "q"), 2)
    assert plan.encode(frame, "f")[:4].tolist() == [[1, 1], [0, 1], [0, 0], [1, 1]]
    plan = plan_targets(frame, ("v", "c"), None, "f")
    assert (plan.kind, plan.outputs) == ("regression", 2)
    assert plan.encode(frame, "f")[1].tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("columns", "kind", "message"),
    [
        (("one",), None, "expected at least 2 classes in 'one', got 'a' only"),
        (("name",), None, "expected classes that repeat in 'name', got 60 different values in 60 rows; for numbers"),
        (("abc",), "regression", "expected numbers in the target 'abc', got 'a'; for classes, say --kind"),
        (("same",), "regression", "expected different values in the target 'same', got 3 only"),
        (("same",), None, "expected at least 2 classes in 'same', got '3' only"),
        (("abc",), "multilabel", r"expected cells with several labels in 'abc', such as red\|round, got none"),
        (("half", "abc"), None, "expected numbers in the target 'abc', got 'a'"),
        (("half", "abc"), "multilabel", "expected 0 and 1, true and false or yes and no in 'half', got '0.5'"),
        (("half", "half"), None, "`target` must not repeat a column"),
        (("abc", "one"), "classification", "`target` must be one column for classification"),
        (("huge",), None, "expected numbers that float32 can hold in the target 'huge'"),
        (("endless",), None, "expected numbers in the target 'endless', got 'inf'"),
    ],
)
def test_targets_that_cannot_be_used(columns: tuple[str, ...], kind: str | None, message: str) -> None:
    frame = pd.DataFrame({"abc": ABC, "one": "a", "name": [f"n{i}" for i in range(60)], "same": 3})
    frame = frame.assign(half=[0.5, 1.5] * 30, huge=[1e300, 1.5] * 30, endless=[0.5, float("inf")] * 30)
    with pytest.raises(DataError, match=message):
        plan_targets(frame, columns, kind, "file.csv")


def made(tmp_path: Path, frame: pd.DataFrame, **options: Any) -> Task:
    frame.to_csv(tmp_path / "data.csv", index=False)
    model = options.pop("model", ModelOptions())
    return data_task(DataOptions(path=str(tmp_path / "data.csv"), target="y", **options), model)


def table(rows: int = 120) -> pd.DataFrame:
    return pd.DataFrame({"x": [(7 * i % 11) + 0.5 for i in range(rows)], "z": [i % 5 for i in range(rows)]})


def test_numbers_are_predicted_in_their_units(tmp_path: Path) -> None:
    frame = table()
    task = made(tmp_path, frame.assign(y=1000.1 + 50 * frame["x"]))
    assert (task.kind, task.metric_name, task.lower_is_better, task.classes) == ("regression", "RMSE", True, ())
    targets = targets_of(task.train)
    mean, deviation = targets.double().mean(), targets.double().std(correction=0)
    torch.manual_seed(0)
    model = task.model()
    outputs = model(torch.zeros(300, 2)).detach()
    assert outputs.shape == (300, 1)
    assert abs(float(outputs.mean() - mean)) < 2 * float(deviation)
    predicting_the_mean = task.loss(torch.full((len(targets), 1), float(mean)), targets)
    assert float(predicting_the_mean) == pytest.approx(1, rel=1e-4)

    assert task.model_config is not None
    again = rebuild(task.model_config, tmp_path)
    again.load_state_dict(model.state_dict())
    assert again(torch.ones(4, 2)).equal(model(torch.ones(4, 2)))


def test_the_metric_of_classes_of_different_size_is_balanced(tmp_path: Path) -> None:
    frame = table(200).assign(y=["rare" if i in (5, 50, 150) else "usual" for i in range(200)])
    task = made(tmp_path, frame)
    assert task.metric_name == "balanced accuracy"
    assert "as the classes differ much in size" in dict(task.inferred)["metric"]
    assert targets_of(task.test).bincount().tolist() == [1, 39]
    assert targets_of(task.train).bincount().tolist() == [2, 158]
    assert made(tmp_path, frame, metric="accuracy").metric_name == "accuracy"
    assert made(tmp_path, table().assign(y=["a", "b"] * 60)).metric_name == "accuracy"
    with pytest.raises(ValueError, match=r"`metric` must be one of accuracy, .* for classification, got 'R2'"):
        made(tmp_path, frame, metric="R2")


def test_balanced_classes_have_the_same_total_weight(tmp_path: Path) -> None:
    frame = table().assign(y=["a" if i % 6 else "b" for i in range(120)], w=[1.0 + i % 3 for i in range(120)])
    for options in ({}, {"weight": "w"}):
        task = made(tmp_path, frame, balance=True, **options)
        assert isinstance(task.loss, KindLoss)
        assert task.loss.class_weights is not None
        targets = targets_of(task.train)
        weights = getattr(task.train, "weights", torch.ones(len(targets)))
        total = torch.zeros(2).index_add_(0, targets, weights * torch.tensor(task.loss.class_weights)[targets])
        assert total.tolist() == pytest.approx([len(targets) / 2] * 2, rel=1e-4)
    with pytest.raises(DataError, match="`balance` must be given for classes, got a target for regression"):
        made(tmp_path, frame.assign(y=frame["x"]), balance=True)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_a_class_with_one_row_is_trained_on(kind: str, tmp_path: Path) -> None:
    y: dict[str, list[Any]] = {
        "classification": ["a", "b", "a"] * 19 + ["b", "b", "only"],
        "multilabel": ["a|b", "b", "a"] * 19 + ["b", "b", "only"],
        "regression": list(range(60)),
    }
    table(60).assign(y=y[kind]).to_csv(tmp_path / "data.csv", index=False)
    data = read_data(DataOptions(path=str(tmp_path / "data.csv"), target="y"))
    assert data.kind == kind
    if kind == "classification":
        assert targets_of(data.train).bincount().tolist()[-1] == 1
        assert "only 1" in dict(data.inferred)["classes"]
