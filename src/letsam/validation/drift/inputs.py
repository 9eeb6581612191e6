"""What form the inputs of a data set have, and how shifts see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from letsam import checks
from letsam.tasks.subset import evenly_spaced
from letsam.validation.drift.mixture import Mixture
from letsam.validation.drift.text_shifts import TOKEN_SHIFTS

LOOKED_AT = 1000  # samples, for the range of images and the columns of tables

DIMENSIONS = {1: "table", 3: "image"}  # of an input, to its modality


@dataclass(frozen=True)
class InputForm:
    """The form of the inputs of a data set.

    Args:
        modality: of the inputs; None: unknown, so that only labels and groups can be shifted.
        key: of the input in a sample: 0 in a pair, a name in a dict.
        low: the value of black, for images, broadcast to ``(batch, channels, height, width)``.
        high: the value of white.
        channels: of images.
        rows: some rows of a table, each column sorted.
        scale: (mean, deviation) of log-mel inputs.
        decode: token row to text.
        encode: text to input.
        letters: False for texts that are token rows which cannot be decoded.
        special: how many tokens at the beginning and at the end of all rows are the same, 0 or 1 each; they stay.
    """

    modality: str | None
    key: Any
    low: Tensor | None = None
    high: Tensor | None = None
    channels: int = 0
    rows: Tensor | None = None
    scale: tuple[float, float] = (0.0, 1.0)
    decode: Callable[[Any], str] | None = None
    encode: Callable[[str], Any] | None = None
    letters: bool = True
    special: tuple[int, int] = (0, 0)

    @classmethod
    def of(
        cls,
        dataset: Dataset[Any],
        modality: str | None,
        *,
        key: Any = None,
        value_range: tuple[Any, Any] | None = None,
        scale: tuple[float, float] = (0.0, 1.0),
        decode: Callable[[Any], str] | None = None,
        encode: Callable[[str], Any] | None = None,
    ) -> InputForm:
        """The form of this data set's inputs; the arguments are those of `shifted`."""
        samples = cast("Any", dataset)
        first = samples[0]
        if key is None:
            if isinstance(first, Mapping):
                raise ValueError(
                    f"`key` must name the input of samples that are dicts, one of {', '.join(map(str, first))}"
                )
            key = 0
        try:
            one = first[key]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"`key` = {key!r} is not in the samples of `dataset`: {checks.shown(first)}") from error
        modality = modality or _modality_of(one)
        if (decode is None) != (encode is None):
            raise ValueError("`decode` and `encode` must be given together")
        form = cls(modality, key, decode=decode, encode=encode)
        if modality == "text" and not isinstance(one, str) and decode is None:
            rows = [_tokens(samples[place][key]) for place in evenly_spaced(len(samples), LOOKED_AT)]
            ends = [{row[end] for row in rows if len(row) > 2} for end in (0, -1)]
            return cls(modality, key, letters=False, special=(int(len(ends[0]) == 1), int(len(ends[1]) == 1)))
        if modality is None or modality == "text":
            return form
        if not isinstance(one, Tensor):
            raise ValueError(f"inputs of {modality} data must be tensors, got {checks.shown(one)}")
        least = {"image": 3, "table": 1, "audio": 1, "log-mel": 2}[modality]
        if one.ndim != least and not (modality in ("audio", "log-mel") and one.ndim > least):
            raise ValueError(
                f"inputs of {modality} data must have {least} dimensions, got the shape {tuple(one.shape)}"
            )
        looked_at = some_inputs(dataset, key)
        if modality == "table":
            return cls(modality, key, rows=looked_at.float().sort(dim=0).values)
        if modality == "log-mel":
            return cls(modality, key, scale=scale)
        if modality == "image":
            low, high = _range(looked_at, value_range)
            return cls(modality, key, low, high, channels=one.shape[0])
        return form

    def check(self, mixture: Mixture) -> None:
        """Raise ValueError where the inputs cannot have these shifts."""
        names = {name for number in range(len(mixture.alternatives)) for name, _ in mixture.of_inputs(number)}
        if names and self.modality is None:
            raise ValueError("`modality` must be given: it cannot be told from the inputs")
        if not self.letters and (needed := sorted(names - set(TOKEN_SHIFTS))):
            raise ValueError(f"the shift `{needed[0]}` needs text, got rows of tokens: give `decode` and `encode`")
        if "colour" in names and self.channels != 3:
            raise ValueError(f"the shift `colour` needs images with 3 channels, got {self.channels}")

    def batch(self, samples: list[Any]) -> Any:
        """The inputs of samples: a tensor, or a list for texts."""
        inputs = [sample[self.key] for sample in samples]
        if self.modality == "text" or not isinstance(inputs[0], Tensor):
            return inputs
        return torch.stack(inputs)

    def opened(self, inputs: Any) -> Any:
        """Inputs as shifts see them: images in [0, 1], texts as str or lists of tokens."""
        if self.modality == "text":
            return [self._words(one) for one in inputs]
        if self.modality == "image":
            low, high = (cast("Tensor", v).to(inputs.device) for v in (self.low, self.high))
            return (inputs.float() - low) / (high - low)
        if self.modality == "log-mel":
            mean, deviation = self.scale
            return inputs.float() * deviation + mean
        return inputs.float() if isinstance(inputs, Tensor) else inputs

    def limited(self, batch: Any) -> Any:
        """What a step has made, in the range that inputs can have."""
        return batch.clamp(0, 1) if self.modality == "image" else batch

    def closed(self, batch: Any, inputs: Any) -> Any:
        """The reverse of `opened`; `inputs` are those before the shift."""
        if self.modality == "text":
            return [self._input(text, one) for text, one in zip(batch, inputs, strict=True)]
        if self.modality == "image":
            low, high = (cast("Tensor", v).to(batch.device) for v in (self.low, self.high))
            batch = batch * (high - low) + low
        if self.modality == "log-mel":
            batch = (batch - self.scale[0]) / self.scale[1]
        if not isinstance(inputs, Tensor):
            return batch
        return batch.to(inputs.dtype) if inputs.is_floating_point() else batch.round().to(inputs.dtype)

    def taken(self, batch: Any, members: Tensor) -> Any:
        """Some samples of a batch."""
        return batch[members.to(batch.device)] if isinstance(batch, Tensor) else [batch[i] for i in members.tolist()]

    def put(self, batch: Any, members: Tensor, part: Any) -> Any:
        """The batch with these samples replaced."""
        if isinstance(batch, Tensor):
            return batch.index_copy(0, members.to(batch.device), part.to(batch.dtype))
        for place, one in zip(members.tolist(), part, strict=True):
            batch[place] = one
        return batch

    def _words(self, one: Any) -> Any:
        if isinstance(one, str):
            return one
        if self.decode is not None:
            return self.decode(one)
        tokens = _tokens(one)
        return tokens[self.special[0] : len(tokens) - self.special[1]]

    def _input(self, text: Any, before: Any) -> Any:
        if isinstance(before, str):
            return text
        if self.encode is not None:
            return self.encode(text)
        old = _tokens(before)
        return _with_tokens(before, [*old[: self.special[0]], *text, *old[len(old) - self.special[1] :]])


