"""The records of a trial: one `Run` for each method and seed, and the `Results` that hold them.

JSON has no NaN: a non-finite number (of a run that diverged) is written as ``null``. ``null`` is read as NaN where a
number is always expected, and as None where a method may have no such value (a radius for SGD, a validation loss
for a method that holds nothing out).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from letsam.results import schema
from letsam.results.files import write_atomically
from letsam.results.summaries import Summary, finite_mean, summarize

__all__ = ["Results", "Run"]

History = Mapping[str, Sequence[Any]]
"""Columns of numbers or None; with many radii, ``rho_schedule`` has a list of numbers for each step."""


@dataclass(frozen=True)
class Run:
    """One finished training run: one method with one seed.

    Args:
        method: its name, such as ``"sgd"``, ``"sam:0.1"`` or ``"lets-sam+refit"``.
        seed: what the splits, initial weights and batch order depend on.
        rho_initial: the radius before the first step; None for methods without one.
        rho_final: the radius after the last step; None for methods without one.
        test_accuracy: fraction in [0, 1].
        test_loss: mean loss on the test set after training.
        train_loss: mean loss on the training set after training.
        validation_loss: mean loss on the task's validation data or the held-out share; None where there is neither.
        generalization_gap: ``test_loss - train_loss``.
        gradient_passes: forward and backward passes; a refit counts those of its search as well.
        seconds: wall-clock time of training alone.
        history: columns by name, see ``docs/results-schema.md``.
        steps: optimizer steps of this run (of a refit, of its own); 0 in files that lack the field.
        skipped_steps: how many of them changed nothing, because a loss or gradient was not finite.
        radius_warning: what the run has shown about its learned radius, see `letsam.radius_warning`; None: nothing.
        metric: what ``test_accuracy`` holds, "accuracy" in most tasks; such as "BLEU", then a fraction of 1 as well.
        metrics: further metrics on the test set after training, by name; empty where the task has none.
        lower_is_better: whether a lower ``test_accuracy`` is better, as for an error.
        shifted: for the test data as they are (``"clean"``) and under each shift of ``evaluate_shift``: ``metric``,
            ``loss`` and ``calibration_error`` (None where it is not defined); empty where that was not asked for.
        continued_at: after which epochs the run went on with another number of planned epochs, as ``--epochs`` with
            ``--resume`` does; from there on, the learning rate was that of a run with so many.
        hyperparameters: what a search has chosen for the base optimizer of this method, by name; empty without one.
    """

    method: str
    seed: int
    rho_initial: float | None
    rho_final: float | None
    test_accuracy: float
    test_loss: float
    train_loss: float
    validation_loss: float | None
    generalization_gap: float
    gradient_passes: int
    seconds: float
    history: History
    metric: str = "accuracy"
    steps: int = 0
    skipped_steps: int = 0
    radius_warning: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    lower_is_better: bool = False
    hyperparameters: Mapping[str, float] = field(default_factory=dict[str, float])
    continued_at: tuple[int, ...] = ()
    shifted: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict[str, Mapping[str, float | None]])

    @property
    def key(self) -> tuple[str, int]:
        """The method and the seed, which no other run of the same results has."""
        return self.method, self.seed

    @property
    def radii(self) -> list[tuple[float, ...]]:
        """The learned radii of every step, from ``rho_schedule``; NaN where not finite, empty where none was learned.

        Example:
            >>> history = {"rho_schedule": [[0.1, 0.3], [0.2, None]]}
            >>> Run("lets-sam-per-layer", 0, 0.1, 0.2, 0.9, 0.4, 0.1, 0.2, 0.3, 100, 1.5, history).radii
            [(0.1, 0.3), (0.2, nan)]
        """
        schedule = self.history.get("rho_schedule", ())
        steps: list[Sequence[float | None]] = [step if isinstance(step, Sequence) else (step,) for step in schedule]
        return [tuple(math.nan if rho is None else rho for rho in step) for step in steps]

    @property
    def mean_radii(self) -> list[float]:
        """The mean of the learned radii at every step; NaN where one of them is not finite."""
        return [finite_mean(step) for step in self.radii]

    @property
    def diverged(self) -> bool:
        """Whether a number that every run has is not finite."""
        return not all(map(math.isfinite, (self.test_accuracy, self.test_loss, self.train_loss)))


@dataclass(frozen=True)
class Results:
    """Everything a trial has to show: what was asked for, where it ran, and the runs that have finished.

    Args:
        task: the task's name.
        config: the options of the trial, JSON values only.
        environment: versions, platform and device, JSON values only.
        runs: the finished runs, in the order in which they finished.
        inferred: what was inferred from files of data, in pairs of what and its value; empty for other tasks.
        name: the task's own name, which `task`, as the user gave it, need not be; None in older files.
        decision: the last verdict on the trial, see `letsam.decision.Decision`; None before there is one.
        audit: what an audit of the data has found, see ``docs/results-schema.md``; None where there was none.

    Example:
        >>> empty = Results(task="digits", config={}, environment={}, runs=())
        >>> run = Run("sgd", 0, None, None, 0.9, 0.4, 0.1, None, 0.3, 100, 1.5, {})
        >>> [r.test_accuracy for r in empty.with_run(run).runs]
        [0.9]
    """

    task: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    runs: tuple[Run, ...] = ()
    inferred: tuple[tuple[str, str], ...] = ()
    name: str | None = None
    decision: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Read a ``results.json``.

        Raises:
            ValueError: the file is missing, is not JSON, or does not follow the schema; one line that names
                the file, what was expected and what came.
        """
        path = Path(path)
        try:
            value = json.loads(path.read_text(encoding="utf-8"), parse_constant=schema.refuse_constant)
        except FileNotFoundError:
            raise ValueError(f"{path}: expected a results file, but there is no such file") from None
        except OSError as error:
            raise ValueError(f"{path}: expected a readable results file, got: {error.strerror}") from None
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON, got: {error}") from None
        except RecursionError:
            levels = f"at most {schema.LEVELS} levels of lists and objects"
            raise ValueError(f"{path}: expected {levels}, got far more") from None
        try:
            fields = schema.checked(value)
        except schema.SchemaError as error:
            raise ValueError(f"{path}: {error}") from None
        return Results(**{**fields, "runs": tuple(Run(**run) for run in fields["runs"])})

    def save(self, path: str | Path) -> None:
        """Write ``results.json`` so that a reader sees either the old file or the new one, never a part."""
        head: dict[str, Any] = {
            "schema": schema.SCHEMA,
            "task": self.task,
            "config": dict(self.config),
            "environment": dict(self.environment),
        }
        if self.name is not None:
            head["name"] = self.name
        if self.inferred:
            head["inferred"] = self.inferred
        if self.decision is not None:
            head["decision"] = self.decision
        if self.audit is not None:
            head["audit"] = self.audit
        fields = [f" {json.dumps(name)}: {schema.dumped(value)}" for name, value in head.items()]
        # vars() rather than asdict(): asdict would copy every history only to throw the copy away
        runs = ",\n".join(f"  {schema.dumped(vars(run))}" for run in self.runs)
        fields.append(f' "runs": [\n{runs}\n ]' if runs else ' "runs": []')
        write_atomically(Path(path), "{\n" + ",\n".join(fields) + "\n}\n")

    def with_run(self, run: Run) -> Results:
        """Return results that hold `run` as well; it replaces a run of the same method and seed in place."""
        if any(old.key == run.key for old in self.runs):
            runs = tuple(run if old.key == run.key else old for old in self.runs)
        else:
            runs = (*self.runs, run)
        return dataclasses.replace(self, runs=runs)

    def summary(self) -> tuple[Summary, ...]:
        """The same as `summarize`."""
        return summarize(self)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods with at least one finished run, in order of first appearance."""
        return tuple(dict.fromkeys(run.method for run in self.runs))

    @property
    def title(self) -> str:
        """The task's own name, or what the user gave where it is not known."""
        return self.name or self.task

    @property
    def metric(self) -> str:
        """The name of what ``test_accuracy`` holds, such as "accuracy" or "BLEU"."""
        return self.runs[0].metric if self.runs else "accuracy"

    @property
    def lower_is_better(self) -> bool:
        """Whether a lower ``test_accuracy`` is better, as for an error."""
        return bool(self.runs) and self.runs[0].lower_is_better

    def runs_of(self, method: str) -> tuple[Run, ...]:
        """The runs of one method, in order."""
        return tuple(run for run in self.runs if run.method == method)
