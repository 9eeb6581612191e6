"""Data sets of a task under simulated drift."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from letsam.tasks import Task
from letsam.tasks.images import without_augmentation
from letsam.validation.drift.inputs import InputForm
from letsam.validation.drift.mixture import Mixture
from letsam.validation.drift.shifted_data import with_form


def input_form(task: Task) -> InputForm:
    """How shifts see the inputs of a task: images by the range of the training data, texts through their tokenizer."""
    modality, options = form_options(task)
    return InputForm.of(without_augmentation(task.train), modality, name="the training data", **options)


def form_options(task: Task) -> tuple[str | None, dict[str, Any]]:
    """The modality of a task's inputs, None if it is told from them, and further options of `InputForm.of`."""
    preparation = task.preparation
    modality = getattr(preparation, "modality", None)
    if modality == "audio":
        return "log-mel", {"scale": (preparation.mean, preparation.std)}
    if modality != "text":
        return (modality if modality in ("image", "table") else None), {}

    def decode(one: Any) -> str:
        return preparation.tokenizer.decode(torch.as_tensor(one["input_ids"]).tolist())

    def encode(text: str) -> Any:
        ids = preparation.tokens([text])[0].long()
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    return modality, {"decode": decode, "encode": encode}


def with_drift(task: Task, dataset: Dataset[Any], shift: str, seed: int, groups: Tensor | None = None) -> Dataset[Any]:
    """A data set of the task under simulated drift.

    Args:
        task: its training data say what form the inputs have.
        dataset: samples as those of the training data.
        shift: as for `letsam.validation.shifted`.
        seed: of the shift.
        groups: of the samples, for shifts of subpopulations.

    Raises:
        ValueError: the data cannot have this shift.
    """
    form = input_form(task)
    mixture = Mixture.parse(shift, form.modality, name="validation_shift")
    if "groups" in mixture.resampling and groups is None:
        raise ValueError(
            f"`validation_shift` = {shift} needs the groups of the samples: name their column with `group`"
        )
    return with_form(dataset, mixture, form, seed=seed, groups=groups)
