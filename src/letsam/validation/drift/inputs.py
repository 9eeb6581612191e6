"""What form the inputs of a data set have, and how shifts see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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

SMALLEST_SIDES = {"blur": 3, "motion": 3, "snow": 3, "rain": 2}  # of images, which filters and streaks need


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
        padded: whether token rows without a mask all have one length; zeros at the end are padding then.
        shape: of an input that is a tensor; None for texts.
        full: of waveforms, the largest value that they can have.
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
    padded: bool = False
    shape: tuple[int, ...] | None = None
    full: float = 1.0

    @classmethod
    def of(
        cls,
        dataset: Dataset[Any],
        modality: str | None,
        *,
        key: Any = None,
        value_range: Any = None,
        scale: tuple[float, float] = (0.0, 1.0),
        decode: Callable[[Any], str] | None = None,
        encode: Callable[[str], Any] | None = None,
        name: str = "`dataset`",
    ) -> InputForm:
        """The form of this data set's inputs; the arguments are those of `shifted`, `name` is for the errors."""
        samples = cast("Any", dataset)
        if not hasattr(samples, "__getitem__") or not hasattr(samples, "__len__"):
            raise TypeError(f"{name} must be a map-style data set, got {checks.shown(dataset)}")
        if not len(samples):
            raise ValueError(f"{name} must have at least 1 sample, got 0")
        first = samples[0]
        if key is None:
            if isinstance(first, Mapping):
                raise ValueError(
                    f"`key` must name the input of samples that are dicts, one of {', '.join(map(str, first))}"
                )
            if not isinstance(first, Sequence) or isinstance(first, str):
                raise TypeError(
                    f"{name} must have (input, target) pairs or dicts as samples, got {checks.shown(first)}"
                )
            key = 0
        try:
            one = first[key]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"`key` = {key!r} is not in the samples of {name}: {checks.shown(first)}") from error
        modality = modality or _modality_of(one)
        if (decode is None) != (encode is None):
            raise ValueError("`decode` and `encode` must be given together")
        form = cls(modality, key, decode=decode, encode=encode)
        if modality == "text" and not isinstance(one, str) and decode is None:
            read = [samples[place][key] for place in evenly_spaced(len(samples), LOOKED_AT)]
            padded = not isinstance(one, Mapping) and len({len(_tokens(row)) for row in read}) == 1
            rows = [_without_padding(_tokens(row), padded) for row in read]
            ends = [{row[end] for row in rows if len(row) > 2} for end in (0, -1)]
            special = int(len(ends[0]) == 1), int(len(ends[1]) == 1)
            return cls(modality, key, letters=False, special=special, padded=padded)
        if modality is None or modality == "text":
            return replace(form, shape=tuple(one.shape)) if modality is None and isinstance(one, Tensor) else form
        if not isinstance(one, Tensor):
            raise ValueError(f"inputs of {modality} data must be tensors, got {checks.shown(one)}")
        _check_shape(modality, one)
        looked_at = some_inputs(dataset, key, name)
        check_finite(name, looked_at, evenly_spaced(len(samples), LOOKED_AT))
        form = cls(modality, key, shape=tuple(one.shape))
        if modality == "table":
            return replace(form, rows=looked_at.float().sort(dim=0).values)
        if modality == "log-mel":
            return replace(form, scale=_checked_scale(scale))
        if modality == "audio":
            return replace(form, full=_full_scale(looked_at))
        low, high = _range(looked_at, value_range, name)
        return replace(form, low=low, high=high, channels=one.shape[0])

    def check(self, mixture: Mixture) -> None:
        """Raise ValueError where the inputs cannot have these shifts."""
        names = {name for number in range(len(mixture.alternatives)) for name, _ in mixture.of_inputs(number)}
        if names and self.modality is None:
            raise ValueError(
                "`modality` must be given: it cannot be told from the inputs, which are neither texts nor tensors of "
                "1 or 3 dimensions"
            )
        if not self.letters and (needed := sorted(names - set(TOKEN_SHIFTS))):
            raise ValueError(f"the shift `{needed[0]}` needs text, got rows of tokens: give `decode` and `encode`")
        if self.modality != "image" or self.shape is None:
            return
        if "colour" in names and self.channels != 3:
            raise ValueError(f"the shift `colour` needs images with 3 channels, got {self.channels}")
        small = sorted(name for name in names if min(self.shape[1:]) < SMALLEST_SIDES.get(name, 1))
        if small:
            raise ValueError(
                f"the shift `{small[0]}` needs images of at least {SMALLEST_SIDES[small[0]]} pixels a side, "
                f"got {self.shape[1]} x {self.shape[2]}"
            )

    def check_same(self, name: str, inputs: Any, *, labelled: bool = True) -> None:
        """Raise ValueError where inputs of another data set do not have this form.

        Args:
            name: of the data set.
            inputs: a batch, as `batch` makes it.
            labelled: False for deployed data, of which images may have other sides and sounds other lengths.
        """
        if self.shape is None:
            texts = [isinstance(one, str) for one in inputs]
            if self.modality == "text" and self.letters and self.decode is None and not all(texts):
                raise ValueError(f"{name} must have texts as inputs, got {checks.shown(inputs[texts.index(False)])}")
            return
        got = tuple(inputs.shape[1:]) if isinstance(inputs, Tensor) else None
        sounds = self.modality in ("audio", "log-mel")
        known = self.shape[:1] if self.modality == "image" else self.shape[:-1] if sounds else self.shape
        same = got == self.shape if labelled else got is not None and _starts(got, known, len(self.shape))
        if not same:
            shown = f"the shape {got}" if got is not None else checks.shown(inputs[0])
            raise ValueError(f"{name} must have inputs of the shape {self.shape}, got {shown}")

    def batch(self, samples: list[Any], name: str = "`dataset`") -> Any:
        """The inputs of samples: a tensor, or a list for texts; `name` is that of the data set, for the errors."""
        try:
            inputs = [sample[self.key] for sample in samples]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(
                f"{name} must have inputs under {self.key!r}, got the sample {checks.shown(samples[0])}"
            ) from error
        if self.modality == "text" or not all(isinstance(one, Tensor) for one in inputs):
            return inputs
        return stacked(inputs, name)

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
        if self.modality == "audio":
            return inputs.float() / self.full
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
        if self.modality == "audio":
            batch = batch * self.full
        if not isinstance(inputs, Tensor):
            return batch
        if inputs.is_floating_point():
            return batch.to(inputs.dtype)
        if inputs.dtype == torch.bool:
            return batch >= 0.5
        limits = torch.iinfo(inputs.dtype)
        return batch.round().clamp(limits.min, limits.max).to(inputs.dtype)

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
        if self.letters:
            raise ValueError(f"`dataset` must have texts as inputs, got {checks.shown(one)}")
        tokens = _without_padding(_tokens(one), self.padded)
        return tokens[self.special[0] : len(tokens) - self.special[1]]

    def _input(self, text: Any, before: Any) -> Any:
        if isinstance(before, str):
            return text
        if self.encode is not None:
            return self.encode(text)
        old = _without_padding(_tokens(before), self.padded)
        tokens = [*old[: self.special[0]], *text, *old[len(old) - self.special[1] :]]
        return _with_tokens(before, tokens + [0] * (len(_tokens(before)) - len(tokens)) * self.padded)


