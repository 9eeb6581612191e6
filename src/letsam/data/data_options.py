"""What a user says about files of data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from letsam import checks
from letsam.data.problems import DataError
from letsam.tasks.task import KINDS

PLACES = ("path", "test", "memory")  # the same data may lie somewhere else, or not be kept in memory
AUGMENTATIONS = ("auto", "none", "shift", "shift+flip")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How files of data are read.

    Attributes:
        path: a file or a folder, or ``hf:NAME``.
        target: the column of the target; several, separated by commas, are a multi-label target.
        test: a file or folder with the test data; None: a part of the data is held out.
        test_share: the fraction held out, between 0 and 1.
        kind: "classification", "multilabel" or "regression"; None: told from the target.
        text: the column with the text of each row; None: the data are no texts.
        group: a column; rows with the same value are never in both training and test data.
        time: a column; the latest rows become the test data.
        weight: a column with the weight of each row in loss and metrics.
        drop: columns that are left out.
        missing: texts of cells that mean that a value is missing, besides empty cells, NA, nan and null.
        balance: weight the classes in the loss so that all have the same total weight.
        metric: the name of the main metric; None: that of the kind.
        pretrained: a pretrained model, whose tokenizer or image size the data are prepared for; `data_task` sets it.
        image_size: the side in pixels that images are brought to, >= 8; None: told from the images.
        augment: of training images: "none", "shift", "shift+flip", or "auto": shifts, with flips of colour images.
        sample_rate: of recordings, in samples a second; None: told from the recordings, up to 16,000.
        seconds: that recordings are cut or padded to; None: told from the recordings, up to 10.
        memory: GiB that decoded images or recordings may take; what is larger is decoded whenever it is read.
        skip_broken: leave out files that cannot be read, rather than refuse the data.

    Raises:
        ValueError, TypeError: an option is out of range or of the wrong type; the message names it.

    Example:
        >>> options = DataOptions(path="iris.csv", target="species")
        >>> DataOptions.from_json(options.as_json()) == options
        True
    """

    path: str
    target: str | None = None
    test: str | None = None
    test_share: float = 0.2
    kind: str | None = None
    text: str | None = None
    group: str | None = None
    time: str | None = None
    weight: str | None = None
    drop: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    balance: bool = False
    metric: str | None = None
    image_size: int | None = None
    augment: str = "auto"
    sample_rate: int | None = None
    seconds: float | None = None
    memory: float = 2.0
    skip_broken: bool = False
    pretrained: str | None = None

    def __post_init__(self) -> None:
        for name in ("path", "target", "test", "text", "group", "time", "weight", "metric", "pretrained"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value) and (value is not None or name == "path"):
                raise ValueError(f"`{name}` must be text, got {checks.shown(value)}")
        if self.kind is not None:
            checks.choice("kind", self.kind, KINDS)
        if not 0 < checks.number("test_share", self.test_share) < 1:
            raise ValueError(f"`test_share` must be between 0 and 1, got {self.test_share}")
        checks.flag("skip_broken", self.skip_broken)
        checks.choice("augment", self.augment, AUGMENTATIONS)
        for name, least in (("image_size", 8), ("sample_rate", 1000)):
            if getattr(self, name) is not None:
                checks.whole(name, getattr(self, name), least)
        if self.seconds is not None:
            checks.positive("seconds", self.seconds)
        checks.not_negative("memory", self.memory)
        checks.flag("balance", self.balance)

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns of the target."""
        parts = () if self.target is None else self.target.split(",")
        return tuple(part.strip() for part in parts if part.strip())

    def as_json(self) -> dict[str, Any]:
        """The options as JSON values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**values, "drop": [*self.drop], "missing": [*self.missing]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DataOptions:
        """The options that `as_json` wrote."""
        lists = {name: tuple(values.get(name, ())) for name in ("drop", "missing")}
        return cls(**{**values, **lists})

    def refuse(self, what: str, *names: str) -> None:
        """Raise ValueError if one of these options is given, since `what` have no use for it."""
        for field in dataclasses.fields(self):
            if field.name in names and getattr(self, field.name) != field.default:
                raise DataError(f"{self.path}: `{field.name}` must not be given with {what}")

    def check_equals(self, earlier: object) -> None:
        """Raise ValueError unless `earlier` are the same options as `as_json` writes them; paths may differ."""
        known: Mapping[Any, Any] = earlier if isinstance(earlier, Mapping) else {}
        for name, value in self.as_json().items():
            if name not in PLACES and known.get(name) != value:
                raise ValueError(f"holds another trial: its {name} is {known.get(name)!r}, got {value!r}")
