"""Recordings: decoding, resampling, spectrograms against scipy by hand, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch

from data_cases import error, loaded
from letsam.data import DataError, load_preparation
from letsam.data.recordings import Recordings, SoundFormat, hear, log_mel, wave_of
from letsam.tasks import targets_of
from letsam.training.feed import Batches

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("transformers")


def tone(hertz: float, seconds: float = 0.5, rate: int = 8000, channels: int = 1) -> np.ndarray[Any, Any]:
    """Samples, shape (samples, channels); the channels differ in loudness."""
    times = np.arange(round(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * hertz * times))[:, None] * np.linspace(1, 0.5, channels)[None]


def save(path: Path, samples: np.ndarray[Any, Any], rate: int = 8000, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)
    return path


def folder(root: Path, each: int = 5, **options: Any) -> Path:
    """Low and high tones."""
    for name, hertz in (("low", 300), ("high", 2500)):
        for i in range(each):
            save(root / name / f"{i}.wav", tone(hertz + 10 * i, **options), options.get("rate", 8000))
    return root


def test_a_folder_of_recordings(tmp_path: Path) -> None:
    data = loaded(folder(tmp_path / "tones"))
    assert (data.modality, data.classes, data.outputs, data.input_shape) == ("audio", ("high", "low"), 2, (1, 64, 51))
    rows = dict(data.inferred)
    assert rows["recordings"] == "0.5 to 0.5 s, 8,000 samples a second"
    assert rows["length"].startswith("0.5 s")
    inputs = torch.stack([data.train[i][0] for i in range(len(data.train))])  # type: ignore[arg-type]
    assert abs(float(inputs.mean())) < 0.2
    loudest = inputs.mean(dim=(1, 3)).argmax(dim=1)
    assert (loudest[targets_of(data.train) == 0] > loudest[targets_of(data.train) == 1].max()).all()


def test_the_wave_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    samples = tone(440, channels=2)
    found = wave_of(save(tmp_path / "a.wav", samples, subtype="FLOAT"), SoundFormat(8000, 0.5))
    assert torch.allclose(found.double(), torch.from_numpy(samples.mean(1)), atol=1e-6)


@pytest.mark.parametrize(("rate", "up", "down"), [(44100, 80, 441), (16000, 1, 2), (4000, 2, 1)])
def test_other_sample_rates_are_resampled(rate: int, up: int, down: int, tmp_path: Path) -> None:
    samples = tone(440, rate=rate)
    found = wave_of(save(tmp_path / "a.wav", samples, rate, subtype="FLOAT"), SoundFormat(8000, 0.5))
    expected = scipy.signal.resample_poly(samples[:, 0], up, down)[:4000]
    assert np.abs(found.numpy() - expected).max() < 1e-5
    inner = slice(200, 3800)  # and it is still that tone
    assert np.abs(found.numpy()[inner] - tone(440)[inner, 0]).max() < 0.01


def test_short_recordings_are_padded_and_long_ones_cut_to_their_middle(tmp_path: Path) -> None:
    samples = np.arange(400)[:, None] / 1000
    path = save(tmp_path / "a.wav", samples, subtype="FLOAT")
    padded, cut = (wave_of(path, SoundFormat(8000, seconds)) for seconds in (0.1, 0.025))
    assert torch.allclose(padded, torch.cat([torch.from_numpy(samples[:, 0]).float(), torch.zeros(400)]))
    assert torch.allclose(cut, torch.from_numpy(samples[100:300, 0]).float())


def test_log_mel_is_that_of_scipy() -> None:
    form = SoundFormat(8000, 0.5)
    filters, wave = form.filters(), torch.from_numpy(tone(440)[:, 0]).float()
    assert (form.window, form.hop, filters.shape) == (256, 80, (129, 64))
    window = scipy.signal.get_window("hann", 256)
    framed = np.pad(wave.double().numpy(), 128)
    frames = np.stack([framed[i * 80 : i * 80 + 256] * window for i in range(51)])
    energy = np.abs(np.fft.rfft(frames)) ** 2 @ filters.double().numpy()
    assert np.abs(log_mel(wave, form, filters)[0].numpy() - np.log(energy + 1e-6).T).max() < 1e-3
    assert form.shape == (1, 64, 51)


@pytest.mark.parametrize(("rate", "seconds"), [(16000, 10.0), (16000, 1.0), (44100, 3.3), (1000, 0.01)])
def test_the_shape_is_known_before_anything_is_read(rate: int, seconds: float) -> None:
    form = SoundFormat(rate, seconds)
    filters = torch.rand(form.window // 2 + 1, 64)
    assert log_mel(torch.zeros(form.samples), form, filters).shape == form.shape
    assert form.shape[2] <= 257


def test_rates_and_lengths_that_differ(tmp_path: Path) -> None:
    root = folder(tmp_path, each=10)
    save(root / "low" / "long.wav", tone(300, seconds=2.0, rate=16000, channels=2), 16000)
    data = loaded(root)
    rows = dict(data.inferred)
    assert rows["recordings"] == "0.5 to 2 s, 8,000 (20) and 16,000 (1) samples a second"
    assert rows["channels"] == "1 of 21 are averaged to one"
    said = loaded(root, sample_rate=4000, seconds=1.5)
    assert said.preparation.form == SoundFormat(4000, 1.5)  # type: ignore[attr-defined]


def test_what_does_not_fit_into_memory_is_read_from_files(tmp_path: Path) -> None:
    root = folder(tmp_path)
    stored, files = loaded(root), loaded(root, memory=0)
    assert isinstance(files.train, Recordings)
    for one, other in ((stored.train, files.train), (stored.test, files.test)):
        batches = [Batches(part, torch.device("cpu")) for part in (one, other)]
        assert [part.in_memory for part in batches] == [True, False]
        expected, found = (part.one([1, 0]) for part in batches)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def broken(root: Path) -> Path:
    folder(root)
    (root / "low" / "1.wav").write_bytes(b"")
    (root / "low" / "2.wav").write_bytes(b"no recording")
    save(root / "low" / "3.wav", np.zeros((0, 1)))
    save(root / "low" / "4.wav", np.array([[0.1], [np.nan]]), subtype="FLOAT")
    return root


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    root = broken(tmp_path)
    assert [hear(root / "low" / f"{i}.wav").problem for i in range(5)] == [
        None,
        "the file is empty",
        "Format not recognised",
        "it has no samples",
        "it has samples that are not numbers",
    ]
    assert error(root) == (
        "FOLDER: low/1.wav cannot be read: the file is empty (4 such files); --skip-broken leaves such files out"
    )
    data = loaded(root, skip_broken=True)
    assert len(data.train) + len(data.test) == 6  # type: ignore[arg-type]


def test_options_of_images_and_mixed_folders_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path)
    assert error(root, image_size=32) == "FOLDER: `image_size` must not be given with recordings"
    assert error(root, augment="shift") == "FOLDER: `augment` must not be given with recordings"
    (root / "low" / "a.png").write_bytes(b"x")
    assert error(root) == "FOLDER: expected images or recordings, got both"


def test_the_preparation_reads_new_recordings_in_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = loaded(folder(tmp_path / "tones"))
    data.preparation.save(tmp_path / "saved")
    monkeypatch.setattr(SoundFormat, "filters", None)  # those that were saved are used
    inputs = load_preparation(tmp_path / "saved").read(str(tmp_path / "tones"))
    assert inputs.names[0] == "high/0.wav"  # type: ignore[attr-defined]
    expected = {x.numpy().tobytes() for part in (data.train, data.test) for x in part.tensors[0]}  # type: ignore[attr-defined]
    assert {inputs[i].numpy().tobytes() for i in range(len(inputs))} == expected  # type: ignore[arg-type]
    (tmp_path / "x.wav").write_bytes(b"no recording")
    with pytest.raises(DataError, match=r"^x.wav: cannot be read as a recording \(Format not recognised\)$"):
        load_preparation(tmp_path / "saved").read(str(tmp_path / "x.wav"))[0]
