"""Validation data with other shares of the classes than the training data: what their loss lacks, and its cure."""

from __future__ import annotations

import torch
from torch import Tensor

from letsam import checks

PRIOR = 0.5  # samples that are added to each class
LEAST = 0.1  # divergence of the shares in nats; below it, they count as equal


def class_shift(training: Tensor, validation: Tensor, *, classes: int | None = None) -> Tensor:
    """b_k = log(q_k / p_k): loss(outputs + b, labels) is for validation data with other shares of the classes.

    p and q are the shares of class k in the training and in the validation labels. A network that is trained on shares
    p is calibrated for them. On validation data with shares q, its loss also measures that the shares differ, and a
    learned radius follows that. With b added to the outputs, they are calibrated for q. This is right for a
    cross-entropy over all classes, with or without weights.

    b = 0 if the shares hardly differ: if their divergence KL(q, p) is at most 0.1 nats more than what two samples of
    this size have by chance. For p, half a sample of each class is added to the training labels. As many, in the shares
    p, are added to the validation labels.

    Args:
        training: class of each training sample, whole numbers >= 0, shape (n,).
        validation: class of each validation sample, shape (m,).
        classes: K, the number of outputs, >= 2; None: the largest class that occurs plus 1.

    Returns:
        b, shape (K,), float32.

    Raises:
        ValueError: labels that are no classes, none at all, or `classes` too small.
        TypeError: an argument of the wrong type.

    Example:
        >>> class_shift(torch.tensor([0, 1] * 50), torch.tensor([0] * 30 + [1] * 10))
        tensor([ 0.3973, -0.6690])
        >>> class_shift(torch.tensor([0, 1] * 50), torch.tensor([0] * 22 + [1] * 18))
        tensor([0., 0.])

    Reference:
        Menon et al., arXiv:2007.07314, for outputs adjusted to shares. Not in arXiv:2408.08222; measured in
        docs/evidence.md.
    """
    found = [_checked("training", training), _checked("validation", validation)]
    least = max(2, *(int(labels.max()) + 1 for labels in found))
    count = least if classes is None else checks.whole("classes", classes, 2)
    if count < least:
        raise ValueError(f"`classes` must be more than the largest class, {least - 1}, got {classes}")
    counts, validation_counts = (labels.bincount(minlength=count).double() for labels in found)
    p = (counts + PRIOR) / (len(training) + PRIOR * count)
    q = (validation_counts + PRIOR * count * p) / (len(validation) + PRIOR * count)
    chance = (count - 1) / 2 * (1 / len(training) + 1 / len(validation))  # mean divergence of two such samples
    b = q.log() - p.log()
    apart = (q * b).sum()
    return b.float() if apart > LEAST + chance else torch.zeros(count)


def _checked(name: str, labels: Tensor) -> Tensor:
    if not isinstance(labels, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"`{name}` must be a tensor of classes, got {checks.shown(labels)}")
    if labels.is_floating_point() or labels.is_complex() or labels.ndim != 1 or not len(labels):
        shape = tuple(labels.shape)
        raise ValueError(f"`{name}` must have whole numbers in the shape (n,), n >= 1, got {labels.dtype} in {shape}")
    if int(labels.min()) < 0:
        raise ValueError(f"`{name}` must have classes >= 0, got {int(labels.min())}")
    return labels.detach().cpu().long()
