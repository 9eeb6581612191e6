"""`imagenet`: labeled photographs, from one folder of JPEGs per class or from the Hugging Face hub."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from letsam.tasks.errors import TaskError
from letsam.tasks.hub import load_splits
from letsam.tasks.images import normalised
from letsam.tasks.models.choice import channels_last, chosen_model
from letsam.tasks.models.from_transformers import resnet50, vit_s
from letsam.tasks.subset import check_train_size, stratified_order
from letsam.tasks.task import Task

if TYPE_CHECKING:
    import datasets

SIDE = 224
RESIZED = 256  # the shorter side, before the central crop of a test image
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SUBSET_SEED = 1281167  # of the stratified subset, which must not depend on the seed of a trial


def imagenet(train_size: int | None = None, data_dir: Path | None = None, model: str = "resnet50") -> Task:
    """1,281,167 training and 50,000 test photographs of 1,000 classes, or any images in the same folder layout.

    Training images are random crops, resized to 224x224 and randomly flipped. Test images, which are the validation
    images of ILSVRC, are center crops.

    Args:
        train_size: Number of training images, one per class to all; smaller sets are subsets of larger ones.
        data_dir: Folder with ``train/<class>/*.JPEG`` and ``val/<class>/*.JPEG``, or with a subfolder ``imagenet`` that
            has them. Default: the subfolder ``imagenet`` of the folder in the environment variable ``LETSAM_DATA``,
            then the hub (``ILSVRC/imagenet-1k``, which requires an account).
        model: ``resnet50`` (SGD) or ``vit-s`` (patch size 16, AdamW), both from `transformers`.

    Returns:
        The task, with 90 epochs and batches of 256.

    Raises:
        TaskError: If the data or a package is missing, ``train_size`` is out of range, or the model is unknown.
    """
    build, optimizer = chosen_model(model, _MODELS)
    train, test = load_splits(
        "ILSVRC/imagenet-1k",
        ("train", "validation"),
        ("image", "label"),
        folder_name="imagenet",
        data_dir=data_dir,
        builder="imagefolder",
    )
    names = _class_names(train)
    targets = torch.tensor(train["label"][:], dtype=torch.int64)
    unseen = sorted(set(test["label"][:]) - set(targets.tolist()))
    if unseen:
        raise TaskError(
            f"imagenet: expected every class of the test images in train too, got {names[unseen[0]]} in val"
        )
    size = check_train_size(train_size, min(len(names), len(targets)), len(targets))
    if size < len(targets):
        train = train.select(stratified_order(targets, SUBSET_SEED)[:size].tolist())
    return Task(
        name="imagenet",
        description="photographs, crops of 224x224 in 1,000 classes (1,281,167 train, 50,000 test)",
        model=partial(build, len(names)),
        train=Photographs(train, augmented=True),
        test=Photographs(test, augmented=False),
        optimizer=optimizer,
        epochs=90,
        batch_size=256,
    )


class Photographs(Dataset[tuple[Tensor, int]]):
    """Photographs that are decoded and cropped when they are read.

    With augmentation: a random crop of 8% to 100% of the area, with an aspect ratio from 3:4 to 4:3, resized to 224x224
    and randomly flipped. Without: the central 224x224 pixels after resizing the shorter side to 256. Random numbers
    come from torch's global generator, as in `letsam.tasks.images.CroppedImages`.

    Args:
        rows: Data set with the columns ``image`` and ``label``.
        augmented: Whether crops are random.

    Reference:
        C. Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6 (areas from 8% on).
    """

    def __init__(self, rows: datasets.Dataset, *, augmented: bool) -> None:
        self.rows = rows
        self.augmented = augmented
        self.targets = torch.tensor(rows["label"][:], dtype=torch.int64)

    def __len__(self) -> int:
        """The number of photographs."""
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """A photograph, normalised, of shape ``(3, 224, 224)``, and its class."""
        photograph = self.rows[index]["image"].convert("RGB")
        box, flip = random_box(*photograph.size) if self.augmented else (central_box(*photograph.size), False)
        crop = photograph.resize((SIDE, SIDE), resample=2, box=box)  # 2: PIL's bilinear filter, which antialiases
        pixels = torch.frombuffer(bytearray(crop.tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 3).permute(2, 0, 1)
        return normalised(pixels.flip(-1) if flip else pixels, MEAN, STD), int(self.targets[index])

    def without_augmentation(self) -> Photographs:
        """The same photographs with center crops."""
        plain = copy.copy(self)
        plain.augmented = False
        return plain


def central_box(width: int, height: int) -> tuple[float, float, float, float]:
    """The crop of a test image: a centered square with 224/256 of the shorter side.

    Args:
        width: Width of the photograph in pixels.
        height: Height of the photograph in pixels.

    Returns:
        Left, top, right and bottom, in pixels.

    Example:
        >>> central_box(512, 256)
        (144.0, 16.0, 368.0, 240.0)
    """
    side = min(width, height) * SIDE / RESIZED
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(width: int, height: int) -> tuple[tuple[float, float, float, float], bool]:
    """A random crop of a training image, and whether to flip it.

    Args:
        width: Width of the photograph in pixels.
        height: Height of the photograph in pixels.

    Returns:
        Left, top, right and bottom in pixels, and whether to flip. The largest centered square if ten random crops in
        a row do not fit into the photograph.
    """
    flip = bool(torch.rand(()) < 0.5)
    for _ in range(10):
        share, proportion, across, down = torch.rand(4).tolist()
        area = width * height * (0.08 + 0.92 * share)
        ratio = (3 / 4) ** (1 - 2 * proportion)
        box_width, box_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if box_width <= width and box_height <= height:
            left, top = across * (width - box_width), down * (height - box_height)
            return (left, top, left + box_width, top + box_height), flip
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side), flip


def _class_names(part: datasets.Dataset) -> list[str]:
    feature: Any = part.features["label"]
    if not hasattr(feature, "names"):
        raise TaskError(f"imagenet: expected the column label to hold classes with names, got {feature}")
    return list(feature.names)


def _imagenet_sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4)


def _imagenet_adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1)


_Choice = tuple[Callable[[int], nn.Module], Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]]
_MODELS: dict[str, _Choice] = {
    "resnet50": (lambda classes: channels_last(resnet50(classes=classes)), _imagenet_sgd),
    "vit-s": (lambda classes: vit_s(side=SIDE, patch=16, classes=classes), _imagenet_adamw),
}
