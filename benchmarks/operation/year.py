"""A year of operation: each month a batch, its labels a month later, and perhaps another version of the model.

All re-training is that of `letsam retune`, on the last three months that have labels. Of the monthly policies, one
challenger alone is trained, and it always replaces the model. The policy `letsam retune` waits for an alarm of the
watch, trains all challengers with three seeds, and replaces the model if the verdict is go. After a verdict it waits
for three months, so that no data are used for two verdicts.
"""

from __future__ import annotations

import contextlib
import functools
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from benchmarks.harness import Row
from benchmarks.operation.worlds import MONTHS, World, joined
from letsam import load
from letsam.cli import run
from letsam.model_folder import model_place
from letsam.model_folder.model_writing import TrainedModel
from letsam.model_folder.version_record import VersionRecord, measured_numbers
from letsam.operation import Watch, WatchRecord, retune
from letsam.operation.challengers import AFRESH, BASE, OLD, RETUNED
from letsam.operation.champion import Champion
from letsam.operation.expected_accuracy import right_answers
from letsam.operation.new_data import NewData, TunedTask
from letsam.operation.retune_plan import RetuneOptions, RetunePlan, training_rate
from letsam.operation.retune_runs import RetuneRuns
from letsam.results import Results
from letsam.training.trial import environment

NEVER, COMMAND = "never", "letsam retune"
MONTHLY = (BASE, OLD, RETUNED)
POLICIES = (NEVER, *MONTHLY, COMMAND)
WINDOW = 3  # months with labels that a re-training sees
SEEDS = (0, 1, 2)  # of the command; the fewest that it takes
EPOCHS, LR_SHARE = 5, 0.1  # of each re-training; not today's defaults, but those of the years on record


@dataclass(frozen=True)
class Month(Row):
    """A month under a policy."""

    parts = ("world", "policy", "seed", "month")

    world: str
    policy: str
    seed: int
    month: int  # from 1
    version: int  # that was in use; 1 is the first model
    rho: float | None  # its last radius
    held_out: float  # its accuracy on its own test data, 0 to 1
    accuracy: float  # on the batch, 0 to 1
    expected: float | None  # accuracy expected by the watch, before there are labels
    drift: list[str] | None  # alarms when the batch came; None: not watched
    late: list[str] | None  # alarms when the labels of the month before came
    retuned: str | None  # at the end of the month: "replaced", or the verdict of the command
    passes: int  # gradients of batches in the re-training
    seconds: float  # of processor time of the re-training


@dataclass(frozen=True)
class Begun:
    """A year before its first month: the first model, and the data of the months; its folder is removed with it."""

    folder: tempfile.TemporaryDirectory[str]
    model: Path
    months: tuple[Path, ...]


@functools.lru_cache(maxsize=4)
def begun(world: World, seed: int) -> Begun:
    """Write the data, and train the first model; once for all policies."""
    holder = tempfile.TemporaryDirectory(prefix="letsam-year-")
    folder = Path(holder.name)
    training, months = world.make(folder, seed, world.train, world.monthly)
    options = ("--method", "lets-sam", "--seed", str(seed), "--no-audit", "--device", "cpu")
    with without_pages():
        _letsam("train", str(training), *world.options, *options, "--out", str(folder / "first"))
    return Begun(holder, model_place(folder / "first"), tuple(months))


@contextlib.contextmanager
def without_pages() -> Iterator[None]:
    """Reports and pages of watches, which nobody reads here, are not written: they take longer than the measures."""
    pages = ("letsam.reports.html.write_report", "letsam.operation.watch_page.write_watch_page")
    with contextlib.ExitStack() as stack:
        for page in pages:
            stack.enter_context(mock.patch(page, return_value=None))
        yield


def operated(name: str, policy: str, seed: int, year: Begun) -> list[Month]:
    """Go through the year."""
    with tempfile.TemporaryDirectory(prefix="letsam-year-") as place, without_pages():
        return _operated(name, policy, seed, year, Path(place))


