"""A batch of operational data: read once, with what the model gives for it, and its labels as far as they are known."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from letsam.data import DataError
from letsam.data.labels import Labels
from letsam.data.new_targets import KnownTargets, targets_of_values
from letsam.model_folder.activations import activations_of
from letsam.model_folder.input_features import InputFeatures
from letsam.model_folder.model_loading import inputs_for
from letsam.model_folder.reference import GROUP, ModelReference
from letsam.model_folder.reference_making import MOST_GROUPS, drawn_places, group_sharpness
from letsam.operation.drift_tests import MOST_DISTANCES
from letsam.operation.labelled_metrics import Labelled
from letsam.tasks.weighted import WeightedTarget

if TYPE_CHECKING:
    from letsam.model_folder import LoadedModel

MOST_FEATURES = 2000  # samples of which features are made


@dataclass(frozen=True)
class WatchedBatch:
    """What is known of a batch.

    Args:
        fingerprint: a hash of the prepared inputs, whatever their order and whether they have labels.
        outputs: of the model, in the order of the data, float32.
        embeddings: of some samples.
        features: of some samples; empty where the reference has none.
        targets: of the samples with labels; None: no labels were given.
        sharpness: of groups of samples with labels; empty: there are none, or too few.
    """

    fingerprint: str
    outputs: Tensor
    embeddings: Tensor
    features: Tensor
    targets: KnownTargets | None = None
    sharpness: tuple[float, ...] = ()

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.outputs)

    @property
    def labelled(self) -> Labelled | None:
        """The samples with labels."""
        if self.targets is None:
            return None
        return Labelled(self.outputs[self.targets.places], self.targets.values, self.targets.weights)


def read_batch(
    model: LoadedModel,
    reference: ModelReference,
    data: Any,
    labels: Any = None,
    *,
    batch_size: int = 256,
    progress: Callable[[int, int], object] | None = None,
) -> WatchedBatch:
    """Read a batch.

    Args:
        model: the model.
        reference: of the model.
        data: as `LoadedModel.predict` takes them.
        labels: None: there are none. True: they are in `data`. Else one for each sample: names of classes, numbers, or
            rows, with None where it is not known; a tensor has numbers of classes.
        batch_size: samples that the model gets at once, >= 1.
        progress: called with the number of samples that have been read, and that of all.

    Raises:
        DataError: no samples, inputs of another form, or labels that do not fit; one line.
    """
    targets = _targets(model, data, labels)
    with model.inputs(data) as inputs:
        count = len(cast("Any", inputs))
        if not count:
            raise DataError(f"{name_of_data(data)}: expected at least one sample, got none")
        _check_places(targets, labels, count)
        reading = _Reading(model, reference, inputs, batch_size, progress)
        with _named(data):
            found = activations_of(model.model, reading, MOST_DISTANCES)
        order = torch.empty(count, dtype=torch.int64)
        order[reading.places] = torch.arange(count)
        outputs = found.outputs.float()[order]
        sharpness: tuple[float, ...] = ()
        if targets is not None and reference.loss is not None and reference.sharpness:
            sharpness = group_sharpness(model.model, _groups(model, inputs, targets), reference.loss)
    return WatchedBatch(reading.fingerprint, outputs, found.embeddings, reading.features, targets, sharpness)


def name_of_data(data: Any) -> str:
    """What records call the data."""
    return str(data) if isinstance(data, (str, Path)) else "`data`"


class _Reading:
    """Reads all inputs once, in an order that is as good as random, and remembers hashes and features."""

    def __init__(
        self,
        model: LoadedModel,
        reference: ModelReference,
        inputs: Dataset[Any],
        size: int,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self.places = drawn_places(len(cast("Any", inputs)), len(cast("Any", inputs)))
        self._model, self._inputs, self._size, self._progress = model, inputs, size, progress
        self._features = InputFeatures.restored(reference.modality, reference.form, reference.image_range, model)
        self._hashes: list[bytes] = []
        self._made: list[Tensor] = []

    def __iter__(self) -> Iterator[Any]:
        collate = self._model.collating(self._inputs)
        for start in range(0, len(self.places), self._size):
            samples = [self._inputs[place] for place in self.places[start : start + self._size]]
            if isinstance(samples[0], (tuple, list)):  # a data set of (input, target) pairs
                samples = [sample[0] for sample in samples]
            self._hashes += [_hash(sample) for sample in samples]
            left = MOST_FEATURES - start
            if self._features is not None and left > 0:
                self._made.append(self._features(samples[:left]))
            yield inputs_for(self._model.model, collate(samples))
            if self._progress is not None:
                self._progress(len(self._hashes), len(self.places))

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(b"".join(sorted(self._hashes))).hexdigest()

    @property
    def features(self) -> Tensor:
        return torch.cat(self._made) if self._made else torch.empty(0, 0)


def _hash(sample: Any) -> bytes:
    digest = hashlib.sha256()
    parts = sample if isinstance(sample, Mapping) else {"": sample}
    for name in sorted(cast("Mapping[str, Any]", parts)):
        values = torch.as_tensor(parts[name]).detach().cpu().contiguous()
        digest.update(f"{name}\0{values.dtype}\0{tuple(values.shape)}\0".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()


def _groups(model: LoadedModel, inputs: Dataset[Any], targets: KnownTargets) -> Iterator[tuple[Any, Any]]:
    """Groups of samples with known labels, as the reference was made with."""
    known = torch.arange(len(targets))
    if model.kind == "classification":
        known = (targets.values < int(model.config["outputs"])).nonzero().flatten()
    drawn = known[drawn_places(len(known), GROUP * min(MOST_GROUPS, len(known) // GROUP))]
    batches = model.batches(inputs, GROUP, targets.places[drawn].tolist())
    for start, batch in zip(range(0, len(drawn), GROUP), batches, strict=True):
        some = drawn[start : start + GROUP]
        truth: Any = targets.values[some]
        if targets.weights is not None:
            weights = targets.weights / targets.weights.mean()
            truth = WeightedTarget(truth, weights[some].float())
        yield batch[0] if isinstance(batch, (tuple, list)) else batch, truth


def _targets(model: LoadedModel, data: Any, labels: Any) -> KnownTargets | None:
    if labels is None or labels is False:
        return None
    if labels is True:
        return model.targets(data, new_classes=True)
    if isinstance(labels, Tensor):
        values = labels.detach().cpu()
        if model.kind == "classification":
            if values.is_floating_point() or values.ndim != 1 or (len(values) and int(values.min()) < 0):
                raise DataError("`labels` must be numbers of classes from 0, int64, one for each sample")
            new = sorted({int(value) for value in values if int(value) >= int(model.config["outputs"])})
            compact = {number: int(model.config["outputs"]) + place for place, number in enumerate(new)}
            values = torch.tensor([compact.get(int(value), int(value)) for value in values], dtype=torch.int64)
            return KnownTargets(values, torch.arange(len(values)), unseen=tuple(map(str, new)))
        rows = values.float().reshape(len(values), -1)
        present = rows.isfinite().all(dim=1).nonzero().flatten()
        return KnownTargets(rows[present], present)
    if isinstance(labels, str) or not hasattr(labels, "__len__") or not hasattr(labels, "__iter__"):
        raise TypeError(f"`labels` must be True, a tensor or a sequence, got {type(labels).__name__}")
    classes = model.classes or tuple(map(str, range(int(model.config["outputs"]))))
    known = Labels(model.kind, classes if model.kind != "regression" else ())
    found = targets_of_values(list(labels), known, "`labels`", new_classes=True)
    if not len(found):
        raise DataError("`labels`: expected at least one that is known, got none")
    return found


def _check_places(targets: KnownTargets | None, labels: Any, count: int) -> None:
    if targets is None or labels is True:
        return
    given = len(labels)
    if given != count:
        raise DataError(f"`labels`: expected one for each of {count} samples, got {given}")


@contextlib.contextmanager
def _named(data: Any) -> Iterator[None]:
    """Inputs that the network or the features cannot take are told of as a fault of the data."""
    try:
        yield
    except DataError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        text = " ".join(str(error).split())[:200]
        raise DataError(
            f"{name_of_data(data)}: expected inputs as the model was trained on, got others: {text}"
        ) from error
