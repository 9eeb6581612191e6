"""What a user asks for in the model of files of data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The model of files of data, and how its weights are trained.

    Attributes:
        name: of the model; "auto" picks one by the kind and the size of the data.

    Example:
        >>> ModelOptions.from_json(ModelOptions(name="auto").as_json())
        ModelOptions(name='auto')
    """

    name: str = "auto"

    def as_json(self) -> dict[str, Any]:
        """The options as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelOptions:
        """The options that `as_json` wrote."""
        return cls(**values)
