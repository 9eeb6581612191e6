"""Tables: what is inferred of columns, inputs against scikit-learn, and the same inputs after saving."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import TensorDataset

from letsam.data import DataError, DataOptions, LoadedData, load_preparation, read_data
from letsam.data.columns import categories_in, column_transformer, kind_of_column, numbers_in, tell_columns
from letsam.data.tables import TablePreparation
from letsam.tasks.weighted import WeightedRows, WeightedTarget

ROWS = 200


def mixed_frame(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """Columns of all kinds, some with missing values."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, rows),
            "income": np.where(rng.random(rows) < 0.2, np.nan, rng.lognormal(10, 1, rows)),
            "member": rng.random(rows) < 0.5,
            "smoker": [None if v < 0.1 else bool(v < 0.5) for v in rng.random(rows)],
            "since": pd.to_datetime("2019-12-30") + pd.to_timedelta(rng.integers(0, 2000, rows), unit="D"),
            "city": rng.choice(["Ulm", "Rome", "Oslo"], rows),
            "plan": [None if v < 0.1 else f"p{int(v * 8)}" for v in rng.random(rows)],
            "code": rng.choice(["1", "2", "x", "y", "z", "w"], rows),
            "fixed": "same",
            "nothing": np.nan,
            "number": np.arange(1, rows + 1),
            "key": [f"k{i:05}" for i in rng.permutation(rows)],
            "remark": [f"remark {i} about thing {i % 7}" for i in range(rows)],
        }
    )
    frame.loc[0, "city"] = "Atlantis"  # rare
    frame["label"] = np.where(frame["age"] > 50, "old", "young")
    return frame


@pytest.fixture
def mixed(tmp_path: Path) -> DataOptions:
    path = tmp_path / "mixed.csv"
    mixed_frame().to_csv(path, index=False)
    return DataOptions(path=str(path), target="label")


def tensors(data: LoadedData) -> tuple[torch.Tensor, ...]:
    assert isinstance(data.train, TensorDataset)
    assert isinstance(data.test, TensorDataset)
    return (*data.train.tensors, *data.test.tensors)


def test_kinds_of_columns(mixed: DataOptions) -> None:
    data = read_data(mixed)
    assert isinstance(data.preparation, TablePreparation)
    columns = data.preparation.columns
    assert columns.numbers == ("age", "income", "member", "smoker")
    assert columns.dates == ("since",)
    assert columns.categories == ("city", "plan", "code")
    assert columns.left_out == {
        "fixed": "constant",
        "nothing": "empty",
        "number": "unique to each row",
        "key": "unique to each row",
        "remark": "sentences",
    }
    told = dict(data.inferred)
    assert told["classes"].startswith("2: old ")
    assert told["columns left out"].startswith("fixed (constant), nothing (empty), number (unique to each row), key")
    assert "income" in told["missing in training rows"]
    assert told["inputs of a row"] == str(data.input_shape[0])
    assert (data.modality, data.kind, data.classes, data.outputs) == ("table", "classification", ("old", "young"), 2)


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        (range(10_000, 10_100), "unique to each row"),
        (range(10_000, 10_400, 4), "number"),  # every fourth one: more than rows that were removed
        ([n for n in range(400) if n % 17 not in (3, 5)], "unique to each row"),  # rows were removed
        ([n for n in range(40) if n % 17 not in (3, 5)], "number"),  # few, such as ages of a small group
        ([*range(99), 5000], "number"),
        ([*range(99), 7], "number"),
    ],
)
def test_numbers_of_rows_may_have_gaps(numbers: Sequence[int], kind: str) -> None:
    column = pd.Series(list(numbers)).sample(frac=1, random_state=0)
    assert kind_of_column(column, "id", "x.csv") == kind


def test_each_column_is_looked_at_once(mixed: DataOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def counted(column: pd.Series, name: str, path: str) -> str:
        seen.append(name)
        return kind_of_column(column, name, path)

    for module in ("columns", "divided"):
        monkeypatch.setattr(f"letsam.data.{module}.kind_of_column", counted)
    read_data(mixed)
    assert sorted(seen) == sorted(set(mixed_frame().columns) - {"label"})


def test_inputs_are_those_of_scikit_learn(mixed: DataOptions) -> None:
    frame, path = mixed_frame().drop(columns="label"), "mixed.csv"
    columns = tell_columns(frame, path)
    train, test = frame.iloc[:150].reset_index(drop=True), frame.iloc[150:].reset_index(drop=True)
    test.loc[0, "city"], test.loc[1, "plan"] = "Paris", "unknown"
    preparation, made = TablePreparation.fitted(train, columns, mixed)

    numbers, categories = numbers_in(train, columns, path), categories_in(train, columns)
    fitted = column_transformer(list(numbers), list(categories), len(train)).fit(
        pd.concat([numbers, categories], axis=1)
    )
    for part in (train, test):
        both = pd.concat([numbers_in(part, columns, path), categories_in(part, columns)], axis=1)
        expected = torch.from_numpy(fitted.transform(both)).float()
        assert preparation.inputs(part, path).equal(expected)
    assert preparation.inputs(train, path).equal(made)
    inputs = preparation.inputs(train, path)
    assert bool(inputs.isfinite().all())
    assert inputs[:, 0].mean().item() == pytest.approx(0, abs=1e-6)
    assert inputs[:, 0].std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_a_saved_preparation_gives_the_same_inputs_bit_for_bit(mixed: DataOptions, tmp_path: Path) -> None:
    data = read_data(mixed)
    data.preparation.save(tmp_path / "preparation")
    again = load_preparation(tmp_path / "preparation")
    assert again.classes == data.classes
    assert json.loads((tmp_path / "preparation" / "preparation.json").read_text())["modality"] == "table"

    new = mixed_frame(50, seed=1).drop(columns=["label", "remark"])  # no target, a column that is not needed lacks
    new.loc[0, "city"] = "Paris"
    new.to_csv(tmp_path / "new.csv", index=False)
    ours, theirs = (one.read(str(tmp_path / "new.csv")) for one in (data.preparation, again))
    assert len(ours) == 50  # type: ignore[arg-type]
    assert all(ours[i].equal(theirs[i]) for i in range(50))
    assert ours[0].shape == data.input_shape
    everything = data.preparation.read(mixed.path)
    rows = {tuple(everything[i].tolist()) for i in range(ROWS)}
    assert rows == {tuple(row) for part in (0, 2) for row in tensors(data)[part].tolist()}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".parquet"])
