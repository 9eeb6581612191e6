"""`shifted`: a data set under simulated drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from letsam import checks
from letsam.tasks import targets_of
from letsam.validation.division import group_numbers
from letsam.validation.drift.draws import Draws, sample_numbers
from letsam.validation.drift.inputs import InputForm, replaced
from letsam.validation.drift.known_shifts import MODALITIES, shifts_of
from letsam.validation.drift.mixture import Mixture
from letsam.validation.drift.resampling import resampled
from letsam.validation.drift.shift import Reference

AUTO = "auto"
CHUNK = 500  # samples that are shifted at once
SHARED, FIRST_STEP = 3, 10  # streams of random numbers


def shifted(
    dataset: Dataset[Any],
    shift: str | Mixture,
    *,
    seed: int = 0,
    modality: str | None = None,
    groups: Any = None,
    deployed: Dataset[Any] | Tensor | Sequence[Any] | None = None,
    key: Any = None,
    value_range: tuple[Any, Any] | None = None,
    scale: tuple[float, float] = (0.0, 1.0),
    decode: Callable[[Any], str] | None = None,
    encode: Callable[[str], Any] | None = None,
    device: torch.device | str | None = None,
) -> Dataset[Any]:
    """The same samples as they may arrive in operation, for validation or for tests.

    The shift of a sample depends on the seed and its place in the data set alone: not on the batch, the process or the
    order of reading. `available_shifts` lists the shifts; severities are 1 to 5.

    Args:
        dataset: map-style, of (input, target) pairs, or of dicts (see `key`).
        shift: such as ``"noise:2,blur:1"`` (see `Mixture`), or "auto": the mixture that makes the data most like
            `deployed`.
        seed: >= 0; which alternative a sample gets, and all that is random in it.
        modality: "image", "text", "table", "audio" (waveforms) or "log-mel"; None: texts for str and token rows, images
            for tensors of 3 dimensions, channels first, tables for 1 dimension. Token rows are tensors, in which zeros
            at the end are padding if all rows are equally long, or dicts with `input_ids` and `attention_mask`.
        groups: for ``"groups:..."``, a number or a name for each sample.
        deployed: for "auto", inputs from operation without targets: a tensor, a sequence, or a data set of inputs or
            pairs.
        key: of the input in samples that are dicts, such as "pixel_values".
        value_range: of images, the values of black and white, numbers or one for each channel; None: the smallest and
            largest of each channel in the data (of all channels for one that is constant), or (0, 255) for bytes.
        scale: (mean, deviation) that log-mel inputs were standardized with, in natural logarithms of energy.
        decode: for inputs that are token rows, what turns a row into text; needed by typos and casing.
        encode: for inputs that are token rows, what turns text into an input.
        device: where the inputs of a `TensorDataset` are shifted; None: where they are.

    Returns:
        A `TensorDataset` for a `TensorDataset`, of which all samples are shifted at once; else, and for rows of tokens,
        a `ShiftedDataset`, which shifts what is read. Both have the attribute `mixture`, with what "auto" has learned.

    Raises:
        ValueError: the shift does not fit the data, they are not finite, or an argument is missing or out of range.
        TypeError: an argument has the wrong type.
        ImportError: kornia is missing, for images.

    Example:
        >>> data = TensorDataset(torch.rand(8, 5), torch.arange(8) % 2)
        >>> noisy = shifted(data, "noisy:3", seed=1)
        >>> noisy[0][0].shape, torch.equal(noisy[0][0], data[0][0]), torch.equal(noisy[0][1], data[0][1])
        (torch.Size([5]), False, True)

    Reference:
        Kinds and severities follow Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
        Corruptions and Perturbations", ICLR 2019, milder for small images.
    """
    checks.seed("seed", seed)
    if modality is not None:
        checks.choice("modality", modality, MODALITIES)
    form = InputForm.of(dataset, modality, key=key, value_range=value_range, scale=scale, decode=decode, encode=encode)
    if isinstance(shift, str) and shift.strip() == AUTO:
        if deployed is None:
            raise ValueError('`shift` = "auto" needs `deployed`, a sample of inputs from operation')
        from letsam.validation.drift.learned_mixture import learn_mixture

        shift = learn_mixture(dataset, deployed, form, seed=seed).mixture
    elif deployed is not None:
        raise ValueError(f'`deployed` is used with `shift` = "auto" only, got the shift {shift!s}')
    mixture = shift if isinstance(shift, Mixture) else Mixture.parse(shift, form.modality)
    if form.modality is not None and mixture.modality not in (None, form.modality):
        raise ValueError(f"`shift` must be one of {form.modality} data, got {mixture}, of {mixture.modality} data")
    return with_form(dataset, mixture, form, seed=seed, groups=groups, device=device)


def with_form(
    dataset: Dataset[Any],
    mixture: Mixture,
    form: InputForm,
    *,
    seed: int = 0,
    groups: Any = None,
    device: torch.device | str | None = None,
) -> Dataset[Any]:
    """The same as `shifted` for a data set whose form is known, such as that of the training data."""
    form.check(mixture)
    found = ShiftedDataset(dataset, mixture, form, seed, _places(dataset, mixture, seed, groups))
    if type(dataset) is not TensorDataset or form.modality == "text":
        return found
    whole: Any = found.in_memory(device)
    whole.mixture = mixture
    return whole


class ShiftedDataset(Dataset[Any]):
    """Samples that are shifted when they are read; `shifted` makes it.

    A `DataLoader` reads whole batches at once (``__getitems__``).

    Attributes:
        dataset: the samples as they are.
        mixture: what happens to them.
        places: the places of the samples in `dataset`; they differ from 0, 1, ... where labels or groups are shifted.
    """

    def __init__(self, dataset: Dataset[Any], mixture: Mixture, form: InputForm, seed: int, places: Tensor) -> None:
        self.dataset, self.mixture, self.places = dataset, mixture, places
        self._form, self._seed = form, seed
        self._alternatives = mixture.chosen(seed, torch.arange(len(places)))

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.places)

    def __getitem__(self, index: int) -> Any:
        """A shifted sample, in the form of `dataset`."""
        return self.__getitems__([range(len(self))[index]])[0]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """The samples of a batch."""
        places = self.places[indices].tolist()
        samples = [cast("Any", self.dataset)[place] for place in places]
        inputs = self._form.batch(samples)
        changed = self.apply(inputs, torch.as_tensor(indices))
        return [replaced(sample, self._form.key, one) for sample, one in zip(samples, changed, strict=True)]

    @property
    def targets(self) -> Tensor:
        """Of all samples, in order."""
        return targets_of(self.dataset)[self.places]

    def apply(self, inputs: Any, indices: Tensor) -> Any:
        """Shift a batch of inputs, on its device; `indices` are the places of the samples in this data set."""
        batch = self._form.opened(inputs)
        alternatives = self._alternatives[indices]
        device = batch.device if isinstance(batch, Tensor) else torch.device("cpu")
        changed = torch.zeros(len(indices), dtype=torch.bool)
        for number in alternatives.unique().tolist():
            steps = self.mixture.of_inputs(number)
            if not steps:
                continue
            members = torch.nonzero(alternatives == number).flatten()
            part = self._form.taken(batch, members)
            for place, (name, severity) in enumerate(steps):
                numbers = sample_numbers(self._seed, indices[members], FIRST_STEP + place).to(device)
                shared = Draws(sample_numbers(self._seed, torch.zeros(1), SHARED + place).to(device))
                reference = Reference(shared, None if self._form.rows is None else self._form.rows.to(device))
                part = shifts_of(self._form.modality or "")[name].apply(part, severity, Draws(numbers), reference)
                part = self._form.limited(part)
            batch = self._form.put(batch, members, part)
            changed[members] = True
        members = torch.nonzero(changed).flatten()
        if not len(members):
            return inputs
        part = self._form.closed(self._form.taken(batch, members), self._form.taken(inputs, members))
        return self._form.put(inputs.clone() if isinstance(inputs, Tensor) else list(inputs), members, part)

    def in_memory(self, device: torch.device | str | None = None) -> TensorDataset:
        """All samples, shifted at once, for inputs that are tensors of one shape.

        Args:
            device: where they are shifted; None: where they are.
        """
        if type(self.dataset) is TensorDataset:
            inputs, *rest = (tensor[self.places.to(tensor.device)] for tensor in self.dataset.tensors)
            found = inputs.clone()
            for start in range(0, len(self), CHUNK):
                indices = torch.arange(start, min(start + CHUNK, len(self)))
                part = inputs[indices] if device is None else inputs[indices].to(device)
                found[indices] = self.apply(part, indices).to(found.device)
            return TensorDataset(found, *rest)
        samples = [
            s for i in range(0, len(self), CHUNK) for s in self.__getitems__([*range(i, min(i + CHUNK, len(self)))])
        ]
        return TensorDataset(torch.stack([sample[0] for sample in samples]), self.targets)


def _places(dataset: Dataset[Any], mixture: Mixture, seed: int, groups: Any) -> Tensor:
    """The samples that are drawn, where labels or groups are shifted."""
    count = len(cast("Any", dataset))
    places = torch.arange(count)
    if (severity := mixture.resampling.get("groups")) is not None:
        numbers = group_numbers(groups, count)
        if numbers is None:
            raise ValueError("the shift `groups` needs `groups`, a group for each sample")
        places = resampled(numbers, severity, seed)
    if (severity := mixture.resampling.get("labels")) is not None:
        targets = targets_of(dataset).detach().cpu()
        if targets.ndim != 1 or targets.is_floating_point():
            raise ValueError(f"the shift `labels` needs classes as targets, got the type {targets.dtype}")
        places = places[resampled(targets[places], severity, seed + 1)]
    return places
