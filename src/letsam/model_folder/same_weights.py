"""Whether two models have the same weights, bit for bit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from letsam.model_folder.manifest import ModelFolderError
from letsam.model_folder.model_loading import WEIGHTS

__all__ = ["WeightDifference", "weight_difference"]


@dataclass(frozen=True)
class WeightDifference:
    """How the weights of two models differ.

    Args:
        tensors: that each model has.
        differing: how many of them differ in at least one bit; all, where the models have other tensors.
        largest: the largest difference of two numbers; infinite where shapes differ or a number is not finite.
    """

    tensors: int
    differing: int
    largest: float

    @property
    def same(self) -> bool:
        """Whether all weights are the same, bit for bit."""
        return self.differing == 0


def weight_difference(one: Path, other: Path) -> WeightDifference:
    """Compare the weights of two models.

    Args:
        one: the folder of a model.
        other: the folder of another one.

    Raises:
        ModelFolderError: a folder has no weights.
    """
    mine, theirs = _weights(one), _weights(other)
    if mine.keys() != theirs.keys():
        return WeightDifference(len(mine), len(mine), math.inf)
    differing = [name for name in mine if not _same(mine[name], theirs[name])]
    largest = max((_largest(mine[name], theirs[name]) for name in differing), default=0.0)
    return WeightDifference(len(mine), len(differing), largest)


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    files = [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else sorted((folder / "network").glob("*.safetensors"))
    if not files:
        raise ModelFolderError(f"{folder}: expected weights, but it has none")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    pair = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(*pair)


def _largest(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return math.inf
    found = float((one.double() - other.double()).abs().max())
    return found if math.isfinite(found) else math.inf
