"""Tables that are handled with a word about it, or refused in one line before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from letsam.data import DataOptions, read_data
from letsam.tasks import targets_of


def frame(rows: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"x": rng.normal(size=rows), "g": np.arange(rows) // 5, "y": ["no", "yes"] * (rows // 2)})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    frame().to_csv("data.csv", index=False)
    return tmp_path


def check(message: str, path: str = "data.csv", **options: Any) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read_data(DataOptions(**{"path": path, "target": "y", **options}))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "^bad.csv: expected a table with a header and rows, got an empty file$"),
        (b"\n\n", "^bad.csv: expected a table with a header and rows, got an empty file$"),
        (b"x,y\n", "^bad.csv: expected a table with a header and rows, got no rows$"),
        (b"x,y\n1,2\n1,2,3,4\n", "^bad.csv: expected a table, which pandas can read: .* line 3"),
        (b"x,y\n\xff\xfe,1\n", "^bad.csv: expected UTF-8 text, got the byte 0xff$"),
        (b"x,x,y\n1,2,a\n3,4,b\n" * 1, "^bad.csv: .*"),
        (
            b"x,y\n" + b"1,a\n2,b\n" * 9 + b"?,a\n",
            "'x' mixes 18 numbers and 1 texts such as '\\?'; name those .* --missing",
        ),
        (b"x,y\n" + b"0.1,a\n0.1,b\n" * 9, r"expected at least one input column, got none \(x: constant\)"),
        (b"y\n" + b"a\nb\n" * 9, "expected at least one input column, got none$"),
        (b"x,y\n" + b"1,\n2,\n" * 9, "expected values in the target y, got none"),
        (b"x,y\n1.5,a\n", "expected at least 2 classes in 'y', got 'a' only"),
    ],
)
def test_files_that_cannot_be_used(content: bytes, message: str, place: Path) -> None:
    Path("bad.csv").write_bytes(content)
    if b"x,x" in content:  # pandas names the second x.1
        assert content.count(b"\n") == 3
        message = "expected classes that repeat|at least one input|must leave at least 1"
    check(message, "bad.csv")


def test_other_files(place: Path) -> None:
    Path("bad.parquet").write_bytes(b"no parquet")
    check("^bad.parquet: expected a table, which pandas can read: ", "bad.parquet")
    check("^missing.csv: expected a file or folder of data, but there is none$", "missing.csv")
    check("^missing.csv: expected a table, but there is no such file$", test="missing.csv")
    Path("data.xyz").touch()
    check("^data.xyz: expected a file with one of the suffixes .csv, .tsv, .parquet", "data.xyz")
    pd.DataFrame({"x": [[1, 2], [3]] * 20, "y": ["a", "b"] * 20}).to_parquet("nested.parquet")
    check("expected one value in each cell of 'x', got a .*; --drop it", "nested.parquet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": None}, "^data.csv: `target` must name the column to predict, one of its columns x, g, y$"),
        ({"target": "z"}, "^data.csv: `target` must name one of its columns x, g, y, got 'z'$"),
        ({"group": "z"}, "`group` must name one of its columns x, g, y, got 'z'"),
        ({"drop": ("z",)}, "`drop` must name one of its columns x, g, y, got 'z'"),
        ({"group": "y"}, "`group` must name another column than `target`, got 'y' for both"),
        ({"drop": ("y",)}, "`drop` must name another column than `target`, got 'y' for both"),
        ({"time": "y2"}, r"`time` must name one of its columns x, g, y, got 'y2', did you mean 'y'\?$"),
        ({"weight": "x"}, "`weight` must name a column of numbers >= 0, got '-.*' in 'x'"),
        ({"test_share": 0.001}, "`test_share` = 0.001 of 60 samples must leave at least 1"),
        ({"kind": "regression"}, "expected numbers in the target 'y', got 'no'"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str, place: Path) -> None:
    check(message, **options)


def test_columns_of_roles_with_missing_values(place: Path) -> None:
    table = frame().assign(t="2020-01-01", w=1.0)
    table.loc[3, ["g", "w"]] = None
    table.loc[4, "t"] = "soon"
    table.to_csv("data.csv", index=False)
    check("`group` must name a column without missing values, got 1 in 'g'", group="g")
    check("`time` must name a column of dates or numbers, got 'soon' in 't'", time="t")
    check("`weight` must name a column of numbers >= 0, got 'nan' in 'w'", weight="w")
    frame().assign(t=1).to_csv("data.csv", index=False)
    check("`test_share` = 0.2 needs at least 2 times to divide, got 1", time="t")


def test_missing_values(place: Path) -> None:
    table = frame().assign(q=["?", "1", "2", "3"] * 15)
    table.loc[:3, "y"] = None
    table.loc[4:9, "x"] = None
    table.to_csv("data.csv", index=False)
    data = read_data(DataOptions(path="data.csv", target="y", missing=("?",)))
    told = dict(data.inferred)
    assert told["rows without a target"] == "4 of data.csv, left out"
    assert told["missing in training rows"].startswith("x ")
    assert ", q " in told["missing in training rows"]
    assert len(targets_of(data.train)) + len(targets_of(data.test)) == 56
    inputs = [sample for part in (data.train, data.test) for sample, _ in part]  # type: ignore[attr-defined]
    assert all(bool(one.isfinite().all()) for one in inputs)


def test_a_class_of_the_test_file_alone(place: Path) -> None:
    frame(20).assign(y=["no", "maybe"] * 10).to_csv("test.csv", index=False)
    check("^test.csv: its 'y' has the class 'maybe', which no training row has; leave out such rows$", test="test.csv")
    rows = frame().assign(y=["no"] * 20 + ["yes"] * 20 + ["new"] * 20, t=range(60))
    rows.to_csv("data.csv", index=False)
    check("all rows of the class 'new' are in the test data, because of --group or --time", time="t", test_share=1 / 3)


def test_test_data_that_are_trained_on(place: Path) -> None:
    check("^data.csv: expected test data that are not trained on, but it is the training data itself$", test="data.csv")
    frame().sample(frac=0.5, random_state=1).to_csv("half.csv", index=False)
    check("^half.csv: expected test data .* but it has only rows that data.csv has as well$", test="half.csv")
    other = frame().assign(x=lambda table: table["x"] + 100)
    pd.concat([frame().iloc[:7], other.iloc[:13]]).to_csv("some.csv", index=False)
    told = dict(read_data(DataOptions(path="data.csv", target="y", test="some.csv")).inferred)
    assert told["test rows that equal a training row"] == "7 of 20; they do not tell about new data"
    assert told["test data"] == "some.csv: 20 rows"
    check("^some.csv: expected groups that data.csv does not have, got '0' of 'g' in both", test="some.csv", group="g")
    other.drop(columns="y").to_csv("blind.csv", index=False)
    check("^blind.csv: `target` must name one of its columns x, g, got 'y'$", test="blind.csv")


def test_few_rows(place: Path) -> None:
    frame(20).to_csv("data.csv", index=False)
    data = read_data(DataOptions(path="data.csv", target="y"))
    assert (
        dict(data.inferred)["rows"]
        == "16 for training, 4 for the test, so few that the numbers of single seeds say little"
    )
    assert targets_of(data.test).bincount().tolist() == [2, 2]


def test_labels_from_one_and_text_labels_are_classes(place: Path) -> None:
    frame().assign(y=[1, 2, 3] * 20).to_csv("data.csv", index=False)
    data = read_data(DataOptions(path="data.csv", target="y"))
    assert data.classes == ("1", "2", "3")
    assert sorted(targets_of(data.train).unique().tolist()) == [0, 1, 2]
