"""Folders of recordings: one folder for each class, or a table `metadata.csv`."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from letsam.data.data_options import DataOptions
from letsam.data.data_parts import DataPart, DataParts, fits_in_memory, looked_at, parts_of_folder
from letsam.data.known_form import KnownForm
from letsam.data.labelled_files import WantedFiles, unlabelled_files
from letsam.data.loaded import LoadedData
from letsam.data.preparation import Preparation
from letsam.data.recordings import (
    SUFFIXES,
    Heard,
    Recordings,
    SoundFormat,
    SoundReader,
    hear,
    scaled_sound,
)
from letsam.data.threads import in_threads
from letsam.tasks.subset import evenly_spaced

WANTED = WantedFiles(SUFFIXES, "recordings")
HIGHEST_RATE = 16000  # of speech models
LONGEST = 10.0  # seconds
MEASURED = 1000  # recordings that mean and standard deviation are taken from


class AudioPreparation(Preparation):
    """Decodes recordings, brings them to one form, and makes scaled log-mel spectrograms of them.

    Args:
        form: of the recordings.
        filters: of the spectrograms.
        mean: of the spectrograms.
        std: of the spectrograms.
        classes: names of the classes or labels.
    """

    modality = "audio"

    def __init__(
        self, form: SoundFormat, filters: Tensor, mean: float, std: float, classes: tuple[str, ...] = ()
    ) -> None:
        self.form, self.filters, self.mean, self.std, self.classes = form, filters, mean, std, classes

    def values(self) -> dict[str, Any]:
        """The form, and mean and standard deviation."""
        return {"form": dataclasses.asdict(self.form), "mean": self.mean, "std": self.std}

    def tensors(self) -> dict[str, Tensor]:
        """The mel filters, so that nothing but soundfile and scipy is needed to read recordings."""
        return {"filters": self.filters}

    @classmethod
    def restored(cls, values: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> AudioPreparation:
        """The preparation with these values."""
        return cls(SoundFormat(**values["form"]), tensors["filters"], values["mean"], values["std"])

    def read(self, path: str) -> Dataset[Any]:
        """The inputs of a recording, or of all in a folder and the folders in it, in the order of their names."""
        reader = SoundReader(*unlabelled_files(Path(path), WANTED), self.form, self.filters)
        return SoundInputs(reader, self.mean, self.std)


class SoundInputs(Dataset[Tensor]):
    """Inputs of recordings without targets.

    Args:
        read: the spectrogram of an index.
        mean: of the spectrograms.
        std: of the spectrograms.
    """

    def __init__(self, read: SoundReader, mean: float, std: float) -> None:
        self.names, self._read, self._mean, self._std = read.names, read, mean, std

    def __len__(self) -> int:
        """The number of recordings."""
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        """An input, shape ``(1, bands, times)``."""
        return scaled_sound(self._read(range(len(self))[index]), self._mean, self._std)


def read_recordings(options: DataOptions, known: KnownForm | None = None) -> LoadedData:
    """Read and prepare a folder of recordings.

    Raises:
        DataError: a file cannot be read, or has no label; there is one class alone; a test class is unknown.
    """
    options.refuse("recordings", "image_size", "augment", "pretrained")
    if known is not None:
        known.prepared_by(AudioPreparation, options.path)
    return load_sounds(looked_at(parts_of_folder(options, WANTED), hear, options, known), options, known)


def load_sounds(parts: DataParts[Heard], options: DataOptions, known: KnownForm | None = None) -> LoadedData:
    """Prepare recordings: what fits into `options.memory` is decoded now, the rest when it is read."""
    heard = [one for part in parts.known() for one in part.looks]
    fitted = None if known is None else known.prepared_by(AudioPreparation, options.path)
    form = _form(parts.train.looks, options) if fitted is None else fitted.form
    filters = form.filters() if fitted is None else fitted.filters
    reader = SoundReader(parts.train.files.contents, parts.train.files.names, form, filters)
    in_memory, reading = fits_in_memory(4 * len(heard) * math.prod(form.shape), options)
    stored = reader.all() if in_memory else None
    places = evenly_spaced(len(reader.names), MEASURED)
    if fitted is None:
        mean, std = _mean_and_deviation(in_threads(reader, places) if stored is None else stored[places])
    else:
        mean, std = fitted.mean, fitted.std
    sets = [_sounds(part, reader, mean, std, stored) for part in parts.known()]
    lengths = [one.seconds for one in heard]
    rates = Counter(one.sample_rate for one in heard)
    stereo = sum(one.channels > 1 for one in heard)
    rows = [
        ("recordings", f"{min(lengths):.2g} to {max(lengths):.2g} s, {_rates(rates)}"),
        ("channels", f"{stereo:,} of {len(heard):,} are averaged to one") if stereo else ("channels", "1"),
        ("length", f"{form.seconds:g} s: shorter ones are padded with silence, longer ones cut to their middle"),
        ("inputs", f"log-mel, {form.shape[1]} bands x {form.shape[2]} times, of {form.sample_rate:,} samples a second"),
        reading,
    ]
    return parts.loaded(
        name=Path(options.path).resolve().name,
        modality="audio",
        train=sets[0],
        test=sets[-1],
        validation=sets[1] if parts.validation is not None else None,
        preparation=AudioPreparation(form, reader.filters, mean, std, parts.labels.classes),
        input_shape=form.shape,
        inferred=rows,
    )


def _sounds(part: DataPart[Heard], reader: SoundReader, mean: float, std: float, stored: Tensor | None) -> Dataset[Any]:
    """The data set of a part; `stored` are the spectrograms of the training data, where they are kept in memory."""
    mine = reader.with_contents(part.files.contents, part.files.names)
    if stored is None:
        return Recordings(mine, part.targets, mean, std)
    found = stored if part.files.contents is reader.contents else mine.all()
    return TensorDataset(scaled_sound(found, mean, std), part.targets)


def _form(train: Sequence[Heard], options: DataOptions) -> SoundFormat:
    """The most common rate up to 16,000, and the length that 95% of the recordings have, up to 10 s."""
    rate = min(statistics.mode(one.sample_rate for one in train), HIGHEST_RATE)
    lengths = sorted(one.seconds for one in train)
    usual = lengths[math.ceil(0.95 * len(lengths)) - 1]
    return SoundFormat(options.sample_rate or rate, options.seconds or min(math.ceil(10 * usual) / 10, LONGEST))


def _mean_and_deviation(spectrograms: Iterable[Tensor]) -> tuple[float, float]:
    values = torch.stack([*spectrograms]).double()
    return float(values.mean()), max(float(values.std(unbiased=False)), 1e-6)


def _rates(rates: Counter[int]) -> str:
    """Sample rates and how many recordings have each."""
    if len(rates) == 1:
        return f"{next(iter(rates)):,} samples a second"
    return " and ".join(f"{rate:,} ({count:,})" for rate, count in rates.most_common(3)) + " samples a second"
