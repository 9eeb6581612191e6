"""`digits`: 1,797 grayscale images of handwritten digits, 8x8 pixels, which ship with scikit-learn."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from letsam.tasks.errors import TaskError
from letsam.tasks.subset import check_train_size, stratified_order
from letsam.tasks.task import Task

TRAIN_SIZE = 1000
DIVISION_SEED = 1797  # of the train/test split, which must not depend on the seed of a trial


def digits(train_size: int | None = None) -> Task:
    """1,000 training and 797 test images, and a multilayer perceptron that trains in seconds.

    Args:
        train_size: Number of training images, 10 to 1,000; smaller sets are stratified subsets of larger ones.

    Returns:
        The task. Images are standardized by the mean and standard deviation of all pixels of the 1,000 training images.

    Raises:
        TaskError: If scikit-learn is missing or ``train_size`` is out of range.

    Example:
        >>> task = digits(train_size=100)
        >>> len(task.train), len(task.test), task.model()(task.test[0][0].unsqueeze(0)).shape
        (100, 797, torch.Size([1, 10]))
    """
    size = check_train_size(train_size, 10, TRAIN_SIZE)
    try:
        from sklearn.datasets import load_digits  # slow to import
    except ImportError as error:
        raise TaskError('`digits` needs scikit-learn; install it with `pip install "letsam[trial]"`') from error
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8)
    targets = torch.tensor(labels, dtype=torch.int64)

    order = stratified_order(targets, DIVISION_SEED)
    train, test = order[:TRAIN_SIZE], order[TRAIN_SIZE:]
    # One mean and standard deviation for all pixels: those at the border are constant, with a deviation of 0.
    images = (images - images[train].mean()) / images[train].std()
    train = train[:size]
    return Task(
        name="digits",
        description="handwritten digits, 1,797 images of 8x8 from scikit-learn (1,000 train, 797 test)",
        model=_perceptron,
        train=TensorDataset(images[train], targets[train]),
        test=TensorDataset(images[test], targets[test]),
        epochs=60,
        batch_size=64,
    )


def _perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
