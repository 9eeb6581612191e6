"""What a comparison of champion and challenger on the same data has found, and its file ``shadow.json``."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letsam.decision import SampleGain
from letsam.model_folder import model_place
from letsam.results import locked_folder, printable, replacing, write_atomically
from letsam.results.printable import csv_cell
from letsam.results.schema import dumped, refuse_constant

__all__ = [
    "SHADOW_FORMAT",
    "BoundedValue",
    "ClassDifference",
    "ComparedModel",
    "DifferingSample",
    "ShadowReport",
    "default_shadow_folder",
]

SHADOW_FORMAT = "letsam shadow 1"
SAMPLES, PAGE, REPORT = "differing.csv", "shadow.html", "shadow.json"


def default_shadow_folder(challenger: str | Path) -> Path:
    """Where the report on a challenger is, unless another folder is given: ``MODEL-shadow`` beside its folder."""
    place = model_place(challenger)
    return place.with_name(f"{place.name}-shadow")


@dataclass(frozen=True)
class BoundedValue:
    """A number with its bounds, each of which is wrong with the probability `ShadowReport.level`.

    Args:
        value: what was seen.
        low: lower bound; None where there are too few samples.
        high: upper bound; None likewise.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ComparedModel:
    """One of the two models.

    Args:
        folder: where it was read.
        fingerprint: of its files.
        version: its number; None where its folder does not say.
        method: how it was trained.
    """

    folder: str
    fingerprint: str
    version: int | None
    method: str


@dataclass(frozen=True)
class ClassDifference:
    """The disagreement about one class, label or predicted number.

    Args:
        name: of it.
        samples: that the champion gives this class; of a label or number, all.
        differing: how many of them the challenger answers differently; of numbers None.
        disagreement: the rate; of numbers the mean absolute difference.
        mostly: what the challenger answers most often instead; None where it does not differ, and for other kinds.
        labelled: samples that truly have this class; of a label or number, all with labels. None without labels.
        champion_right: for how many of these the champion is right; of numbers None.
        challenger_right: for how many the challenger is.
        champion_error: mean absolute error of the champion; of numbers with labels, else None.
        challenger_error: that of the challenger.
    """

    name: str
    samples: int
    differing: int | None
    disagreement: BoundedValue
    mostly: str | None = None
    labelled: int | None = None
    champion_right: int | None = None
    challenger_right: int | None = None
    champion_error: float | None = None
    challenger_error: float | None = None


@dataclass(frozen=True)
class DifferingSample:
    """A sample for which the models give different answers.

    Args:
        name: of the sample, or its place in the data, from 0.
        answers: of champion and challenger: the class, the labels joined by ``;``, or the numbers.
        confidences: the probability of each answer; of labels, of the least certain one; of numbers None.
        distance: between the predictions, see `PairOutputs.distances`.
        label: what is true; None: not known.
        right: "champion", "challenger" or "neither"; of numbers, the one that is closer. None: not known.
    """

    name: str
    answers: tuple[str, str]
    confidences: tuple[float, float] | None
    distance: float
    label: str | None = None
    right: str | None = None


