"""`fashion-mnist`: 70,000 grayscale images of clothing, 28x28 pixels, read from the four idx files."""

import gzip
import math
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from letsam.tasks.errors import TaskError
from letsam.tasks.models.choice import channels_last, chosen_model
from letsam.tasks.models.cnn import cnn
from letsam.tasks.models.from_transformers import vit
from letsam.tasks.models.resnet import resnet, resnet18
from letsam.tasks.subset import check_train_size, stratified_order
from letsam.tasks.task import Task, sgd

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
MEAN, STD = 0.2860, 0.3530  # of the 60,000 training images, pixels in [0, 1]
SUBSET_SEED = 60000  # of the stratified subset, which must not depend on the seed of a trial


@dataclass(frozen=True)
class _Recipe:
    """A network and its training defaults for 2,000 labels; 5 to 20 seconds on one core."""

    model: Callable[[], nn.Module]
    epochs: int
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] = sgd


def fashion_mnist(train_size: int | None = None, data_dir: Path | None = None, model: str = "cnn") -> Task:
    """60,000 training images, or a stratified subset; 10,000 test images; a choice of networks.

    The number of epochs is chosen for 2,000 labels: enough to memorize even wrong ones.

    Args:
        train_size: Number of training images, 10 to all; smaller sets are subsets of larger ones.
        data_dir: Folder with the idx files, or with a subfolder ``fashion-mnist`` that has them. Default: the folder in
            the environment variable ``LETSAM_DATA``, then that of the Debian package.
        model: ``cnn`` (3 convolutions, no normalization), ``resnet`` (8 layers, BatchNorm), ``vit`` (16 patches, 3
            layers, trained by AdamW; needs `transformers`) or ``resnet18`` (11 million weights, for a GPU).

    Returns:
        The task.

    Raises:
        TaskError: If the files are missing or damaged, ``train_size`` is out of range, or the model is unknown.
    """
    recipe = chosen_model(model, _MODELS)
    folder = find_idx_folder(data_dir)
    train_images, train_targets = _load_pair(folder, "train")
    test_images, test_targets = _load_pair(folder, "t10k")
    total = len(train_targets)
    size = check_train_size(train_size, min(10, total), total)
    if size < total:
        chosen = stratified_order(train_targets, SUBSET_SEED)[:size]
        train_images, train_targets = train_images[chosen], train_targets[chosen]
    return Task(
        name="fashion-mnist",
        description="clothing, 28x28 images in 10 classes (60,000 train, 10,000 test)",
        model=recipe.model,
        train=TensorDataset(_normalised(train_images), train_targets),
        test=TensorDataset(_normalised(test_images), test_targets),
        optimizer=recipe.optimizer,
        epochs=recipe.epochs,
        batch_size=64,
    )


def find_idx_folder(data_dir: Path | None = None) -> Path:
    """The folder with the training images: in ``data_dir`` if given, else in ``LETSAM_DATA`` or the Debian package's.

    Args:
        data_dir: Folder to use; if given, no other is searched.

    Returns:
        The folder with the idx files.

    Raises:
        TaskError: If the files are not found.
    """
    if data_dir is not None:
        roots = [Path(data_dir)]
    else:
        environment = os.environ.get("LETSAM_DATA")
        roots = ([Path(environment)] if environment else []) + [DEBIAN_FOLDER]
    for root in roots:
        for folder in (root, root / "fashion-mnist"):
            if _idx_path(folder, "train-images-idx3-ubyte") is not None:
                return folder
    raise TaskError(
        f"no Fashion-MNIST files (train-images-idx3-ubyte.gz ...) in {' or '.join(map(str, roots))}; install them with "
        "`apt-get install dataset-fashion-mnist`, or give a folder with the four idx files"
    )


def read_idx(path: Path) -> Tensor:
    """Read an idx file of unsigned bytes, compressed with gzip or not.

    The format: two zero bytes, 0x08 for unsigned bytes, the number of dimensions, each dimension as a big-endian
    32-bit number, then the data.

    Args:
        path: File to read; compression is detected from its first bytes, not from its name.

    Returns:
        A uint8 tensor of the shape given in the file.

    Raises:
        TaskError: If the file cannot be read or does not follow the format.

    Reference:
        Y. LeCun, "The MNIST database of handwritten digits", section "The IDX file format".
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise TaskError(f"cannot read {path}, expected an idx file: {type(error).__name__}: {error}") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08" or content[3] == 0:
        raise TaskError(
            f"{path} is not an idx file of bytes: expected first bytes 00 00 08, got {content[:4].hex(' ')}"
        )
    data_start = 4 + 4 * content[3]
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, data_start, 4)]
    expected = data_start + math.prod(shape)
    if len(content) != expected:
        raise TaskError(f"{path} is damaged: expected {expected} bytes for shape {shape}, got {len(content)}")
    if expected == data_start:
        return torch.empty(shape, dtype=torch.uint8)  # frombuffer raises for an empty buffer
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=data_start).reshape(shape)


def _idx_path(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _load_pair(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images (uint8) and targets (int64) of one part, checked against each other."""
    tensors: list[Tensor] = []
    for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
        path = _idx_path(folder, name)
        if path is None:
            raise TaskError(f"{folder} must hold the four Fashion-MNIST idx files, {name}[.gz] is missing")
        tensors.append(read_idx(path))
    images, labels = tensors
    if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or len(labels) == 0:
        raise TaskError(
            f"{folder}: expected {part} images of shape [n, 28, 28] and labels of shape [n], n >= 1, "
            f"got {list(images.shape)} and {list(labels.shape)}"
        )
    if int(labels.max()) > 9:
        raise TaskError(f"{folder}: expected {part} labels from 0 to 9, got {int(labels.max())}")
    return images, labels.long()


def _normalised(images: Tensor) -> Tensor:
    return images.unsqueeze(1).float().div_(255).sub_(MEAN).div_(STD)


def _cnn() -> nn.Module:
    return channels_last(cnn())


def _resnet() -> nn.Module:
    return channels_last(resnet((8, 16, 32), blocks=1, stem_stride=2, channels=1))


def _resnet18() -> nn.Module:
    return channels_last(resnet18(channels=1))


def _vit() -> nn.Module:
    return vit(side=28, patch=7, width=48, depth=3, heads=3, mlp_ratio=2, initial_std=48**-0.5, channels=1)


def _fast_sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)


def _vit_adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.01)


_MODELS = {
    "cnn": _Recipe(_cnn, epochs=30, optimizer=_fast_sgd),
    "resnet": _Recipe(_resnet, epochs=35),
    "vit": _Recipe(_vit, epochs=25, optimizer=_vit_adamw),
    "resnet18": _Recipe(_resnet18, epochs=30, optimizer=_fast_sgd),
}
