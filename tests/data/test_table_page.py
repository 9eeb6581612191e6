"""The commands of docs/how-to/your-data.md on tables and texts, run on real data."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pandas as pd
import pytest

from letsam.cli import run
from letsam.results import Results
from letsam.tasks import TaskError
from letsam.tasks.movie_snippets import parse_ratings, read_table
from page_code import commands_of, run_code, section_of

PAGE = "docs/how-to/your-data.md"


def commands(title: str) -> list[list[str]]:
    return commands_of(section_of(PAGE, title))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("report"))


def finished(command: list[str], *, epochs: int) -> Results:
    """The results of a trial of the page, with fewer epochs and one seed."""
    assert run([*command, "--epochs", str(epochs), "--seeds", "1", "--no-refit"]) == 0
    return Results.load(Path(command[command.index("--out") + 1]) / "results.json")


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", section_of(PAGE, "Tables"), re.S)
    run_code(code, PAGE, {})
    cancer, diabetes, exercise, train, predict = commands("Tables")

    found = finished(cancer, epochs=3)
    shown = capsys.readouterr().out
    assert re.search(r"task +classification of target, told from its values", shown)
    assert re.search(r"classes +2: 0 \d+, 1 \d+", shown)
    assert dict(found.inferred)["data"] == "cancer.csv: 569 rows, 31 columns"
    assert (found.title, found.metric) == ("cancer", "accuracy")
    assert max(one.test_accuracy for one in found.runs) > 0.9
    assert all(one.metrics["AUROC"] > 0.95 for one in found.runs)

    found = finished(diabetes, epochs=15)
    assert (found.title, found.metric, found.lower_is_better) == ("diabetes", "R2", False)
    assert max(one.test_accuracy for one in found.runs) > 0.3
    assert 40 < found.runs[0].metrics["RMSE"] < 90
    assert re.search(r"sgd +0\.\d\d\d", capsys.readouterr().out)

    found = finished(exercise, epochs=2)  # 20 rows, three numbers to predict
    assert (found.metric, found.lower_is_better) == ("RMSE", True)
    assert "16 for training, 4 for the test" in dict(found.inferred)["rows"]

    assert run([*train, "--epochs", "5"]) == 0
    assert run(predict) == 0
    rows = list(csv.DictReader(Path("predictions.csv").read_text(encoding="utf-8").splitlines()))
    truth = pd.read_csv("cancer.csv")["target"].astype(str).tolist()
    assert len(rows) == 569
    assert sum(row["prediction"] == target for row, target in zip(rows, truth, strict=True)) > 500


@pytest.mark.data
def test_texts() -> None:
    try:
        texts, ratings = parse_ratings(read_table())
    except TaskError as error:
        pytest.skip(str(error))
    frame = pd.DataFrame({"review": texts, "rating": ratings.tolist()})
    frame["sentiment"] = ["good" if rating > 0 else "bad" for rating in frame["rating"]]
    frame.sample(300, random_state=0).to_csv("reviews.csv", index=False)
    reviews, scores = commands("Texts")

    found = finished(reviews, epochs=1)  # what a transformer learns of texts is tested with easier ones
    assert dict(found.inferred)["classes"].startswith("2: bad ")
    assert all(0 < one.metrics["AUROC"] < 1 for one in found.runs)
    assert "cut after" in dict(found.inferred)["texts"]
    found = finished(scores, epochs=1)
    assert (found.metric, found.lower_is_better) == ("Spearman", False)