@dataclass(frozen=True, kw_only=True)
class ShadowReport:
    """Champion and challenger on the same data.

    Args:
        time: of the comparison, in UTC, ISO 8601.
        champion: the model in use.
        challenger: the model that may replace it.
        data: "name", "fingerprint" and "samples".
        kind: "classification", "multilabel" or "regression".
        level: the probability with which each bound may be wrong.
        differing: how many samples the models answer differently; of numbers None.
        disagreement: the share of such samples; of numbers the mean absolute difference.
        most_change: by how much the metric `most_change_metric` can differ between the models at most, with or without
            labels: points of an accuracy, RMSE or MAE as it is.
        most_change_metric: "accuracy", "exact match", "RMSE" or "MAE".
        distance: between the predictions, a mean over the samples, see `PairOutputs.distances`.
        distance_high: the 95th percentile of the distances.
        distance_largest: the largest of them.
        mean_difference: challenger minus champion; of numbers alone.
        by_class: one for each class, label or predicted number.
        labelled: samples with labels; 0 without.
        unseen: classes that neither model knows, with the number of their samples, which both get wrong.
        gain: of the challenger on the samples with labels of known classes; None without.
        differing_samples: the farthest apart first; not in ``shadow.json``, and empty where that was read.
    """

    time: str
    champion: ComparedModel
    challenger: ComparedModel
    data: Mapping[str, Any]
    kind: str
    level: float
    differing: int | None
    disagreement: BoundedValue
    most_change: BoundedValue
    most_change_metric: str
    distance: BoundedValue
    distance_high: float
    distance_largest: float
    mean_difference: BoundedValue | None
    by_class: tuple[ClassDifference, ...]
    labelled: int = 0
    unseen: Mapping[str, int] = dataclasses.field(default_factory=dict[str, int])
    gain: SampleGain | None = None
    differing_samples: tuple[DifferingSample, ...] = ()

    @property
    def samples(self) -> int:
        """How many samples both models have predicted."""
        return int(self.data["samples"])

    def as_json(self) -> dict[str, Any]:
        """The content of ``shadow.json``; numbers that are not finite are null."""
        values = dataclasses.asdict(dataclasses.replace(self, differing_samples=()))
        values.pop("differing_samples")
        return {"format": SHADOW_FORMAT, **json.loads(dumped(values))}

    def save(self, folder: str | Path) -> None:
        """Write ``differing.csv``, ``shadow.html`` and then ``shadow.json`` into a folder, each in one atomic step.

        Raises:
            ValueError: another process writes to this folder.
        """
        from letsam.operation.shadow_page import shadow_page

        place = Path(folder)
        with locked_folder(place):
            with replacing(place / SAMPLES) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(self.rows())
            write_atomically(place / PAGE, shadow_page(self))
            text = json.dumps(self.as_json(), indent=1, ensure_ascii=False)
            write_atomically(place / REPORT, f"{text}\n")

    def rows(self) -> Iterator[list[str]]:
        """The rows of ``differing.csv``, with its heading."""
        yield [
            *("sample", "champion", "challenger", "confidence of champion", "confidence of challenger"),
            *("distance", "label", "right"),
        ]
        safe = (lambda text: text) if self.kind == "regression" else csv_cell  # numbers may begin with a minus sign
        for one in self.differing_samples:
            confidences = ("", "") if one.confidences is None else map("{:.6g}".format, one.confidences)
            named = [csv_cell(one.name), *map(safe, one.answers), *confidences]
            yield [*named, f"{one.distance:.6g}", safe(one.label or ""), one.right or ""]

    @classmethod
    def load(cls, path: str | Path) -> ShadowReport:
        """Read a file that `save` has written.

        Raises:
            FileNotFoundError: there is none.
            ValueError: another file, or one of another version of letsam; one line that names it.

        Example:
            >>> ShadowReport.load("nowhere.json")
            Traceback (most recent call last):
            FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.json'
        """
        try:
            values: Any = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=refuse_constant)
            form = values.pop("format")
            if form != SHADOW_FORMAT:
                raise ValueError(f"the format {form!r}")
            for name, kind in (("champion", ComparedModel), ("challenger", ComparedModel)):
                values[name] = kind(**values[name])
            for name in ("disagreement", "most_change", "distance", "mean_difference"):
                values[name] = None if values[name] is None else BoundedValue(**values[name])
            rows = [{**row, "disagreement": BoundedValue(**row["disagreement"])} for row in values["by_class"]]
            values["by_class"] = tuple(ClassDifference(**row) for row in rows)
            values["gain"] = None if values["gain"] is None else SampleGain(**values["gain"])
            return cls(**values)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = printable(" ".join(str(error).split()))
            raise ValueError(f"{path}: expected a report of letsam shadow ({SHADOW_FORMAT!r}), got {reason}") from None