def test_formats_give_the_same_inputs(suffix: str, mixed: DataOptions, tmp_path: Path) -> None:
    frame, path = mixed_frame(), tmp_path / f"again{suffix}"
    if suffix == ".parquet":
        frame["smoker"], frame["city"] = frame["smoker"].astype("boolean"), frame["city"].astype("category")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    ours, theirs = read_data(DataOptions(path=str(path), target="label")), read_data(mixed)
    assert ours.name == "again"
    for a, b in zip(tensors(ours), tensors(theirs), strict=True):
        torch.testing.assert_close(a, b)


def test_a_semicolon_and_a_decimal_comma(tmp_path: Path) -> None:
    path = tmp_path / "german.csv"
    path.write_text("x;y\n" + "".join(f"{i % 7},5;{'ab'[i % 2]}\n" for i in range(60)), encoding="utf-8-sig")
    data = read_data(DataOptions(path=str(path), target="y"))
    assert isinstance(data.preparation, TablePreparation)
    assert data.preparation.columns.numbers == ("x",)


def test_dates_in_text_are_dates(tmp_path: Path) -> None:
    path = tmp_path / "dates.csv"
    days = pd.date_range("2020-01-01", periods=60, freq="13D")
    pd.DataFrame({"day": [f"{d:%d/%m/%Y}" if d.day > 2 else None for d in days], "y": range(60)}).to_csv(
        path, index=False
    )
    data = read_data(DataOptions(path=str(path), target="y", kind="regression"))
    assert isinstance(data.preparation, TablePreparation)
    assert data.preparation.columns.dates == ("day",)
    assert [one.name for one in data.preparation.numbers][:2] == ["day (days)", "day (sine of year)"]


def test_groups_times_weights_and_dropped_columns_are_no_inputs(tmp_path: Path) -> None:
    frame = mixed_frame()[["age", "city", "plan", "label"]].assign(
        who=np.arange(ROWS) // 4, w=np.arange(ROWS) % 3, when=pd.date_range("2020-01-01", periods=ROWS).astype(str)
    )
    path = tmp_path / "data.csv"
    frame.sample(frac=1, random_state=0).to_csv(path, index=False)
    options: dict[str, Any] = {"path": str(path), "target": "label", "weight": "w", "drop": ("plan",)}

    data = read_data(DataOptions(**options, group="who", time="when"))
    assert isinstance(data.preparation, TablePreparation)
    assert data.preparation.columns.numbers == ("age",)
    assert data.preparation.columns.categories == ("city",)
    assert data.groups is not None
    assert data.times is not None
    assert data.weights is not None
    assert len(data.times) == len(data.groups) == len(data.weights) == len(data.train) == 160  # type: ignore[arg-type]
    assert data.groups.unique(return_counts=True)[1].tolist() == [4] * 40
    assert isinstance(data.train, WeightedRows)
    assert isinstance(data.test, WeightedRows)
    target = data.train[3][1]
    assert isinstance(target, WeightedTarget)
    assert float(target.weight) == pytest.approx(float(data.weights[3] / data.weights.mean()))
    told = dict(data.inferred)
    assert told["test data"] == "20 % of the rows, the latest by when, whole groups of who"

    alone = read_data(DataOptions(**options, time="when", test_share=0.3))
    assert alone.times is not None
    assert float(alone.times.max()) < pd.Timestamp(frame["when"].iloc[140], tz="UTC").value / 1000


def test_new_files_that_lack_something(mixed: DataOptions, tmp_path: Path) -> None:
    preparation = read_data(mixed).preparation
    path = tmp_path / "new.csv"
    mixed_frame(20).drop(columns="age").to_csv(path, index=False)
    with pytest.raises(
        DataError, match=r"new.csv: expected the columns of the training data, got none of the name 'age'$"
    ):
        preparation.read(str(path))
    mixed_frame(20).assign(age="old").to_csv(path, index=False)
    with pytest.raises(DataError, match=r"new.csv: expected numbers in 'age', got 'old'$"):
        preparation.read(str(path))
    mixed_frame(20).assign(since="later").to_csv(path, index=False)
    with pytest.raises(DataError, match=r"new.csv: expected dates in 'since', got 'later'$"):
        preparation.read(str(path))


def test_numbers_far_outside_stay_finite(tmp_path: Path) -> None:
    path = tmp_path / "far.csv"
    pd.DataFrame({"x": [1.0, 2.0] * 30, "y": ["a", "b"] * 30}).to_csv(path, index=False)
    preparation = read_data(DataOptions(path=str(path), target="y")).preparation
    (tmp_path / "new.csv").write_text("x\n1e300\n-inf\n\n2\n")
    rows = preparation.read(str(tmp_path / "new.csv"))
    assert [round(float(rows[i][0]), 3) for i in range(3)] == [1e6, 0.0, 1.0]  # infinite is missing: the median
