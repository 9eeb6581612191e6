"""Draw docs/images/image-shifts.png: every shift of images at all severities: `python docs/draw_shifts.py [FOLDER]`.

The first columns are a dress of Fashion-MNIST (from FOLDER or LETSAM_DATA), the others a photograph of scikit-learn, so
that small grey images and larger coloured ones can both be judged.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset

from letsam.tasks import load_task
from letsam.validation import available_shifts, shifted

PICTURE = Path(__file__).parent / "images" / "image-shifts.png"
SEVERITIES = range(6)  # 0: as it is
SIDE = 112  # of the photograph
DRESS = 13  # among the test images


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


def main() -> None:
    """Write the picture."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    canvas = FigureCanvasAgg(draw(folder))
    canvas.draw()
    Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert(
        "RGB"
    ).quantize(200).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
