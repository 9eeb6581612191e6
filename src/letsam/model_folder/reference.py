"""What new data are compared with in operation: a small sample of the training data, and predictions for held-out data.

The files are ``reference.json`` and ``reference.safetensors`` in the folder of a model.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from letsam.data.loss_by_kind import KindLoss
from letsam.results import write_atomically

VALUES, TENSORS = "reference.json", "reference.safetensors"
REFERENCE_FORMAT = "letsam reference 1"
SHARPNESS_RHO = 0.05
"""The radius at which sharpness is measured in operation: the same for all models, so that they can be compared."""
GROUP = 32  # samples of a gradient of the sharpness


class ModelReferenceError(ValueError):
    """A model has no usable reference; the message is one line."""


@dataclass(frozen=True)
class FeatureColumn:
    """A feature that is tested by itself.

    Args:
        name: as reports show it.
        start: its first column among the features.
        stop: the column after its last one.
        category: whether it is a category: of several columns the one that is 1, or whether a single one is above 0.
    """

    name: str
    start: int
    stop: int
    category: bool = False


@dataclass(frozen=True)
class ModelReference:
    """The reference of a model.

    Args:
        modality: of the inputs, as `letsam.validation.drift` has it; None: unknown, so that they are not compared.
        features: of training inputs, float32, shape ``(samples, features)``.
        columns: the features that are tested one by one.
        outputs: of the model for held-out samples, shape ``(held out, outputs)``.
        targets: of these samples.
        weights: of these samples, or None.
        embeddings: of the first held-out samples, float32, shape ``(some, numbers)``.
        held_out: what the held-out samples are, in words.
        training_loss: mean over the training data; None where it is not known.
        loss: of the training; None where it is not one of letsam's own.
        sharpness: the increase of the loss in groups of held-out samples; empty where it was not measured.
        spread: standard deviation over the seeds of the trial, by metric; empty with one seed.
        seeds: how many there were.
        image_range: black and white for each channel, for images; else None.
        form: further facts on the form of the inputs.
    """

    modality: str | None
    features: Tensor
    columns: tuple[FeatureColumn, ...]
    outputs: Tensor
    targets: Tensor
    weights: Tensor | None
    embeddings: Tensor
    held_out: str
    training_loss: float | None = None
    loss: KindLoss | None = None
    sharpness: tuple[float, ...] = ()
    spread: Mapping[str, float] = field(default_factory=dict[str, float])
    seeds: int = 1
    image_range: tuple[Tensor, Tensor] | None = None
    form: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def save(self, folder: Path) -> None:
        """Write the two files."""
        from safetensors.torch import save_file

        tensors = {"features": self.features, "outputs": self.outputs, "targets": self.targets}
        tensors["embeddings"] = self.embeddings.half() if _fits_half(self.embeddings) else self.embeddings
        if self.weights is not None:
            tensors["weights"] = self.weights
        if self.image_range is not None:
            tensors["black"], tensors["white"] = self.image_range
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, folder / TENSORS)
        content = {
            "format": REFERENCE_FORMAT,
            "modality": self.modality,
            "form": dict(self.form),
            "samples": {"training": len(self.features), "held out": len(self.outputs)},
            "held_out": self.held_out,
            "columns": [dataclasses.asdict(column) for column in self.columns],
            "training_loss": _finite(self.training_loss),
            "loss": None if self.loss is None else dataclasses.asdict(self.loss),
            "sharpness": {"rho": SHARPNESS_RHO, "group": GROUP, "values": list(self.sharpness)},
            "spread": {name: value for name, value in self.spread.items() if math.isfinite(value)},
            "seeds": self.seeds,
        }
        write_atomically(folder / VALUES, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> ModelReference | None:
        """Read the files of a folder; None where it has none.

        Raises:
            ModelReferenceError: they are damaged, or of another format.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = folder / VALUES
        if not path.is_file():
            return None
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != REFERENCE_FORMAT:
                raise ModelReferenceError(
                    f"{path}: expected the format {REFERENCE_FORMAT!r}, got {content['format']!r}; another version of "
                    "letsam has it"
                )
            tensors = load_file(folder / TENSORS)
            loss = content["loss"]
            if loss is not None:
                weights = loss["class_weights"]
                loss = KindLoss(loss["kind"], None if weights is None else tuple(weights), tuple(loss["scale"]))
            return cls(
                modality=content["modality"],
                features=tensors["features"],
                columns=tuple(FeatureColumn(**column) for column in content["columns"]),
                outputs=tensors["outputs"],
                targets=tensors["targets"],
                weights=tensors.get("weights"),
                embeddings=tensors["embeddings"].float(),
                held_out=content["held_out"],
                training_loss=content["training_loss"],
                loss=loss,
                sharpness=tuple(content["sharpness"]["values"]),
                spread=dict(content["spread"]),
                seeds=int(content["seeds"]),
                image_range=(tensors["black"], tensors["white"]) if "black" in tensors else None,
                form=dict(content["form"]),
            )
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, ModelReferenceError):
                raise
            raise ModelReferenceError(f"{path}: expected the reference of a model, got {error!r}") from None


def _fits_half(values: Tensor) -> bool:
    return not values.numel() or float(values.abs().max()) < torch.finfo(torch.float16).max


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