def _operated(name: str, policy: str, seed: int, year: Begun, folder: Path) -> list[Month]:
    model, version, found = year.model, 1, list[Month]()
    asked_last = -WINDOW  # month of the last verdict
    for month, data in enumerate(year.months, start=1):
        held_out, rho, accuracy = _measured(model, data)
        drift: WatchRecord | None = None
        late: WatchRecord | None = None
        if policy in (NEVER, COMMAND):
            watch = Watch(model, out=folder / f"watch-{version:02}")
            drift = watch.observe(data)
            late = watch.observe(year.months[month - 2], labels=True) if month > 1 else None
        labelled = year.months[max(0, month - 1 - WINDOW) : month - 1]
        alarmed = any(record is not None and record.alarmed for record in (drift, late))
        due = policy in MONTHLY or (policy == COMMAND and alarmed and month >= asked_last + WINDOW)
        outcome, passes, started = None, 0, time.process_time()
        if due and labelled and month < MONTHS:
            new = joined(labelled, folder / f"labelled-{month:02}")
            again: Callable[..., tuple[Path, str, int]] = _commanded if policy == COMMAND else _replaced
            following, outcome, passes = again(model, new, folder, policy, seed, version + 1)
            version += following != model
            asked_last = month
        else:
            following = model
        seconds = time.process_time() - started if outcome else 0.0
        expected = None if drift is None else drift.metrics.get("expected_accuracy")
        found.append(
            Month(
                world=name,
                policy=policy,
                seed=seed,
                month=month,
                version=version - (following != model),
                rho=rho,
                held_out=held_out,
                accuracy=accuracy,
                expected=None if expected is None else expected.value,
                drift=_codes(drift),
                late=_codes(late),
                retuned=outcome,
                passes=passes,
                seconds=seconds,
            )
        )
        model = following
    return found


def _measured(model: Path, data: Path) -> tuple[float, float | None, float]:
    """Accuracy on its test data, last radius, and accuracy on the month."""
    loaded = load(model, device="cpu")
    targets = loaded.targets(str(data))
    right = right_answers(loaded.predict(str(data)).outputs, targets.values, loaded.kind)
    record = Results.load(model / "results.json").runs[0]
    return record.test_accuracy, record.rho_final, float(right.mean())


def _codes(record: WatchRecord | None) -> list[str] | None:
    return None if record is None else [alarm.code for alarm in record.alarms]


def _replaced(model: Path, data: Path, folder: Path, policy: str, seed: int, version: int) -> tuple[Path, str, int]:
    """Train one challenger, which becomes the model."""
    asked = RetuneOptions(
        radius=AFRESH,
        epochs=EPOCHS,
        lr=_learning_rate(model, data),
        seeds=(seed, seed + 1, seed + 2),  # of which one is trained
        validation_share=0.1,
        evaluate_shift=None,
        minimum_effect=0.0,
    )
    plan = RetunePlan.of(Champion.read(model), NewData(str(data)), asked, "cpu")
    (challenger,) = (one for one in plan.compared if one.role == policy)
    runs = RetuneRuns(
        plan.tuned, plan.config, (challenger,), plan.fabric, folder / f"runs-{version}", plan.champion.fingerprint
    )
    training = runs.trained(challenger, seed)
    result = training.result()
    results = Results(plan.config.task, plan.recorded, environment(plan.fabric), (result,), plan.tuned.task.inferred)
    record = VersionRecord(
        version=version,
        parent=plan.champion.fingerprint,
        made_by="retune",
        data=plan.data,
        radius={"initial": result.rho_initial, "final": result.rho_final},
        seed=seed,
        options=results.config,
        numbers=measured_numbers(result),
    )
    place = TrainedModel.of(training, results).save_as(folder / f"version-{version:02}", None, record)
    return place, "replaced", result.gradient_passes


def _commanded(model: Path, data: Path, folder: Path, policy: str, seed: int, version: int) -> tuple[Path, str, int]:
    """`letsam retune`; the model is the current version of the folder."""
    versions = folder / "versions"
    where = versions if versions.exists() else model
    with contextlib.redirect_stdout(io.StringIO()):
        report = retune(
            where,
            data,
            out=versions,
            radius=AFRESH,
            epochs=EPOCHS,
            lr=_learning_rate(where, data),
            seeds=tuple(seed + one for one in SEEDS),
            device="cpu",
        )
    passes = sum(one.gradient_passes for one in report.results.runs)
    return (model_place(versions) if report.current else model), report.promotion.verdict, passes


def _learning_rate(model: Path, data: Path) -> float:
    """A part of that with which the first model was trained."""
    champion = Champion.read(model)
    return LR_SHARE * training_rate(champion, TunedTask.of(champion, NewData(str(data))))


def _letsam(*arguments: str) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = run(arguments)
    if status:
        raise RuntimeError(f"letsam {' '.join(arguments)}: exit status {status}: {said.getvalue()}")
