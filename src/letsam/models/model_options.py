"""The options that choose a model and its base optimizer, as `letsam trial` and `train` take them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from letsam import checks

OPTIMIZERS = ("sgd", "adamw", "adam")
AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model is trained, and with which base optimizer; None: the default of the model or the task.

    Args:
        name: "auto", a name of `letsam.models.MODELS` for the kind of data, or "timm:NAME".
        pretrained: folder or hub name of a model of `transformers`, or "timm:NAME" for pretrained weights of timm.
        lora: whether only low-rank adapters and the new head of the pretrained model are trained (`peft`).
        lora_rank: rank of the adapters, >= 1.
        optimizer: "sgd" (momentum 0.9), "adamw" or "adam".
        lr: initial learning rate, > 0; "auto": found by a range test, see `letsam.models.range_test`.
        weight_decay: >= 0.

    Raises:
        ValueError, TypeError: an option out of range, or two that exclude each other.

    Example:
        >>> ModelOptions(name="mlp", lr=0.01).as_json()["lr"]
        0.01
        >>> ModelOptions(lora=True)
        Traceback (most recent call last):
        ValueError: `lora` needs a pretrained model, got no `pretrained`
    """

    name: str = AUTO
    pretrained: str | None = None
    lora: bool = False
    lora_rank: int = 8
    optimizer: str | None = None
    lr: float | Literal["auto"] | None = None
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        for field in ("name", "pretrained"):
            value = getattr(self, field)
            if (value is not None or field == "name") and (not isinstance(value, str) or not value.strip()):
                raise ValueError(f"`{field}` must be the name of a model, got {value!r}")
        if self.pretrained is not None and self.name != AUTO:
            raise ValueError(f"`model` must not be given together with `pretrained`, got {self.name!r}")
        if self.lora and self.pretrained is None:
            raise ValueError("`lora` needs a pretrained model, got no `pretrained`")
        if self.lora and str(self.pretrained).startswith("timm:"):
            raise ValueError(f"`lora` needs a model of transformers, got {self.pretrained!r}")
        checks.whole("lora_rank", self.lora_rank, 1)
        if self.optimizer is not None:
            checks.choice("optimizer", self.optimizer, OPTIMIZERS)
        if self.lr is not None and self.lr != AUTO:
            checks.positive("lr", self.lr)
        if self.weight_decay is not None and not checks.number("weight_decay", self.weight_decay) >= 0:
            raise ValueError(f"`weight_decay` must be at least 0, got {self.weight_decay}")

    @property
    def changes_optimizer(self) -> bool:
        """Whether an option replaces something of the default base optimizer."""
        return not (self.optimizer is None and self.lr is None and self.weight_decay is None)

    def as_json(self) -> dict[str, Any]:
        """The options as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelOptions:
        """The reverse of `as_json`; options that a file of an older version lacks have their defaults."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})
