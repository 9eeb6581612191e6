"""`cifar10` and `cifar100`: 60,000 color images of 32x32, from the Hugging Face hub or a folder with its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from letsam.tasks.errors import TaskError
from letsam.tasks.hub import load_splits
from letsam.tasks.images import CroppedImages, normalised
from letsam.tasks.models.choice import channels_last, chosen_model
from letsam.tasks.models.from_transformers import vit_s
from letsam.tasks.models.pyramidnet import pyramidnet
from letsam.tasks.models.resnet import resnet18
from letsam.tasks.models.wide_resnet import wide_resnet
from letsam.tasks.subset import check_train_size, stratified_order
from letsam.tasks.task import Task

if TYPE_CHECKING:
    import datasets

SIDE = 32
SUBSET_SEED = 50000  # of the stratified subset, which must not depend on the seed of a trial


@dataclass(frozen=True)
class _Variant:
    """What differs between CIFAR-10 and CIFAR-100; the radii are those of the SAM and ASAM papers."""

    name: str
    label: str  # name of the column
    classes: int
    mean: Sequence[float]
    std: Sequence[float]
    sam_rho: float
    asam_rho: float


_CIFAR10 = _Variant("cifar10", "label", 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 0.05, 0.5)
_CIFAR100 = _Variant("cifar100", "fine_label", 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), 0.1, 1.0)


def cifar10(train_size: int | None = None, data_dir: Path | None = None, model: str = "resnet18") -> Task:
    """CIFAR-10: 50,000 training images, or a stratified subset, shifted and flipped; 10,000 test images; 10 classes.

    Args:
        train_size: Number of training images, 10 to all; smaller sets are subsets of larger ones.
        data_dir: Folder with the parquet files of the hub's repository, or with a subfolder ``cifar10`` that has them.
            Default: the subfolder ``cifar10`` of the folder in the environment variable ``LETSAM_DATA``, then the hub
            (``uoft-cs/cifar10``).
        model: ``resnet18``, ``wrn-28-10``, ``pyramidnet-110`` (alpha 270) or ``vit-s`` (patch size 4; needs
            `transformers`). ``vit-s`` is trained by AdamW, the others by SGD.

    Returns:
        The task, with 200 epochs.

    Raises:
        TaskError: If the data or a package is missing, ``train_size`` is out of range, or the model is unknown.
    """
    return _cifar(_CIFAR10, train_size, data_dir, model)


def cifar100(train_size: int | None = None, data_dir: Path | None = None, model: str = "resnet18") -> Task:
    """CIFAR-100: as `cifar10`, with 100 classes (the fine labels), from the hub's ``uoft-cs/cifar100``.

    Args:
        train_size: Number of training images, 100 to all; smaller sets are subsets of larger ones.
        data_dir: Folder with the parquet files, or with a subfolder ``cifar100`` that has them.
        model: As for `cifar10`.

    Returns:
        The task, with 200 epochs.

    Raises:
        TaskError: As for `cifar10`.
    """
    return _cifar(_CIFAR100, train_size, data_dir, model)


def _cifar(variant: _Variant, train_size: int | None, data_dir: Path | None, model: str) -> Task:
    build, optimizer = chosen_model(model, _MODELS)
    parts = load_splits(
        f"uoft-cs/{variant.name}",
        ("train", "test"),
        ("img", variant.label),
        folder_name=variant.name,
        data_dir=data_dir,
    )
    train_images, train_targets = _tensors(parts[0], variant, "train")
    test_images, test_targets = _tensors(parts[1], variant, "test")
    total = len(train_targets)
    size = check_train_size(train_size, min(variant.classes, total), total)
    if size < total:
        chosen = stratified_order(train_targets, SUBSET_SEED)[:size]
        train_images, train_targets = train_images[chosen], train_targets[chosen]
    return Task(
        name=variant.name,
        description=f"color images of 32x32 in {variant.classes} classes (50,000 train, 10,000 test)",
        model=partial(build, variant.classes),
        train=CroppedImages(train_images, train_targets, variant.mean, variant.std),
        test=TensorDataset(normalised(test_images, variant.mean, variant.std), test_targets),
        optimizer=optimizer,
        epochs=200,
        batch_size=128,
        sam_rho=variant.sam_rho,
        asam_rho=variant.asam_rho,
    )


def _tensors(part: datasets.Dataset, variant: _Variant, split: str) -> tuple[Tensor, Tensor]:
    """All images, uint8 of shape ``(n, 3, 32, 32)``, and their classes, int64 of shape ``(n,)``."""
    targets = torch.tensor(part[variant.label][:], dtype=torch.int64)
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= variant.classes:
        raise TaskError(f"{variant.name}: expected {split} labels from 0 to {variant.classes - 1}, got {low} to {high}")
    images = torch.empty((len(targets), SIDE, SIDE, 3), dtype=torch.uint8)
    for row, image in enumerate(part["img"]):
        if image.size != (SIDE, SIDE):
            raise TaskError(
                f"{variant.name}: expected {split} images of {SIDE}x{SIDE}, got {image.size[0]}x{image.size[1]}"
            )
        images[row] = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 3)
    return images.permute(0, 3, 1, 2).contiguous(), targets


def _cifar_sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)


def _cifar_adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)


_Choice = tuple[Callable[[int], nn.Module], Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]]
_MODELS: dict[str, _Choice] = {
    "resnet18": (lambda classes: channels_last(resnet18(classes=classes)), _cifar_sgd),
    "wrn-28-10": (lambda classes: channels_last(wide_resnet(28, 10, classes=classes)), _cifar_sgd),
    "pyramidnet-110": (lambda classes: channels_last(pyramidnet(110, 270, classes=classes)), _cifar_sgd),
    "vit-s": (lambda classes: vit_s(side=SIDE, patch=4, classes=classes), _cifar_adamw),
}
