"""The options of a trial, in one frozen record that is checked before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letsam import checks
from letsam.data import DataOptions, data_task
from letsam.data.data_options import PLACES
from letsam.models import ModelOptions, with_options
from letsam.results import encodable
from letsam.results.nearest import did_you_mean
from letsam.tasks import Task, load_task
from letsam.training.data_record import DataRecord
from letsam.training.devices import PRECISIONS
from letsam.training.methods import Method
from letsam.training.shifted_tests import check_shifted_tests, shifts_to_test
from letsam.validation import Mixture
from letsam.validation.drift.shifted_data import AUTO

_GRIDS = {"sam": ("0.05", "0.1", "0.2", "0.5"), "asam": ("0.2", "1", "2", "5")}
"""In every setting of docs/evidence.md, the best of these is within 1.5 points of the best of the whole grid there."""

DEFAULT_METHODS = tuple(
    Method.parse(name)
    for name in ("sgd", *(f"{kind}:{rho}" for kind, radii in _GRIDS.items() for rho in radii), "lets-sam", "lets-asam")
)

SEARCHED = ("lr", "weight_decay")
SEARCH_TRIALS = 20
PRUNERS = ("median", "halving", "none")

_CHECKED_OTHERWISE = ("methods", "seeds", "data_dir", "data", "data_options", "found_lr", "workers")


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """The options of `letsam trial`.

    Attributes:
        task: the name of the task, as it was given.
        methods: the methods, each with a name of its own.
        seeds: each a whole number >= 0; splits, label noise, initial weights and batch order depend on it alone.
        epochs: passes over the training data; None: the task's.
        batch_size: samples a step; None: the task's.
        rho: radius of the methods without one of their own; None: the task's.
        label_noise: fraction of wrong training labels, at least 0 and below 1.
        validation_share: fraction of the training data held out for learned radii, between 0 and 1.
        folds: >= 2; hold out one of so many folds, another one in each third of the epochs; with times, what is trained
            on is earlier. None: a fixed share.
        validation_shift: simulated drift of the validation data, such as "noise:2,blur:1", or "auto": the mixture that
            makes them most like `deployed`, see `letsam.training.learned_shift`; None: none.
        deployed: file or folder of inputs from operation, without targets.
        learned_shift: the mixture that "auto" has found.
        evaluate_shift: shifts of further test sets, such as "noise,blur:2" (see `shifts_to_test`), or "all" that the
            data can have; None: none.
        refit: replay each learned schedule on all the training data, as another run; not with `release`.
        release: fraction of the epochs, between 0 and 1, after which the radius stays and the held-out samples are
            trained on as well; None: they are held out to the end.
        train_size: training samples, for tasks that offer a choice; None: the task's.
        data_dir: folder with the data, for tasks that read files.
        model: name of the model, for tasks that offer a choice; None: the task's.
        precision: as `make_fabric` takes it; None: "32-true".
        accumulate: micro-batches that a batch is split into, >= 1: less memory, the same step.
        max_grad_norm: > 0, the largest total norm of the gradient of the descent step; None: no clipping.
        data_options: how the files of a task without code are read; None: `task` is a name or a function.
        model_options: the model of a task without code, and its optimizer; of another task, the options of its base
            optimizer. None: those of the task.
        found_lr: the learning rate that ``lr="auto"`` has found, see `letsam.training.learning_rate`.
        workers: processes that read what is not in memory, >= 0; None: one fewer than cores for files, else none.
            With a number, what is random about a sample depends on the seed, the epoch and the sample alone.
        search: of "lr" and "weight_decay", what Optuna tunes for each method; None: nothing.
        search_trials: >= 1, the trials of each method; None: 20 with `search`.
        search_pruner: "median", "halving" or "none"; None: "median" with `search`.
        data: what identifies the task's data; `for_task` sets it.
        name: the task's own name; `for_task` sets it, and it is no option.

    Raises:
        ValueError, TypeError: an option that is out of range or of the wrong type; the message names it.
    """

    task: str
    methods: tuple[Method, ...] = DEFAULT_METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int | None = None
    batch_size: int | None = None
    rho: float | None = None
    label_noise: float = 0.0
    validation_share: float = 0.1
    folds: int | None = None
    validation_shift: str | None = None
    deployed: str | None = None
    learned_shift: str | None = None
    evaluate_shift: str | None = None
    refit: bool = True
    release: float | None = None
    train_size: int | None = None
    data_dir: str | None = None
    model: str | None = None
    precision: str | None = None
    accumulate: int = 1
    max_grad_norm: float | None = None
    data_options: DataOptions | None = None
    model_options: ModelOptions | None = None
    found_lr: float | None = None
    workers: int | None = None
    search: tuple[str, ...] | None = None
    search_trials: int | None = None
    search_pruner: str | None = None
    data: DataRecord | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        for method in self.methods:
            if not isinstance(method, Method):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"`methods` must be of `Method` objects (see `Method.parse`), got {method!r}")
        for name, values in (("methods", self.methods), ("seeds", self.seeds)):
            if not values:
                raise ValueError(f"`{name}` must name at least one, got none")
            texts = [str(value) for value in values]
            if len(set(texts)) < len(texts):
                raise ValueError(f"`{name}` must not repeat, got {', '.join(texts)}")
        for seed in self.seeds:
            checks.seed("seeds", seed)
        for name in ("epochs", "batch_size", "train_size"):
            if getattr(self, name) is not None:
                checks.whole(name, getattr(self, name), 1)
        checks.whole("accumulate", self.accumulate, 1)
        if self.folds is not None:
            checks.whole("folds", self.folds, 2)
        if self.release is not None:
            if not 0 < checks.number("release", self.release) < 1:
                raise ValueError(f"`release` must be between 0 and 1, got {self.release}")
            if self.folds is not None:
                raise ValueError(f"`release` must not be given with `folds`, got {self.release} and {self.folds} folds")
        if self.evaluate_shift is not None:
            shifts_to_test(self.evaluate_shift)
        if self.validation_shift == AUTO and self.deployed is None:
            raise ValueError("`validation_shift` = auto needs `deployed`, a file or folder of inputs from operation")
        shift = self.learned_shift if self.validation_shift == AUTO else self.validation_shift
        if shift is not None and Mixture.parse(shift, name="validation_shift").resampling and self.folds:
            raise ValueError("`validation_shift` must not resample labels or groups with `folds`")
        if self.workers is not None:
            checks.whole("workers", self.workers, 0)
        self._check_search()
        if self.precision is not None:
            checks.choice("precision", self.precision, PRECISIONS)
        if self.model is not None and (not isinstance(self.model, str) or not self.model):
            raise ValueError(f"`model` must be the name of a model, got {self.model!r}")
        for name in ("task", "model"):
            text = getattr(self, name)
            if text is not None and encodable(text) != text:  # `results.json` could not hold it
                raise ValueError(f"`{name}` must be Unicode text, got {text!r}")
        for name in ("rho", "max_grad_norm"):
            if getattr(self, name) is not None:
                checks.positive(name, getattr(self, name))
        if not 0 <= checks.number("label_noise", self.label_noise) < 1:
            raise ValueError(f"`label_noise` must be at least 0 and below 1, got {self.label_noise}")
        if not 0 < checks.number("validation_share", self.validation_share) < 1:
            raise ValueError(f"`validation_share` must be between 0 and 1, got {self.validation_share}")

    def _check_search(self) -> None:
        if self.search is None:
            for name in ("search_trials", "search_pruner"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` needs `search`, which names what is tuned, got {getattr(self, name)!r}")
            return
        if not self.search or len(set(self.search)) < len(self.search) or not set(self.search) <= {*SEARCHED}:
            hint = "".join(did_you_mean(name, SEARCHED) for name in self.search if name not in SEARCHED)
            raise ValueError(f"`search` must name some of {', '.join(SEARCHED)}, got {', '.join(self.search)!r}{hint}")
        for name, default in (("search_trials", SEARCH_TRIALS), ("search_pruner", PRUNERS[0])):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        checks.whole("search_trials", self.search_trials, 1)
        checks.choice("search_pruner", self.search_pruner, PRUNERS)

    def load_task(self) -> Task:
        """Load the task that these options name, or make it of files of data.

        Raises:
            ValueError: there is no such task, or the files cannot be used; one line that says what was expected.
        """
        if self.data_options is None:
            folder = None if self.data_dir is None else Path(self.data_dir)
            task = load_task(self.task, train_size=self.train_size, data_dir=folder, model=self.model)
            return self.with_optimizer(task)
        for name in ("train_size", "data_dir"):
            if getattr(self, name) is not None:
                raise ValueError(f"`{name}` must not be given with a file or folder of data, got {getattr(self, name)}")
        return self.with_optimizer(data_task(self.data_options, self.model_options or ModelOptions()))

    def with_optimizer(self, task: Task) -> Task:
        """The task with the base optimizer of these options."""
        optimizer = with_options(task.optimizer, self.model_options or ModelOptions(), self.found_lr)
        return task if optimizer is task.optimizer else dataclasses.replace(task, optimizer=optimizer)

    def for_task(self, task: Task) -> TrialConfig:
        """The same options with the defaults of the task filled in, for the record."""
        for name in ("folds", "release"):
            if getattr(self, name) is not None and task.validation is not None:
                given = getattr(self, name)
                raise ValueError(f"`{name}` must not be given for a task with validation data of its own, got {given}")
        if self.folds is not None and task.groups is not None and task.times is not None:
            raise ValueError("`folds` must not be given with both groups and times: a fold is groups, or a period")
        if self.evaluate_shift is not None:
            check_shifted_tests(task, self.evaluate_shift)
        return dataclasses.replace(
            self,
            epochs=self.epochs or task.epochs,
            batch_size=self.batch_size or task.batch_size,
            refit=self.refit and self.release is None,
            data=DataRecord.of(task),
            name=task.name,
        )

    @property
    def identity(self) -> dict[str, Any]:
        """The options that a checkpoint must have been made with, as JSON values; not where the data lie."""
        values = {name: value for name, value in self.as_json().items() if name not in ("data_dir", "deployed")}
        if values["data_options"] is not None:
            values["data_options"] = {k: v for k, v in values["data_options"].items() if k not in PLACES}
        # Any number of workers reads the same samples. Without one, some tasks draw from the global generator.
        values["workers"] = "given" if self.workers is not None and self.data_options is None else None
        return values

    @property
    def split_options(self) -> dict[str, Any]:
        """The options of `make_splits`."""
        names = ("label_noise", "validation_share", "folds", "epochs", "release")
        shift = self.learned_shift or self.validation_shift
        return {**{name: getattr(self, name) for name in names}, "validation_shift": shift}

    def as_json(self) -> dict[str, Any]:
        """The options as JSON values; methods by their names."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "name"}
        data = None if self.data is None else self.data.as_json()
        texts = {"methods": [method.name for method in self.methods], "seeds": list(self.seeds)}
        options = {
            name: None if (given := getattr(self, name)) is None else given.as_json()
            for name in ("data_options", "model_options")
        }
        searched = {"search": None if self.search is None else list(self.search)}
        return {**values, **texts, **options, **searched, "data": data}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrialConfig:
        """The options that `as_json` wrote, without the record of the data.

        Example:
            >>> config = TrialConfig(task="digits", epochs=3, methods=(Method.parse("sam:0.1"),))
            >>> TrialConfig.from_json(config.as_json()) == config
            True
        """
        known = {field.name for field in dataclasses.fields(cls)} - {"data", "name"}
        given = {name: value for name, value in values.items() if name in known}
        given |= {"methods": tuple(map(Method.parse, values["methods"])), "seeds": tuple(values["seeds"])}
        for name, kind in (("data_options", DataOptions), ("model_options", ModelOptions)):
            if given.get(name) is not None:
                given[name] = kind.from_json(given[name])
        if given.get("search") is not None:
            given["search"] = tuple(given["search"])
        return cls(**given)

    def check_continues(self, earlier: Mapping[str, Any], *, more_epochs: bool = False) -> None:
        """Raise unless runs with these options can be added to results with the options `earlier`.

        Methods and seeds may differ; with `more_epochs` there may be more epochs than earlier.

        Raises:
            ValueError: naming the first option that differs, or the data if they do.
        """
        for name, value in self.as_json().items():
            found = earlier.get(name)
            if name == "epochs" and more_epochs and isinstance(found, int) and found < value:
                continue
            if name not in _CHECKED_OTHERWISE and earlier.get(name) != value:
                raise ValueError(f"holds another trial: its {name} is {earlier.get(name)!r}, got {value!r}")
        if self.data_options is not None:
            self.data_options.check_equals(earlier.get("data_options"))
        elif (self.workers is None) != (earlier.get("workers") is None):
            raise ValueError(f"holds another trial: its workers is {earlier.get('workers')!r}, got {self.workers!r}")
        if self.data is not None and (difference := self.data.difference(earlier.get("data"))):
            raise ValueError(f"holds runs on other data: {difference}")
