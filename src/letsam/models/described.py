"""What the choice of a model depends on: the kind of data, its size and its shape."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DataDescription:
    """A description of prepared data.

    Args:
        modality: "table", "text", "image", "audio" or "tensors".
        samples: number of training samples.
        outputs: numbers that the model must return for a sample: classes, labels or targets.
        input_shape: of one input; for text (max_length,).
        vocabulary: number of tokens of a text's tokenizer; 0 for other data.
    """

    modality: str
    samples: int
    outputs: int
    input_shape: tuple[int, ...]
    vocabulary: int = 0

    @property
    def form(self) -> str:
        """What the inputs look like: "rows" (flattened), "images" (channels, height, width) or "tokens"."""
        if self.modality == "text":
            return "tokens"
        images = self.modality in ("image", "audio") or (self.modality == "tensors" and len(self.input_shape) == 3)
        return "images" if images else "rows"

    @property
    def features(self) -> int:
        """Numbers in one input."""
        return math.prod(self.input_shape)

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.input_shape[0]

    @property
    def side(self) -> int:
        """The shorter side of an image."""
        return min(self.input_shape[1:])
