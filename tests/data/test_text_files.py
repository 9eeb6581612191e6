"""Tables with texts: tokens, padding, what is told and refused, and the same tokens after saving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from letsam.data import DataError, DataOptions, data_task, load_preparation, read_data
from letsam.data.text_files import PaddedTexts, TextRows
from letsam.models import ModelOptions
from letsam.tasks import targets_of
from letsam.tasks.weighted import WeightedTarget
from letsam.training.data_record import DataRecord
from letsam.training.loop import Training
from letsam.training.methods import Method
from training_cases import config, fabric, finish

GOOD, BAD = ["wonderful", "a joy", "warm and funny"], ["dreadful", "a bore", "cold and dull"]


def reviews(rows: int = 120) -> pd.DataFrame:
    texts = [f"{(GOOD if i % 2 else BAD)[i // 2 % 3]} film number {i % 17}, seen twice" for i in range(rows)]
    return pd.DataFrame({"review": texts, "stars": [i % 2 for i in range(rows)], "n": range(rows), "w": 2.0})


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    reviews().to_csv(tmp_path / "reviews.csv", index=False)
    return DataOptions(path=str(tmp_path / "reviews.csv"), target="stars", text="review")


def test_texts_are_told_and_tokenized(options: DataOptions) -> None:
    data = read_data(options)
    assert (data.name, data.modality, data.kind, data.outputs) == ("reviews", "text", "classification", 2)
    told = dict(data.inferred)
    assert told["texts"].startswith("review: ")
    assert told["columns left out"] == "n, w"
    assert data.vocabulary > 20
    assert data.input_shape[0] >= 8
    inputs, target = data.train[0]
    assert inputs["input_ids"].dtype == torch.int64
    assert inputs["attention_mask"].tolist() == [1] * len(inputs["input_ids"])
    assert target in (0, 1)
    tokens = json.loads(data.preparation.tokenizer.to_str())["model"]["vocab"]  # type: ignore[attr-defined]
    assert "wonderful" in tokens


def test_training_texts_are_cut_as_new_ones(options: DataOptions) -> None:
    frame = reviews()
    frame.loc[::9, "review"] = frame.loc[::9, "review"] * 80
    frame.to_csv(options.path, index=False)
    data = read_data(options)
    known = {tuple(row["input_ids"].tolist()) for row in data.preparation.read(options.path)}  # type: ignore[attr-defined]
    found = [data.train[i][0]["input_ids"] for i in range(len(data.train))]  # type: ignore[arg-type]
    assert {tuple(ids.tolist()) for ids in found} <= known
    assert max(map(len, found)) == data.input_shape[0] == 256


def test_results_know_other_texts_with_the_same_targets(options: DataOptions) -> None:
    def record(texts: pd.DataFrame) -> DataRecord:
        texts.to_csv(options.path, index=False)
        return DataRecord.of(data_task(options, ModelOptions()))

    first = record(reviews())
    assert record(reviews()).difference(first.as_json()) is None
    changed = reviews()
    changed.loc[:50, "review"] = changed.loc[:50, "review"].str.replace("film", "twice")
    assert record(changed).difference(first.as_json()) is not None


def test_batches_are_padded_to_their_longest_text() -> None:
    rows = TextRows([torch.tensor([5]), torch.tensor([6, 7, 8])], torch.tensor([0, 1]))
    inputs, targets = PaddedTexts(pad_id=9)([rows[0], rows[1]])
    assert inputs["input_ids"].tolist() == [[5, 9, 9], [6, 7, 8]]
    assert inputs["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert targets.tolist() == [0, 1]


@pytest.mark.parametrize("changes", [{}, {"weight": "w"}])
def test_a_small_transformer_learns_them(changes: dict[str, Any], options: DataOptions, tmp_path: Path) -> None:
    task = data_task(DataOptions(**{**options.as_json(), "drop": (), "missing": (), **changes}), ModelOptions())
    assert task.preparation.modality == "text"
    if "weight" in changes:
        assert isinstance(task.train[0][1], WeightedTarget)
    run = finish(Training(task, Method.parse("sam"), 0, config(epochs=6, batch_size=16), fabric()))
    assert run.result().metrics["accuracy"] > 0.9


def test_a_saved_preparation_gives_the_same_tokens(options: DataOptions, tmp_path: Path) -> None:
    data = read_data(options)
    data.preparation.save(tmp_path / "preparation")
    assert {path.name for path in (tmp_path / "preparation").iterdir()} == {"preparation.json", "tokenizer.json"}
    again = load_preparation(tmp_path / "preparation")
    pd.DataFrame({"review": ["a wonderful joy", "", "unheard-of Wörter " * 40, None]}).to_csv(tmp_path / "new.csv")
    ours, theirs = (one.read(str(tmp_path / "new.csv")) for one in (data.preparation, again))
    for i in range(4):
        assert ours[i]["input_ids"].equal(theirs[i]["input_ids"])
        assert 1 <= len(ours[i]["input_ids"]) <= data.input_shape[0]
    assert again.collate is not None
    batch = again.collate([theirs[i] for i in range(4)])
    assert batch["input_ids"].shape == (4, data.input_shape[0])
    model = data_task(options, ModelOptions()).model().eval()
    assert bool(model(batch).isfinite().all())
    pd.DataFrame({"text": ["a"]}).to_csv(tmp_path / "other.csv")
    with pytest.raises(DataError, match=r"other.csv: expected the column of texts 'review' of the training data"):
        again.read(str(tmp_path / "other.csv"))


def test_texts_that_cannot_be_used(options: DataOptions, tmp_path: Path) -> None:
    def check(message: str, frame: pd.DataFrame, **changes: Any) -> None:
        frame.to_csv(tmp_path / "bad.csv", index=False)
        with pytest.raises(ValueError, match=message) as raised:
            read_data(
                DataOptions(**{"path": str(tmp_path / "bad.csv"), "target": "stars", "text": "review", **changes})
            )
        assert "\n" not in str(raised.value)

    numbers = reviews().assign(review=[f"{i}.5" for i in range(120)])
    check(r"`text` must name a column of texts, got numbers such as .* in 'review'; without --text it is", numbers)
    check("`text` must name a column of texts, got 'review' without any", reviews().assign(review=None))
    check("`text` must name one of its columns review, stars, n, w, got 'body'", reviews(), text="body")
    check("`text` must name another column than `target`, got 'stars' for both", reviews(), text="stars")
    reviews(40).assign(n=0).to_csv(tmp_path / "test.csv", index=False)
    check("test.csv: expected test data that are not trained on, but", reviews(), test=str(tmp_path / "test.csv"))


def test_labels_and_numbers_are_targets_of_texts_as_well(tmp_path: Path) -> None:
    frame = reviews().assign(score=[i % 29 / 3 for i in range(120)], tags=["warm|long", "long", "warm"] * 40)
    frame.to_csv(tmp_path / "reviews.csv", index=False)
    path = str(tmp_path / "reviews.csv")
    numbers = read_data(DataOptions(path=path, target="score", text="review"))
    assert (numbers.kind, numbers.outputs) == ("regression", 1)
    labels = read_data(DataOptions(path=path, target="tags", text="review"))
    assert (labels.kind, labels.classes) == ("multilabel", ("long", "warm"))
    assert targets_of(labels.train).shape == (96, 2)
