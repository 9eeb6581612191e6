"""Labelled files as training, validation and test data: what is broken, what the labels are, and what is held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from letsam.data.data_options import DataOptions
from letsam.data.known_form import KnownForm
from letsam.data.labelled_files import Content, LabelledFiles, WantedFiles, labelled_files, part_folders
from letsam.data.labels import Labels, shared_between
from letsam.data.loaded import LoadedData
from letsam.data.problems import DataError
from letsam.data.threads import in_threads
from letsam.validation import held_out_split

SPLIT_SEED = 0  # of the test data that are held out: they must not depend on the seed of a trial


class Looked(Protocol):
    """What is known of a file before it is prepared."""

    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def problem(self) -> str | None: ...  # noqa: D102


L = TypeVar("L", bound=Looked)


@dataclass(frozen=True)
class DataPart(Generic[L]):
    """The files of one part, all of which can be read.

    Args:
        files: the files.
        looks: what is known of each.
        targets: one for each.
    """

    files: LabelledFiles
    looks: list[L]
    targets: Tensor


@dataclass(frozen=True)
class DataParts(Generic[L]):
    """All parts of the data.

    Args:
        train: for training.
        test: for the results.
        validation: for learned radii, where the data have them; None: they are held out.
        labels: how targets are made.
        rows: of the table, about files and labels.
    """

    train: DataPart[L]
    test: DataPart[L]
    validation: DataPart[L] | None
    labels: Labels
    rows: list[tuple[str, str]]

    def known(self) -> list[DataPart[L]]:
        """The parts that there are."""
        return [part for part in (self.train, self.validation, self.test) if part is not None]

    def loaded(self, **fields: Any) -> LoadedData:
        """The data, with what is known of the labels filled in."""
        rows = (*self.rows, *fields.pop("inferred", ()))
        outputs = self.train.targets.shape[1] if self.train.targets.ndim > 1 else self.labels.outputs
        return LoadedData(
            kind=self.labels.kind,
            classes=self.labels.classes,
            outputs=outputs,
            train_names=tuple(self.train.files.names),
            test_names=tuple(self.test.files.names),
            groups=self.train.files.groups,
            times=self.train.files.times,
            inferred=rows,
            **fields,
        )


def fits_in_memory(size: int, options: DataOptions) -> tuple[bool, tuple[str, str]]:
    """Whether so many bytes of decoded files may be kept in memory, and what the table says about it."""
    fits = size <= options.memory * 2**30
    return fits, ("reading", "kept in memory" if fits else f"decoded when read: {size / 2**20:,.0f} MiB in all")


def parts_of_folder(options: DataOptions, wanted: WantedFiles) -> dict[str, LabelledFiles]:
    """The files of the parts that a folder has, and those of `options.test`."""
    options.refuse(wanted.what, "weight", "text", "drop")
    folders = part_folders(Path(options.path))
    if options.test is not None:
        folders["test"] = Path(options.test)
    wanted = dataclasses.replace(wanted, targets=options.targets, group=options.group, time=options.time)
    return {name: labelled_files(folder, wanted) for name, folder in folders.items()}


def looked_at(
    found: Mapping[str, LabelledFiles],
    look: Callable[[Content], L],
    options: DataOptions,
    known: KnownForm | None = None,
) -> DataParts[L]:
    """Read all files once, make targets of the labels, and hold out test data where there are none.

    Args:
        found: the files of "train", and of "test" and "validation" where there are any.
        look: reads a file.
        options: what the user says.
        known: how targets are made; None: this is told from the labels of the training data.

    Raises:
        DataError: a file cannot be read; a label is missing; there is one class alone; a class is unknown.
    """
    rows: list[tuple[str, str]] = []
    files: dict[str, LabelledFiles] = {}
    looks: dict[str, list[L]] = {}
    for name, part in found.items():
        files[name], looks[name], skipped = _readable(part, look, options)
        rows += [*part.rows(), *skipped]
    train = files["train"]
    labels = known.labels if known else Labels.of(train.labels, options.kind, train.place, train.columns)
    targets = {name: labels.targets(part.labels, part.place) for name, part in files.items()}
    parts = {name: DataPart(files[name], looks[name], targets[name]) for name in files}
    return divided_parts(parts, labels, options, rows)


def divided_parts(
    parts: dict[str, DataPart[L]], labels: Labels, options: DataOptions, rows: Sequence[tuple[str, str]] = ()
) -> DataParts[L]:
    """Hold out test data where there are none, and fill in the rows of the table; `rows` come last."""
    said: list[tuple[str, str]] = []
    if "test" in parts:
        known = {look.digest for look in parts["train"].looks}
        if all(look.digest in known for look in parts["test"].looks):
            raise DataError(
                f"{parts['test'].files.place}: expected test samples that are no training samples, got "
                f"{len(parts['test'].looks)} that are all in the training data as well"
            )
    else:
        parts["train"], parts["test"] = _divided(parts["train"], labels, options)
        said.append(("test data", _split_text(options)))
    for name in ("test", "validation"):
        if name in parts:
            known, held = ([look.digest for look in parts[one].looks] for one in ("train", name))
            said += shared_between(known, held, name)
    said = [*labels.rows(parts["train"].targets, parts["test"].targets), *said, *rows]
    return DataParts(parts["train"], parts["test"], parts.get("validation"), labels, said)


def _readable(
    files: LabelledFiles, look: Callable[[Content], L], options: DataOptions
) -> tuple[LabelledFiles, list[L], list[tuple[str, str]]]:
    """The files that can be read, what is known of each, and a row of the table about the others."""
    looks = list(in_threads(look, files.contents))
    broken = [i for i, one in enumerate(looks) if one.problem is not None]
    if not broken:
        return files, looks, []
    first = f"{files.place}: {files.names[broken[0]]} cannot be read: {looks[broken[0]].problem}"
    if not options.skip_broken:
        count = f" ({len(broken)} such files)" if len(broken) > 1 else ""
        raise DataError(f"{first}{count}; --skip-broken leaves such files out")
    bad = set(broken)
    kept = [i for i in range(len(looks)) if i not in bad]
    if not kept:
        raise DataError(f"{files.place}: expected a file that can be read, got none of {len(looks)}")
    names = ", ".join(files.names[i] for i in broken[:3]) + (", ..." if len(broken) > 3 else "")
    return files.select(kept), [looks[i] for i in kept], [("skipped", f"{len(broken)} broken files: {names}")]


def _divided(part: DataPart[L], labels: Labels, options: DataOptions) -> tuple[DataPart[L], DataPart[L]]:
    """Training and test data of one part. Without groups and times, a class with one sample stays in training."""
    files, targets = part.files, part.targets
    places = torch.arange(len(targets))
    divided = torch.ones(len(places), dtype=torch.bool)
    whole = files.groups is not None or files.times is not None
    if labels.kind == "classification" and not whole:
        divided = torch.bincount(targets)[targets] > 1
        if not divided.any():
            raise DataError(
                f"{files.place}: no class has more than one sample, so none can be held out for the test: at least one "
                "class must have two, or the test data must be in a folder of their own"
            )
    try:
        held = held_out_split(
            targets[divided],
            options.test_share,
            torch.Generator().manual_seed(SPLIT_SEED),
            kind=labels.kind,
            groups=files.groups,
            times=files.times,
            name="test_share",
        )[1]
    except ValueError as error:
        raise DataError(f"{files.place}: {error}") from error
    in_test = torch.zeros(len(places), dtype=torch.bool)
    in_test[places[divided][held]] = True
    gone = set(targets.tolist()) - set(targets[~in_test].tolist()) if labels.kind == "classification" else set[int]()
    if gone:
        raise DataError(
            f"{files.place}: the split ({_split_text(options)}) leaves no training sample of the class "
            f"{labels.classes[min(gone)]}"
        )
    return _selected(part, places[~in_test]), _selected(part, places[in_test])


def _selected(part: DataPart[L], places: Tensor) -> DataPart[L]:
    chosen = places.tolist()
    return DataPart(part.files.select(chosen), [part.looks[i] for i in chosen], part.targets[places])


def _split_text(options: DataOptions) -> str:
    text = f"{options.test_share:.0%} held out"
    if options.time is not None:
        return f"{text}, the latest by {options.time}"
    return text if options.group is None else f"{text}, groups of {options.group} kept whole"
