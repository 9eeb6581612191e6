"""The models by name: their arguments for given data, their training defaults, and how they are built again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from letsam.models.base_optimizers import BaseOptimizer
from letsam.models.convolutional import small_cnn
from letsam.models.described import DataDescription
from letsam.models.perceptrons import mlp, residual_mlp
from letsam.models.text_encoder import TextEncoder
from letsam.tasks import TaskError
from letsam.tasks.models.choice import channels_last, chosen_model
from letsam.tasks.models.from_transformers import resnet50, vit, vit_s
from letsam.tasks.models.pyramidnet import pyramidnet
from letsam.tasks.models.resnet import resnet, resnet18
from letsam.tasks.models.wide_resnet import wide_resnet

Arguments = dict[str, Any]
"""The arguments of a network, JSON values."""


@dataclass(frozen=True)
class Entry:
    """A model.

    Args:
        arguments: the arguments of `build` for given data.
        build: makes the network; it is called with keywords.
        optimizer: the default base optimizer.
        steps: about as many optimizer steps are taken by default, within the limits of `epochs`.
        epochs: the fewest and the most epochs by default.
    """

    arguments: Callable[[DataDescription], Arguments]
    build: Callable[..., nn.Module]
    optimizer: BaseOptimizer
    steps: int
    epochs: tuple[int, int]


def _rows(data: DataDescription) -> Arguments:
    return {"features": data.features, "outputs": data.outputs}


def _tokens(data: DataDescription) -> Arguments:
    return {"vocabulary": data.vocabulary, "outputs": data.outputs, "max_length": data.input_shape[0]}


def _any_size(data: DataDescription) -> Arguments:
    return {"channels": data.channels, "classes": data.outputs}


def _small_cnn(data: DataDescription) -> Arguments:
    return {"channels": data.channels, "outputs": data.outputs, "side": data.side}


def _strided(data: DataDescription) -> Arguments:
    """Large images are reduced by the stem, which saves most of the time."""
    return {**_any_size(data), "stem_stride": 1 if data.side < 48 else 2 if data.side < 128 else 4}


def _square(name: str, *, side: int | None = None, channels: int | None = None) -> Callable[[DataDescription], Any]:
    """The arguments of a model that takes square images only, perhaps of one size or number of channels."""

    def arguments(data: DataDescription) -> Arguments:
        height, width = data.input_shape[1:]
        if height != width or (side is not None and height != side):
            wanted = "square images" if side is None else f"images of {side}x{side}"
            raise TaskError(f"model {name!r} needs {wanted}, got {height}x{width}")
        if channels is not None and data.channels != channels:
            raise TaskError(f"model {name!r} needs images of {channels} channels, got {data.channels}")
        return {"side": height, **_any_size(data)}

    return arguments


def _resnet(*, channels: int, classes: int, stem_stride: int) -> nn.Module:
    return channels_last(resnet((16, 32, 64), blocks=2, stem_stride=stem_stride, channels=channels, classes=classes))


def _resnet18(*, channels: int, classes: int) -> nn.Module:
    return channels_last(resnet18(channels=channels, classes=classes))


def _wide_resnet(*, side: int, channels: int, classes: int) -> nn.Module:
    return channels_last(wide_resnet(28, 10, channels=channels, classes=classes))


def _pyramidnet(*, side: int, channels: int, classes: int) -> nn.Module:
    return channels_last(pyramidnet(110, 270, channels=channels, classes=classes))


def _resnet50(*, side: int, channels: int, classes: int) -> nn.Module:
    return channels_last(resnet50(classes=classes))


def _patch(side: int) -> int:
    """The largest patch size that divides the side and leaves at least 4 x 4 patches; 1 where there is none."""
    return next((patch for patch in (16, 14, 8, 7, 4, 2) if side % patch == 0 and side // patch >= 4), 1)


def _vit(*, side: int, channels: int, classes: int) -> nn.Module:
    shape: dict[str, Any] = {"width": 96, "depth": 4, "heads": 4, "mlp_ratio": 2, "initial_std": 96**-0.5}
    return vit(side=side, patch=_patch(side), channels=channels, classes=classes, **shape)


def _vit_s(*, side: int, channels: int, classes: int) -> nn.Module:
    return vit_s(side=side, patch=_patch(side), classes=classes)


_ADAMW = BaseOptimizer("adamw", 1e-3, 0.01)
_VIT_ADAMW = BaseOptimizer("adamw", 1e-3, 0.05)
_SGD = BaseOptimizer("sgd", 0.1, 5e-4)

MODELS: Mapping[str, Mapping[str, Entry]] = {
    "rows": {
        "mlp": Entry(_rows, mlp, _ADAMW, steps=2000, epochs=(10, 100)),
        "resnet": Entry(_rows, residual_mlp, _ADAMW, steps=4000, epochs=(10, 60)),
    },
    "images": {
        "cnn": Entry(_small_cnn, small_cnn, BaseOptimizer("sgd", 0.05, 5e-4), steps=3000, epochs=(10, 60)),
        "resnet": Entry(_strided, _resnet, _SGD, steps=6000, epochs=(10, 60)),
        "vit": Entry(_square("vit"), _vit, _VIT_ADAMW, steps=6000, epochs=(10, 60)),
        "resnet18": Entry(_any_size, _resnet18, _SGD, steps=12000, epochs=(10, 60)),
        "resnet50": Entry(_square("resnet50", channels=3), _resnet50, _SGD, steps=20000, epochs=(10, 90)),
        "wrn-28-10": Entry(_square("wrn-28-10", side=32), _wide_resnet, _SGD, steps=20000, epochs=(10, 200)),
        "pyramidnet-110": Entry(_square("pyramidnet-110", side=32), _pyramidnet, _SGD, steps=20000, epochs=(10, 200)),
        "vit-s": Entry(_square("vit-s", channels=3), _vit_s, _VIT_ADAMW, steps=20000, epochs=(10, 200)),
    },
    "tokens": {"transformer": Entry(_tokens, TextEncoder, _ADAMW, steps=1500, epochs=(4, 20))},
}
"""The models for each form of the inputs, see `DataDescription.form`."""


def automatic(data: DataDescription) -> str:
    """The model that "auto" stands for: a larger one where there are more samples.

    Example:
        >>> automatic(DataDescription(modality="table", samples=569, outputs=2, input_shape=(30,)))
        'mlp'
    """
    if data.form == "rows":
        return "mlp" if data.samples < 10_000 else "resnet"
    if data.form == "tokens":
        return "transformer"
    if data.modality == "audio" or data.samples < 10_000:
        return "cnn"
    height, width = data.input_shape[1:]
    return "vit" if data.samples >= 300_000 and height == width else "resnet"


def entry(name: str, form: str) -> Entry:
    """The model of this name for inputs of this form.

    Raises:
        TaskError: there is none; the message suggests a similar name.
    """
    return chosen_model(name, MODELS[form])