def unlabelled_inputs(samples: list[Any], form: InputForm) -> Any:
    """A batch of inputs from samples without targets: inputs alone, or samples in the form of the data set."""
    pairs = bool(samples) and isinstance(samples[0], (tuple, list)) and form.key == 0
    named = bool(samples) and isinstance(samples[0], dict) and form.key in samples[0]
    inputs = [one[form.key] for one in samples] if pairs or named else samples
    if form.modality == "text" or not inputs:
        return inputs
    try:
        return stacked([torch.as_tensor(one) for one in inputs], "`deployed`")
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"`deployed` must have tensors as inputs, got {checks.shown(inputs[0])}") from error


def stacked(inputs: list[Tensor], name: str = "`dataset`") -> Tensor:
    """A batch of inputs, which must have one shape."""
    shapes = list(dict.fromkeys(tuple(one.shape) for one in inputs))
    if len(shapes) > 1:
        raise ValueError(f"{name} must have inputs of one shape, got {shapes[0]} and {shapes[1]}")
    return torch.stack(inputs)


def some_inputs(dataset: Dataset[Any], key: Any = 0, name: str = "`dataset`") -> Tensor:
    """Up to 1,000 inputs, evenly spaced, stacked."""
    samples = cast("Any", dataset)
    places = evenly_spaced(len(samples), LOOKED_AT)
    if type(dataset) is TensorDataset:
        return dataset.tensors[0][places].detach().cpu()
    return stacked([torch.as_tensor(samples[place][key]) for place in places], name).detach().cpu()


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


