"""Two models that predict for the same data: the champion, which is in use, and a challenger, which may replace it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from letsam import checks
from letsam.data.new_targets import KnownTargets
from letsam.model_folder import LoadedModel, load
from letsam.results.predicted import Kind, Predictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from letsam.model_folder import PredictionTable

__all__ = ["CHALLENGER", "CHAMPION", "ModelPair", "PairOutputs"]

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class PairOutputs:
    """What both models give for the same samples, with the outputs of the challenger in the order of the champion's.

    Args:
        kind: "classification", "multilabel" or "regression".
        names: of the outputs: classes, labels or predicted numbers.
        samples: their names, or their numbers from 0.
        outputs: of the champion and of the challenger, float32, shape ``(samples, outputs)``, all finite.
        values: probabilities, or numbers; float64, likewise.
        answers: the class of each sample, shape ``(samples,)``, or whether each label is present, or the numbers.
        known: the targets of the samples that have one; None: nobody knows any.
    """

    kind: str
    names: tuple[str, ...]
    samples: tuple[str, ...]
    outputs: tuple[NDArray[np.float32], NDArray[np.float32]]
    values: tuple[NDArray[np.float64], NDArray[np.float64]]
    answers: tuple[NDArray[np.generic], NDArray[np.generic]]
    known: KnownTargets | None

    @cached_property
    def differ(self) -> NDArray[np.bool_]:
        """Which samples the models answer differently."""
        differ = self.answers[0] != self.answers[1]
        return differ if differ.ndim == 1 else differ.any(axis=1)

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """How far the predictions for each sample lie apart.

        Of classes the total variation of the probabilities, of labels the mean difference of their probabilities, both
        from 0 to 1; of numbers the absolute difference, a mean over the outputs.
        """
        apart = np.abs(self.values[1] - self.values[0])
        return apart.sum(axis=1) / 2 if self.kind == "classification" else apart.mean(axis=1)

    @cached_property
    def measured(self) -> tuple[NDArray[np.int64], NDArray[np.generic]] | None:
        """The places and targets of the samples that both models can be right about; None without any."""
        if self.known is None:
            return None
        places, targets = self.known.places.numpy(), self.known.values.numpy()
        if self.kind == "classification":  # a class that no model knows has no output
            kept = targets < len(self.names)
            places, targets = places[kept], targets[kept]
        return (places, targets) if len(places) else None

    def predictions(self) -> tuple[Predictions, Predictions] | None:
        """What `letsam.decision.sample_gain` compares; None without targets."""
        if self.measured is None:
            return None
        places, targets = self.measured
        kind = cast(Kind, self.kind)
        old, new = (
            Predictions(name, 0, kind, outputs[places], targets, self.names)
            for name, outputs in zip((CHAMPION, CHALLENGER), self.outputs, strict=True)
        )
        return old, new


@dataclass(frozen=True)
class ModelPair:
    """A champion and a challenger that predict the same thing.

    Args:
        champion: the model in use.
        challenger: the model that may replace it.

    Raises:
        ValueError: models of different kinds, or of different classes; one line that names the difference.
    """

    champion: LoadedModel
    challenger: LoadedModel

    def __post_init__(self) -> None:
        old, new = self.champion, self.challenger
        if old.kind != new.kind:
            raise ValueError(f"{new.folder}: expected a model for {old.kind}, as {old.folder} is, got {new.kind}")
        if _width(old) != _width(new) or set(_names(old)) != set(_names(new)):
            what = "predicted numbers" if old.kind == "regression" else "classes"
            raise ValueError(f"{new.folder}: expected the {what} of {old.folder}, got others: {_difference(old, new)}")

    @classmethod
    def loaded(cls, champion: Any, challenger: Any, device: str = "cpu") -> ModelPair:
        """The pair of two models or of their folders, see `letsam.load`."""
        models = [one if isinstance(one, LoadedModel) else load(one, device=device) for one in (champion, challenger)]
        return cls(*models)

    def outputs(
        self,
        data: Any,
        labels: Any = None,
        *,
        batch_size: int = 256,
        progress: Callable[[str, int, int], object] = lambda role, done, total: None,
    ) -> PairOutputs:
        """Predict with both models.

        Args:
            data: what both of them take, see `LoadedModel.predict`.
            labels: True: `data` hold them; a tensor, array or list with one for each sample: classes by number or by
                name, or numbers; None: nobody knows them.
            batch_size: samples that are predicted at once.
            progress: called after each batch with the model, the number of samples so far and of all.

        Raises:
            DataError: data that a model cannot read, see `LoadedModel.predict`.
            ValueError: no samples, outputs that are not finite, labels that do not fit, or samples with weights.
        """
        tables: list[PredictionTable] = []
        for role, model in ((CHAMPION, self.champion), (CHALLENGER, self.challenger)):
            tables.append(model.predict(data, batch_size, progress=partial(progress, role)))
        counts = [len(table) for table in tables]
        if counts[0] != counts[1]:
            raise ValueError(f"`data` must give both models the same samples, got {counts[0]} and {counts[1]}")
        if not counts[0]:
            raise ValueError("`data` must have at least one sample, got none")
        samples = tables[0].samples or tables[1].samples or tuple(map(str, range(counts[0])))
        order = _order(self.champion, self.challenger)
        outputs = [tables[0].outputs, tables[1].outputs[:, order]]
        for role, made in zip((CHAMPION, CHALLENGER), outputs, strict=True):
            _check_finite(role, made, samples)
        kind = self.champion.kind
        return PairOutputs(
            kind=kind,
            names=_names(self.champion),
            samples=samples,
            outputs=_two(made.float().numpy() for made in outputs),
            values=_two(_values(kind, made) for made in outputs),
            answers=_two(_answers(kind, made) for made in outputs),
            known=self._known(data, labels, counts[0]),
        )

    def _known(self, data: Any, labels: Any, count: int) -> KnownTargets | None:
        if labels is None or labels is False:
            return None
        if labels is True:
            return self._without_weights(self.champion.targets(data, new_classes=True))
        model = self.champion
        rows = labels.tolist() if hasattr(labels, "tolist") else list(labels)
        if len(rows) != count:
            raise ValueError(f"`labels` must have one for each of {count} samples, got {len(rows)}")
        try:
            if model.kind == "classification":
                place = {name: index for index, name in enumerate(_names(model))}
                values = torch.tensor([place[one] if isinstance(one, str) else int(one) for one in rows])
            else:
                values = torch.tensor(rows, dtype=torch.float32).reshape(count, -1)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"`labels` must be classes of the champion or numbers, got {error}") from None
        wide = (model.kind == "classification" and not 0 <= int(values.min()) <= int(values.max()) < _width(model)) or (
            model.kind != "classification" and values.shape[1] != _width(model)
        )
        if wide:
            raise ValueError(
                f"`labels` must fit the {_width(model)} outputs of the champion, got {checks.shown(labels)}"
            )
        return KnownTargets(values, torch.arange(count))

    def _without_weights(self, found: KnownTargets) -> KnownTargets:
        """The targets, all of which count the same."""
        if found.weights is None or len(found.weights.unique()) < 2:
            return found
        column = (self.champion.config.get("data_options") or {}).get("weight")
        low, high = float(found.weights.min()), float(found.weights.max())
        raise ValueError(
            f"`data` must have samples that all count the same, got weights from {low:g} to {high:g} in the column "
            f"{column!r}: models are compared without weights; leave this column out if that is what you want"
        )


def _two(made: Any) -> Any:
    first, second = made
    return first, second


def _width(model: LoadedModel) -> int:
    return int(model.config["outputs"])


def _names(model: LoadedModel) -> tuple[str, ...]:
    """Of the outputs, by number where they have no names."""
    width, columns = _width(model), tuple(model.config.get("columns") or ())
    names = model.classes or columns
    return names if len(names) == width else tuple(map(str, range(width)))


def _difference(old: LoadedModel, new: LoadedModel) -> str:
    lacking = sorted(set(_names(old)) - set(_names(new)))
    more = sorted(set(_names(new)) - set(_names(old)))
    texts = [f"it lacks {', '.join(map(repr, lacking[:3]))}"] if lacking else []
    texts += [f"it has {', '.join(map(repr, more[:3]))}"] if more else []
    return " and ".join(texts) or f"{_width(new)} outputs instead of {_width(old)}"


def _order(old: LoadedModel, new: LoadedModel) -> list[int]:
    """Where the challenger has the outputs of the champion."""
    place = {name: index for index, name in enumerate(_names(new))}
    return [place[name] for name in _names(old)]


def _check_finite(role: str, outputs: Tensor, samples: Sequence[str]) -> None:
    broken = (~outputs.isfinite()).any(dim=1).nonzero().flatten().tolist()
    if broken:
        first, count = samples[broken[0]], len(broken)
        raise ValueError(
            f"the {role} gives outputs that are not finite for {count} of {len(samples)} samples, the first of them "
            f"{first}: it cannot be compared"
        )


def _values(kind: str, outputs: Tensor) -> NDArray[np.float64]:
    wide = outputs.double()
    if kind == "classification":
        return wide.softmax(dim=1).numpy()
    return (wide.sigmoid() if kind == "multilabel" else wide).numpy()


def _answers(kind: str, outputs: Tensor) -> NDArray[np.generic]:
    if kind == "classification":
        return outputs.argmax(dim=1).numpy()
    return (outputs > 0).numpy() if kind == "multilabel" else outputs.double().numpy()
