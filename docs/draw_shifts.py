"""Draw every shift at all severities: `python docs/draw_shifts.py [FOLDER]`.

- docs/images/image-shifts.png: a dress of Fashion-MNIST (from FOLDER or LETSAM_DATA) and a photograph of scikit-learn,
  so that small grey images and larger coloured ones can both be judged.
- docs/images/other-shifts.png: rows of the wines of scikit-learn, rising tones as a waveform and as a log-mel
  spectrogram, and a sentence.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset

from letsam.tasks import load_task
from letsam.validation import available_shifts, shifted

PICTURES = Path(__file__).parent / "images"
SEVERITIES = range(6)  # 0: as it is
SIDE = 112  # of the photograph
DRESS = 13  # among the test images
SENTENCE = "The service was friendly, but we waited an hour for our food and it was cold."
RATE = 4000  # samples a second of the sound


def examples(folder: Path | None) -> list[tuple[str, Tensor]]:
    """Two images in [0, 1], with names."""
    from sklearn.datasets import load_sample_image

    clothes = load_task("fashion-mnist", train_size=10, data_dir=folder).test
    dress = clothes[DRESS][0]
    photo = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None].float() / 255
    photo = torch.nn.functional.interpolate(photo[:, :, 60:420, 120:480], size=(SIDE, SIDE), mode="area")[0]
    return [("28 x 28, grey", (dress - dress.min()) / (dress.max() - dress.min())), (f"{SIDE} x {SIDE}", photo)]


def shifted_image(image: Tensor, name: str, severity: int) -> Tensor | None:
    """The image under a shift; None where it cannot have it."""
    data = TensorDataset(image[None], torch.zeros(1))
    if severity == 0:
        return image
    try:
        return shifted(data, f"{name}:{severity}", seed=3, value_range=(0.0, 1.0))[0][0]
    except ValueError:
        return None


def draw(folder: Path | None = None) -> Figure:
    """The contact sheet."""
    images = examples(folder)
    names = [name for name, modality, _ in available_shifts("image") if modality == "image"]
    columns = len(images) * len(SEVERITIES)
    figure = Figure(figsize=(columns * 0.75 + 0.9, len(names) * 0.77 + 0.4), dpi=70)
    axes = figure.subplots(len(names), columns, squeeze=False)
    for number, (row, name) in enumerate(zip(axes, names, strict=True)):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for place, axis in enumerate(row):
            title, image = images[place // len(SEVERITIES)]
            severity = place % len(SEVERITIES)
            found = shifted_image(image, name, severity)
            axis.set_xticks([])
            axis.set_yticks([])
            for side in axis.spines.values():
                side.set_visible(False)
            if number == 0:
                axis.set_title(title if severity == 0 else str(severity), fontsize=8)
            if found is not None:
                axis.imshow(found.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    figure.subplots_adjust(left=0.095, right=0.995, bottom=0.005, top=0.965, wspace=0.04, hspace=0.04)
    return figure


def other_examples() -> dict[str, Any]:
    """One input of each other modality, with the data that it is one of: the shifts need their statistics."""
    from sklearn.datasets import load_wine
    from transformers.audio_utils import mel_filter_bank

    wines = torch.tensor(load_wine().data).float()
    times = torch.arange(RATE // 2) / RATE
    tones = (2 * torch.pi * times * (200 + 600 * times)).sin() * (8 * times).clamp(max=1) * (1 - 2 * times) ** 0.5
    wave = 0.4 * tones + 0.1 * (2 * torch.pi * 1100 * times).sin() * (times > 0.25)
    window = torch.hann_window(256)
    power = torch.stft(wave, 256, 32, window=window, return_complex=True).abs().square()
    filters = torch.tensor(mel_filter_bank(129, 40, 0.0, RATE / 2, RATE)).float()
    return {
        "table": (wines - wines.mean(0)) / wines.std(0),
        "audio": wave[None],
        "log-mel": (filters.T @ power + 1e-5).log()[None],
        "text": [SENTENCE],
    }


def shifted_other(inputs: Any, modality: str, name: str, severity: int) -> Any:
    """The input under a shift: of a table all rows, else the one that there is."""
    data: Any = [(one, 0) for one in inputs]
    found: Any = data if severity == 0 else shifted(data, f"{name}:{severity}", modality=modality, seed=3)
    rows = [found[place][0] for place in range(len(data))]
    return torch.stack(rows) if modality == "table" else rows[0]


def draw_others() -> Figure:
    """The contact sheet of tables, sound and text."""
    inputs = other_examples()
    rows = [(name, modality) for name, modality, _ in available_shifts() if modality in inputs]
    figure = Figure(figsize=(len(SEVERITIES) * 1.45 + 0.9, len(rows) * 0.72 + 0.4), dpi=100)
    axes = figure.subplots(len(rows), len(SEVERITIES), squeeze=False)
    for number, (row, (name, modality)) in enumerate(zip(axes, rows, strict=True)):
        row[0].set_ylabel(f"{modality}\n{name}", rotation=0, ha="right", va="center", fontsize=8)
        for severity, axis in zip(SEVERITIES, row, strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            for side in axis.spines.values():
                side.set_visible(False)
            if number == 0:
                axis.set_title("as it is" if severity == 0 else str(severity), fontsize=8)
            _draw_one(axis, shifted_other(inputs[modality], modality, name, severity), modality)
    figure.subplots_adjust(left=0.085, right=0.995, bottom=0.005, top=0.97, wspace=0.06, hspace=0.1)
    return figure


def _draw_one(axis: Axes, one: Any, modality: str) -> None:
    if modality == "table":
        axis.imshow(one[::6].numpy(), cmap="RdBu", vmin=-3, vmax=3, aspect="auto", interpolation="nearest")
    elif modality == "audio":
        axis.plot(one.numpy(), lw=0.3)
        axis.set_ylim(-1, 1)
    elif modality == "log-mel":
        axis.imshow(one.numpy(), origin="lower", aspect="auto", vmin=-11, vmax=6)
    else:
        axis.text(0, 0.5, "\n".join(textwrap.wrap(one, 25)), fontsize=6, va="center", transform=axis.transAxes)


def save(figure: Figure, path: Path) -> None:
    """Write a picture, with few colours."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba(), "raw", "RGBA", 0, 1)
    pixels.convert("RGB").quantize(200).save(path, optimize=True)


def main() -> None:
    """Write both pictures."""
    save(draw(Path(sys.argv[1]) if len(sys.argv) > 1 else None), PICTURES / "image-shifts.png")
    save(draw_others(), PICTURES / "other-shifts.png")


if __name__ == "__main__":
    main()
