"""Data that were read and prepared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from letsam.data.preparation import Preparation

FEW = 100  # samples, with fewer of which the results of one seed say little


def sizes_text(train: int, test: int) -> str:
    """How many samples there are, for the table that is shown before training."""
    few = ", so few that the numbers of single seeds say little" if train + test < FEW else ""
    return f"{train:,} for training, {test:,} for the test{few}"


@dataclass(frozen=True, kw_only=True)
class LoadedData:
    """Training and test data, prepared, and what is known about them.

    Args:
        name: of the task, such as that of the file without its suffix.
        modality: "table", "text", "image", "audio" or "tensors".
        kind: "classification", "multilabel" or "regression".
        train: (input, target) pairs; targets are classes from 0, rows of 0 and 1 (multilabel), or numbers.
        test: as `train`.
        validation: as `train`, for learned radii; None: they are held out.
        preparation: makes inputs of new files in the same way.
        classes: names of the classes or labels; empty for regression.
        outputs: of the model for each sample: the number of classes or labels, or of numbers to predict.
        input_shape: of one input; the lengths of texts differ, so theirs is ``(longest,)``, in tokens.
        vocabulary: number of tokens of a text's tokenizer; 0 for other data.
        pad_id: the number of the padding token; None for other data.
        collate: makes a batch of samples; None: tensors are stacked.
        train_names: of the training samples, such as their files; empty: they have none.
        test_names: of the test samples, likewise.
        groups: a group's number for each training sample, or None.
        times: a time for each training sample, or None.
        weights: a weight for each training sample, or None.
        inferred: what was inferred, in pairs of what and its value, for the table that is shown before training.
    """

    name: str
    modality: str
    kind: str
    train: Dataset[Any]
    test: Dataset[Any]
    preparation: Preparation
    validation: Dataset[Any] | None = None
    classes: tuple[str, ...] = ()
    outputs: int
    input_shape: tuple[int, ...]
    vocabulary: int = 0
    pad_id: int | None = None
    collate: Callable[[list[Any]], tuple[Any, Any]] | None = None
    train_names: tuple[str, ...] = ()
    test_names: tuple[str, ...] = ()
    groups: Tensor | None = None
    times: Tensor | None = None
    weights: Tensor | None = None
    inferred: tuple[tuple[str, str], ...] = ()
