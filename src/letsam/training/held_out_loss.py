"""The loss of the validation passes of a learned radius."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from letsam import LearnedRadius, LogAdam, SharpnessAware
from letsam.step.calibration import random_labels
from letsam.tasks import Task
from letsam.tasks.label_noise import known_targets
from letsam.tasks.model_outputs import of_outputs
from letsam.validation import class_shift

PATIENCE = 100  # see `ValidationGuard`
ROWS = 16  # outputs, at most, at which a loss is tried
SCALES = 1.0, 3.0  # of these outputs


class AdjustedLoss:
    """loss(outputs + b, targets), for validation data with other shares of the classes; see `class_shift`.

    Args:
        loss: a cross-entropy.
        shift: b, one number for each class; further outputs of the network stay as they are.
    """

    def __init__(self, loss: Callable[..., Any], shift: Tensor) -> None:
        self.loss, self.shift = loss, shift

    def __call__(self, outputs: Tensor, targets: Tensor) -> Any:
        """The loss of the adjusted outputs."""
        further = outputs.shape[-1] - len(self.shift)
        return self.loss(outputs + pad(self.shift.to(outputs), (0, further)), targets)


def held_out_loss(task: Task, train: Dataset[Any], validation: Dataset[Any], device: torch.device) -> Any:
    """The task's own loss; adjusted where it is a cross-entropy and the shares of the classes differ.

    Labels that are known without loading all samples are compared.

    Args:
        task: it has the loss.
        train: what is trained on.
        validation: what the radius is learned from.
        device: of the model.
    """
    if task.kind != "classification":
        return task.loss
    labels = [known_targets(dataset) for dataset in (train, validation)]
    known = [one for one in labels if one is not None and not one.is_floating_point() and one.ndim == 1]
    if len(known) < len(labels) or any(int(one.min()) < 0 for one in known):
        return task.loss
    shift = class_shift(*known)
    if not shift.any() or not _is_cross_entropy(task.loss, len(shift), device):
        return task.loss
    return AdjustedLoss(task.loss, shift.to(device))


def adapt(optimizer: object) -> None:
    """Make a learned radius ready for an `AdjustedLoss`.

    The guard distrusts slopes that are not shown to be related to the training data. How many labels are wrong is not
    told: the gradient at the outputs of the network is not that of a cross-entropy of them.
    """
    radius = optimizer.radius if isinstance(optimizer, SharpnessAware) else None
    if not isinstance(radius, LearnedRadius):
        return
    radius.objective.matches_labels = False
    rule = radius.rule
    if isinstance(rule, LogAdam) and rule.guard is not None and rule.guard.patience is None:
        rule.guard.patience = PATIENCE


def _is_cross_entropy(loss: Callable[..., Any], classes: int, device: torch.device) -> bool:
    """Whether the gradient at some outputs is that of a cross-entropy of so many classes.

    Its weight must not depend on the outputs: that tells it from other losses of the label's probability. Classes of
    weight 0 have no gradient.
    """
    labels, weight = torch.arange(min(classes, ROWS), device=device), getattr(loss, "weight", None)
    width = max(classes, len(weight) if isinstance(weight, Tensor) and weight.ndim else 0)
    outputs = torch.linspace(0, width, len(labels) * width, device=device).sin().view(-1, width)
    found: list[Tensor] = []
    weighted = torch.ones(len(labels), dtype=torch.bool, device=device)
    for scale in SCALES:
        scaled = (scale * outputs).requires_grad_()
        try:
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(of_outputs(loss, scaled, labels), scaled)
        except Exception:  # a loss of the user, which may need anything else
            return False
        found.append(random_labels(gradient, scaled))
        weighted = weighted & gradient.ne(0).any(-1)
    first, second = (one[weighted] for one in found)
    return bool(weighted.any() and first.ne(0).any(-1).all() and first.allclose(second, rtol=1e-3, atol=0.0))