def unlabelled_inputs(samples: list[Any], form: InputForm) -> Any:
    """A batch of inputs from samples without targets: inputs alone, or samples in the form of the data set."""
    pairs = bool(samples) and isinstance(samples[0], (tuple, list)) and form.key == 0
    named = bool(samples) and isinstance(samples[0], dict) and form.key in samples[0]
    inputs = [one[form.key] for one in samples] if pairs or named else samples
    if form.modality == "text":
        return inputs
    return torch.stack([torch.as_tensor(one) for one in inputs]) if inputs else inputs


def some_inputs(dataset: Dataset[Any], key: Any = 0) -> Tensor:
    """Up to 1,000 inputs, evenly spaced, stacked."""
    samples = cast("Any", dataset)
    places = evenly_spaced(len(samples), LOOKED_AT)
    if type(dataset) is TensorDataset:
        return dataset.tensors[0][places].detach().cpu()
    return torch.stack([torch.as_tensor(samples[place][key]) for place in places]).detach().cpu()


def replaced(sample: Any, key: Any, value: Any) -> Any:
    """The sample with another input, in its own form."""
    if isinstance(sample, Mapping):
        return {**sample, key: value}
    values = list(sample)
    values[key] = value
    return values if isinstance(sample, list) else tuple(values)


def _modality_of(one: Any) -> str | None:
    """The modality of an input, where it can be told."""
    if isinstance(one, str) or (isinstance(one, Mapping) and "input_ids" in one):
        return "text"
    if isinstance(one, Tensor):
        return (
            DIMENSIONS.get(one.ndim) if one.is_floating_point() or one.ndim == 3 else "text" if one.ndim == 1 else None
        )
    return None


def _range(images: Tensor, given: tuple[Any, Any] | None) -> tuple[Tensor, Tensor]:
    """Black and white, each broadcast to a batch of images."""
    if given is not None:
        low, high = (torch.as_tensor(v, dtype=torch.float32).reshape(-1, 1, 1)[None] for v in given)
    elif images.dtype == torch.uint8:
        low, high = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 255.0)
    else:
        channels = images.float().transpose(0, 1).flatten(1)
        low, high = (v.reshape(1, -1, 1, 1) for v in (channels.amin(1), channels.amax(1)))
    if not bool((high > low).all()):
        raise ValueError(
            f"`value_range` must be (black, white) with black < white, "
            f"got {low.flatten().tolist()}, {high.flatten().tolist()}"
        )
    return low, high


def _tokens(one: Any) -> list[int]:
    """The tokens of a row that are no padding."""
    ids = one["input_ids"] if isinstance(one, Mapping) else one
    tokens = torch.as_tensor(ids).tolist()
    if isinstance(one, Mapping) and "attention_mask" in one:
        return [
            token for token, kept in zip(tokens, torch.as_tensor(one["attention_mask"]).tolist(), strict=True) if kept
        ]
    return tokens


def _with_tokens(before: Any, tokens: list[int]) -> Any:
    """A row with other tokens, padded to its length as before."""
    ids = before["input_ids"] if isinstance(before, Mapping) else before
    if not isinstance(before, Mapping):
        return torch.as_tensor(tokens, dtype=torch.as_tensor(ids).dtype)
    length, count = len(ids), len(tokens)
    mask = torch.as_tensor(before.get("attention_mask", [1] * length))
    empty = torch.nonzero(mask == 0).flatten()
    pad = int(torch.as_tensor(ids)[empty[0]]) if len(empty) else 0
    row = torch.full((length,), pad, dtype=torch.as_tensor(ids).dtype)
    row[:count] = torch.as_tensor(tokens, dtype=row.dtype)
    found = dict(before)
    for name, value in before.items():
        values = torch.as_tensor(value)
        if name == "input_ids":
            found[name] = row
        elif values.shape == row.shape:  # attention mask, token types
            found[name] = torch.cat([values[:count], torch.zeros_like(values[count:])])
    return found