def _check_shape(modality: str, one: Tensor) -> None:
    """Raise ValueError where an input cannot be of this modality."""
    least, shape = {"image": 3, "table": 1, "audio": 1, "log-mel": 2}[modality], tuple(one.shape)
    if one.ndim != least and not (modality in ("audio", "log-mel") and one.ndim > least):
        raise ValueError(f"inputs of {modality} data must have {least} dimensions, got the shape {shape}")
    if not one.numel():
        raise ValueError(f"inputs of {modality} data must have at least one number, got the shape {shape}")
    if modality == "image" and shape[0] > 4 and shape[2] in (1, 3, 4) and min(shape[:2]) > shape[2]:
        raise ValueError(f"inputs of image data must have the channels first, got the shape {shape}: permute them")


def check_finite(name: str, inputs: Tensor, places: Sequence[int]) -> None:
    """Raise ValueError where a batch of inputs is not finite; `places` are those of its samples."""
    bad = (~inputs.isfinite()).flatten(1).any(1)
    if bool(bad.any()):
        raise ValueError(
            f"{name} must have finite inputs, got {int(bad.sum())} of {len(bad)} that are not, the first of them "
            f"sample {places[int(bad.nonzero()[0])]}"
        )


def _starts(shape: tuple[int, ...], known: tuple[int, ...], count: int) -> bool:
    return len(shape) == count and shape[: len(known)] == known


def _checked_scale(given: Any) -> tuple[float, float]:
    """The mean and the deviation of log-mel inputs."""
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
        raise TypeError(f"`scale` must be (mean, deviation), got {checks.shown(given)}")
    return checks.number("scale", given[0]), checks.positive("scale", given[1])


def _full_scale(waves: Tensor) -> float:
    """The value at which waveforms are clipped: that of their type, or 1, or more where the data have more."""
    if not waves.is_floating_point():
        return float(torch.iinfo(waves.dtype).max)
    return max(1.0, float(waves.abs().max()))


def _range(images: Tensor, given: Any, name: str) -> tuple[Tensor, Tensor]:
    """Black and white, each broadcast to a batch of images."""
    channels = images.shape[1]
    if given is not None:
        try:
            low, high = (torch.as_tensor(v, dtype=torch.float32).reshape(-1, 1, 1)[None] for v in given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"`value_range` must be (black, white), got {checks.shown(given)}") from error
        if {low.shape[1], high.shape[1]} - {1, channels}:
            raise ValueError(
                f"`value_range` must have one number, or one for each of {channels} channels, "
                f"got {low.shape[1]} and {high.shape[1]}"
            )
    elif images.dtype == torch.uint8:
        low, high = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 255.0)
    else:
        values = images.float().transpose(0, 1).flatten(1)
        low, high = (v.reshape(1, -1, 1, 1) for v in (values.amin(1), values.amax(1)))
        alone = low == high  # such as an empty band, or the opacity: between the values of all channels
        low, high = torch.where(alone, low.min(), low), torch.where(alone, high.max(), high)
        if bool((low == high).any()):
            raise ValueError(
                f"`value_range` must be given: {name} has the value {float(low.min())} alone, so that black and white "
                "cannot be told from the data"
            )
    if not bool(((high > low) & high.isfinite() & low.isfinite()).all()):
        raise ValueError(
            f"`value_range` must be (black, white) with black < white, "
            f"got {low.flatten().tolist()}, {high.flatten().tolist()}"
        )
    return low, high


def _without_padding(tokens: list[int], padded: bool) -> list[int]:
    """The tokens up to the last that is not 0, where zeros are padding."""
    count = len(tokens)
    while padded and count and tokens[count - 1] == 0:
        count -= 1
    return tokens[:count]


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
