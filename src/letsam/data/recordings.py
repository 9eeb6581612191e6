"""Recordings as log-mel spectrograms: decoding with soundfile, resampling with scipy, and data sets of them."""

from __future__ import annotations

import dataclasses
import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from letsam.data.labelled_files import Content, read_content
from letsam.data.numbered import NumberedDataset
from letsam.data.problems import DataError
from letsam.data.threads import in_threads

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au")
INSTALL = '`pip install "letsam[audio]"`'
BANDS = 64  # of mel
WINDOW, HOP = 0.025, 0.01  # seconds
MOST_TIMES = 256  # of a spectrogram; in longer recordings they are farther apart than HOP
SILENCE = 1e-6  # added to the energy of each band before the logarithm


@dataclass(frozen=True)
class Heard:
    """What is known of a recording before it is used.

    Args:
        digest: of the file's bytes.
        seconds: its length.
        sample_rate: in samples a second.
        channels: 1 (mono), 2 (stereo) or more.
        problem: why it cannot be read; None: it can.
    """

    digest: str
    seconds: float = 0.0
    sample_rate: int = 0
    channels: int = 1
    problem: str | None = None


@dataclass(frozen=True)
class SoundFormat:
    """The form that all recordings are brought to: mono, one sample rate, one length.

    Args:
        sample_rate: in samples a second.
        seconds: shorter recordings are padded with silence at their end, longer ones cut to their middle.
    """

    sample_rate: int
    seconds: float

    @property
    def samples(self) -> int:
        """Samples in a recording."""
        return max(1, round(self.seconds * self.sample_rate))

    @property
    def hop(self) -> int:
        """Samples from one time of the spectrogram to the next."""
        return max(round(HOP * self.sample_rate), math.ceil(self.samples / MOST_TIMES))

    @property
    def window(self) -> int:
        """Samples that are transformed for each time: 25 ms, or two hops; a power of 2."""
        return 2 ** math.ceil(math.log2(max(WINDOW * self.sample_rate, 2 * self.hop)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a spectrogram: 1, bands, times."""
        return 1, BANDS, self.samples // self.hop + 1

    def filters(self) -> Tensor:
        """The mel filters of `transformers`, shape ``(frequencies, bands)``."""
        try:
            from transformers.audio_utils import mel_filter_bank
        except ImportError as error:
            raise DataError(f"recordings need the package transformers; install it with {INSTALL}") from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # at low sample rates some bands lie between two frequencies
            found = mel_filter_bank(self.window // 2 + 1, BANDS, 0.0, self.sample_rate / 2, self.sample_rate)
        return torch.from_numpy(found).float()


def hear(content: Content) -> Heard:
    """Decode a recording to see whether it can be, and what it is."""
    soundfile = import_soundfile()
    data, digest = read_content(content)
    if not data:
        return Heard(digest, problem="the file is empty")
    try:
        waves, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except Exception as error:
        return Heard(digest, problem=_sound_problem(error))
    if not len(waves):
        return Heard(digest, problem="it has no samples")
    if not torch.from_numpy(waves).isfinite().all():
        return Heard(digest, problem="it has samples that are not numbers")
    return Heard(digest, len(waves) / rate, int(rate), waves.shape[1])


def wave_of(content: Content, form: SoundFormat) -> Tensor:
    """Decode a recording: the mean of its channels, resampled, padded or cut.

    Returns:
        Samples in [-1, 1], float32, shape ``(samples,)``.
    """
    from scipy.signal import resample_poly

    source = io.BytesIO(content) if isinstance(content, bytes) else content
    waves, rate = import_soundfile().read(source, dtype="float32", always_2d=True)
    wave = waves.mean(axis=1)
    if rate != form.sample_rate:
        common = math.gcd(rate, form.sample_rate)
        wave = resample_poly(wave, form.sample_rate // common, rate // common)
    found = torch.from_numpy(wave).float()
    left = (len(found) - form.samples) // 2
    if left > 0:
        found = found[left : left + form.samples]
    return torch.nn.functional.pad(found[: form.samples], (0, max(0, form.samples - len(found))))


def log_mel(wave: Tensor, form: SoundFormat, filters: Tensor) -> Tensor:
    """The logarithm of the energy in each mel band at each time.

    Args:
        wave: shape ``(samples,)``.
        form: of the recording.
        filters: from `SoundFormat.filters`.

    Returns:
        Shape ``(1, bands, times)``, float32.
    """
    window = torch.hann_window(form.window)
    spectrum = torch.stft(wave, form.window, form.hop, window=window, pad_mode="constant", return_complex=True)
    return (filters.T @ spectrum.abs().square()).add_(SILENCE).log_()[None]


@dataclass(frozen=True)
class SoundReader:
    """Reads the spectrogram of an index; errors name the file.

    Args:
        contents: encoded recordings.
        names: of the recordings, for errors.
        form: of the recordings.
        filters: of the spectrograms.
    """

    contents: Sequence[Content]
    names: Sequence[str]
    form: SoundFormat
    filters: Tensor

    def __call__(self, index: int) -> Tensor:
        """The spectrogram.

        Raises:
            DataError: the file cannot be read; one line that names it.
        """
        try:
            return log_mel(wave_of(self.contents[index], self.form), self.form, self.filters)
        except Exception as error:
            raise DataError(f"{self.names[index]}: cannot be read as a recording ({_sound_problem(error)})") from error

    def all(self) -> Tensor:
        """All spectrograms in one tensor."""
        found = torch.empty((len(self.contents), *self.form.shape))
        for index, one in enumerate(in_threads(self, range(len(self.contents)))):
            found[index] = one
        return found

    def with_contents(self, contents: Sequence[Content], names: Sequence[str]) -> SoundReader:
        """The same for other recordings."""
        return dataclasses.replace(self, contents=contents, names=names)


class Recordings(NumberedDataset):
    """Labelled recordings that are decoded when they are read.

    Args:
        read: the spectrogram of an index.
        targets: one for each recording.
        mean: of the spectrograms.
        std: of the spectrograms.
    """

    reads_files = True

    def __init__(self, read: SoundReader, targets: Tensor, mean: float, std: float) -> None:
        self.read, self.targets, self.mean, self.std = read, targets, mean, std

    def raw(self, index: int, number: int) -> Tensor:
        """A spectrogram."""
        return self.read(index)

    def finish(self, inputs: Tensor) -> Tensor:
        """Spectrograms of mean 0 and standard deviation 1."""
        return scaled_sound(inputs, self.mean, self.std)


def scaled_sound(spectrograms: Tensor, mean: float, std: float) -> Tensor:
    """Spectrograms minus their mean, divided by their standard deviation."""
    return (spectrograms - mean) / std


def _sound_problem(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)  # soundfile's own text has the address of a buffer
    return " ".join(str(text).split()).rstrip(".") or type(error).__name__


def import_soundfile() -> Any:
    """The module `soundfile`.

    Raises:
        DataError: it is missing; one line with the command that installs it.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its library of the system is missing
        raise DataError(f"recordings need the package soundfile; install it with {INSTALL}") from error
    return soundfile
