"""Choosing a model: by name, or by the kind and size of the data; with its training defaults."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from letsam.models.base_optimizers import BaseOptimizer, Factory, with_options
from letsam.models.described import DataDescription
from letsam.models.model_options import AUTO, ModelOptions
from letsam.models.pretrained import CLASSES, fine_tuned, saved_network
from letsam.models.registry import MODELS, automatic, entry
from letsam.models.rescaled import Rescaled
from letsam.models.timm_models import PREFIX, import_timm, timm_arguments, timm_model
from letsam.tasks import TaskError


@dataclass(frozen=True)
class Chosen:
    """A model and how it is trained by default.

    Args:
        name: for people, such as "mlp" or "all-MiniLM-L6-v2 (LoRA)".
        make: makes a new network; the caller seeds torch.
        optimizer: the base optimizer, a function of the parameters.
        epochs: by default.
        batch_size: by default.
        config: JSON values with which `rebuild` makes the network again.
    """

    name: str
    make: Callable[[], nn.Module]
    optimizer: Factory
    epochs: int
    batch_size: int
    config: dict[str, Any]


def choose(data: DataDescription, options: ModelOptions, pad_id: int | None = None) -> Chosen:
    """Choose a model for data.

    Args:
        data: the kind, size and shape of the data.
        options: a name, or "auto".
        pad_id: of the tokenizer, for pretrained text models.

    Returns:
        The model and its defaults.

    Raises:
        TaskError: no such model for this kind of data, or a package is missing.

    Example:
        >>> table = DataDescription(modality="table", samples=569, outputs=2, input_shape=(30,))
        >>> chosen = choose(table, ModelOptions())
        >>> chosen.name, chosen.optimizer.name, chosen.epochs, chosen.batch_size
        ('mlp', 'adamw', 100, 32)
    """
    if options.pretrained is not None and not options.pretrained.startswith(PREFIX):
        return _pretrained(data, options, pad_id)
    name = options.pretrained or (automatic(data) if options.name == AUTO else options.name)
    batch_size = _batch_size(data)
    if name.startswith(PREFIX):
        arguments = timm_arguments(name, data, pretrained=options.pretrained is not None)
        import_timm()  # here, so that a missing package is told of before anything is trained
        default = BaseOptimizer("adamw", 1e-4 if options.pretrained else 1e-3, 0.05)
        build, steps, limits = timm_model, 6000, (5, 60)
        config = {"family": "timm", "arguments": {**arguments, "pretrained": False}}
    else:
        found = entry(name, data.form)
        build, arguments, default = found.build, found.arguments(data), found.optimizer
        steps, limits = found.steps, found.epochs
        config = {"family": name, "form": data.form, "arguments": arguments}
    per_epoch = max(1, data.samples // batch_size)
    return Chosen(
        name=name,
        make=functools.partial(build, **arguments),
        optimizer=with_options(default, options),
        epochs=min(max(math.ceil(steps / per_epoch), limits[0]), limits[1]),
        batch_size=batch_size,
        config=config,
    )


def rebuild(config: dict[str, Any], folder: Path) -> nn.Module:
    """Build a network again.

    Args:
        config: of `Chosen`.
        folder: of the model; a pretrained network is read from its subfolder ``network``, with its weights.

    Returns:
        The network. Except for a pretrained one, its weights are not those that were trained.

    Raises:
        TaskError: an unknown network, of a newer version of letsam.
    """
    if "rescaled" in config:
        inner = {name: value for name, value in config.items() if name != "rescaled"}
        return Rescaled(rebuild(inner, folder), **config["rescaled"])
    family = config.get("family")
    if family == "transformers":
        return saved_network(folder / "network", config["modality"])
    if family == "timm":
        return timm_model(**config["arguments"])
    try:
        found = MODELS[config["form"]][str(family)]
    except KeyError:
        raise TaskError(f"the network {family!r} is unknown to this version of letsam") from None
    return found.build(**config["arguments"])


def _pretrained(data: DataDescription, options: ModelOptions, pad_id: int | None) -> Chosen:
    assert options.pretrained is not None
    if data.modality not in CLASSES:
        raise TaskError(f"`pretrained` needs texts or images, got a {data.modality} task; use --model instead")
    name = Path(options.pretrained).name + (" (LoRA)" if options.lora else "")
    default = BaseOptimizer("adamw", 5e-4 if options.lora else 5e-5, 0.01)
    config = {"family": "transformers", "modality": data.modality, "source": options.pretrained, "lora": options.lora}
    return Chosen(
        name=name,
        make=functools.partial(fine_tuned, options, data.modality, data.outputs, pad_id),
        optimizer=with_options(default, options),
        epochs=3 if data.samples >= 2000 else 5,
        batch_size=32 if data.samples >= 2000 else 16,
        config=config,
    )


def _batch_size(data: DataDescription) -> int:
    """Samples a step: at least some 15 steps an epoch, from 8 to 128 (256 for rows)."""
    largest = 256 if data.form == "rows" else 128
    return min(max(2 ** int(math.log2(max(data.samples / 15, 1))), 8), largest)
