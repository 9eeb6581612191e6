"""`retune`: train a model again on new data, compare, and write the next version.

The files of a re-tuning are in ``DIR/retunes/vNNNN``, named after the version that it makes: ``retune.json`` with its
options, ``results.json``, the predictions, ``report.html``, and checkpoints while it lasts. A process that is killed at
any moment leaves a re-tuning that ``resume`` completes with the same numbers.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from letsam import checks
from letsam.decision import FEWEST_SEEDS
from letsam.model_folder.manifest import check_manifest, fingerprint
from letsam.model_folder.model_places import FOLDER, model_place, version_name
from letsam.model_folder.model_writing import TrainedModel
from letsam.model_folder.version_folder import VersionFolder
from letsam.model_folder.version_record import VersionRecord, measured_numbers, version_of
from letsam.operation.challengers import AFRESH, Challenger, RadiusHistory, challengers
from letsam.operation.champion import Champion
from letsam.operation.new_data import NewData, TunedTask
from letsam.operation.promotion import Promotion, promotion
from letsam.operation.retune_runs import RetuneRuns
from letsam.results import Results, locked_folder, remove_leftovers, write_atomically
from letsam.results.predicted import FOLDER as PREDICTIONS
from letsam.results.predicted import load_predictions
from letsam.results.schema import dumped
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.methods import PlannedRun
from letsam.training.trial import REPORT, RESULTS, environment, open_results

__all__ = ["EPOCHS", "LR_FACTOR", "RetuneReport", "retune"]

EPOCHS = 5
LR_FACTOR = 0.1
SEEDS = (0, 1, 2, 3, 4)
STATE, RETUNES = "retune.json", "retunes"
FORMAT = "letsam retune 1"

Progress = Callable[[Results, Sequence[PlannedRun]], AbstractContextManager[Any]]
"""Shows how far the runs are."""


@dataclass(frozen=True)
class RetuneReport:
    """What a re-tuning has found and written.

    Args:
        folder: of the versions.
        results: of the model in use and of all challengers.
        promotion: the verdict.
        version: the folder of the next version; None: every challenger diverged.
        current: whether the version is the current one now.
        page: the report.
    """

    folder: Path
    results: Results
    promotion: Promotion
    version: Path | None
    current: bool
    page: Path

    @property
    def exit_status(self) -> int:
        """Of `letsam retune`: 0 for go, 1 for no-go."""
        return 0 if self.promotion.verdict == "go" else 1


@dataclass(frozen=True)
class _Plan:
    """A re-tuning before its first run.

    Args:
        champion: the model in use.
        tuned: the task.
        config: the options of its runs.
        compared: the challengers.
        options: those of the re-tuning, as JSON values.
        data: the hashes of the data.
    """

    champion: Champion
    tuned: TunedTask
    config: TrialConfig
    compared: tuple[Challenger, ...]
    options: dict[str, Any]
    data: dict[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same when it is resumed."""
        return {"parent": self.champion.fingerprint, "options": self.options, "data": self.data["fingerprint"]}


def retune(
    model: str | Path,
    data: str | Path,
    *,
    out: str | Path | None = None,
    old: str | Path | None = None,
    test: str | Path | None = None,
    radius: str = AFRESH,
    epochs: int = EPOCHS,
    lr: float | None = None,
    seeds: tuple[int, ...] = SEEDS,
    validation_share: float = 0.1,
    evaluate_shift: str | None = None,
    minimum_effect: float = 0.0,
    promote: bool = True,
    resume: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> RetuneReport:
    """Train a model again on new data, from its weights, and write the best challenger as the next version.

    The model in use and the challengers are compared on test data that are held out of the new data, by the paired
    test of `letsam.decision.decide`. The challengers are the base optimizer, the old radius held fixed, and a radius
    that is learned again. The one with the lowest mean validation loss becomes the next version, with the verdict on
    it. It becomes the current version only if the verdict is go.

    Args:
        model: the folder of a model, of results, or of versions, whose current one is meant.
        data: a file or folder of the form of the training data; of a model of a task in code, such a task.
        out: the folder of the versions. None: that of the model; of a model that is in none, its own name with
            "-versions".
        old: earlier data that are mixed with the new ones. Metrics on their held-out part are reported.
        test: a file or folder with the test data; None: a part of the new data is held out.
        radius: "fresh": the radius is learned from its first value on; "continue": it goes on from its last one.
        epochs: passes over the data, >= 1.
        lr: learning rate at the beginning, > 0; None: a tenth of that of training.
        seeds: at least three; the seed of a run decides on its order of samples and on its validation data.
        validation_share: fraction of the new training data held out for the radius and the choice of the challenger.
        evaluate_shift: shifts of further tests, such as "noise,blur:2"; a challenger that is worse there is no go.
        minimum_effect: the gain that is worth having, >= 0, in points of an accuracy.
        promote: whether a version with the verdict go becomes the current one.
        resume: complete a re-tuning with these arguments that was interrupted; begin one where there is none.
        device: "auto", "cpu", "cuda" or "mps".
        progress: called with the results so far and all runs; a context manager that gives an object with the methods
            `epoch(run, epochs done, epochs)` and `finished(results)`, such as `letsam.cli.live.live_trial`.

    Returns:
        The verdict and what was written.

    Raises:
        ModelFolderError: the model was changed, or is of another version of letsam.
        DataError: the data lack a column, have a class that was never seen, or are empty.
        ValueError: an option out of range; an unfinished re-tuning without `resume`; another process writes to the
            folder of the versions. Nothing is written in any of these cases.
    """
    around = VersionFolder.around(model)
    folder = _versions_of(model, out)
    place = _interrupted_parent(folder) if resume and around is not None and Path(model) == around.folder else None
    plan, fabric = _planned(
        Champion.read(model if place is None else place),
        NewData(str(data), None if test is None else str(test), None if old is None else str(old)),
        radius=radius,
        lr=lr,
        evaluate_shift=evaluate_shift,
        minimum_effect=minimum_effect,
        epochs=checks.whole("epochs", epochs, 1),
        seeds=seeds,
        validation_share=validation_share,
        device=device,
    )
    with locked_folder(folder):
        versions = VersionFolder(folder)
        versions.check_holds(plan.champion.place)
        place, number = _place(versions, plan, resume=resume)
        for killed in (place, place / PREDICTIONS):
            if killed.is_dir():
                remove_leftovers(killed)
        runs = RetuneRuns(plan.tuned, plan.config, plan.compared, fabric, place, plan.champion.fingerprint)
        results = open_results(place, plan.config, environment(fabric), plan.tuned.task.inferred, resume=True)
        results = dataclasses.replace(results, config=_recorded(plan))
        if not results.runs:
            runs.rehearse()
        versions.begin(plan.champion.place)
        _save_state(place, plan)
        with (progress or _silent)(results, runs.plan) as shown:
            for finished in runs.missing(results, None if shown is None else shown.epoch):
                results = finished
                if shown is not None:
                    shown.finished(results)
        return _concluded(plan, runs, results, versions, number, promote=promote)


def _silent(results: Results, plan: Sequence[PlannedRun]) -> AbstractContextManager[None]:
    return nullcontext()


def _planned(
    champion: Champion,
    data: NewData,
    *,
    radius: str,
    lr: float | None,
    evaluate_shift: str | None,
    minimum_effect: float,
    device: str,
    seeds: tuple[int, ...],
    **options: Any,
) -> tuple[_Plan, Any]:
    """Read the data and check all options; nothing is written."""
    if len(seeds) < FEWEST_SEEDS:
        raise ValueError(f"`seeds` must be at least {FEWEST_SEEDS}, as fewer show nothing, got {len(seeds)}")
    checks.not_negative("minimum_effect", minimum_effect)
    if lr is not None:
        checks.positive("lr", lr)
    tuned = TunedTask.of(champion, data)
    recorded: Any = champion.results.config.get("retune") or {}
    trained_with = float(recorded.get("training_lr") or tuned.learning_rate)
    rate = lr if lr is not None else LR_FACTOR * trained_with
    tuned = tuned.with_learning_rate(rate)
    history = RadiusHistory.of(champion, tuned.task)
    compared = challengers(history, radius)
    config = dataclasses.replace(
        champion.options,
        task=data.path,
        methods=tuple(one.method for one in compared),
        seeds=seeds,
        rho=None,
        label_noise=0.0,
        folds=None,
        validation_shift=None,
        evaluate_shift=evaluate_shift,
        refit=False,
        release=None,
        train_size=None,
        data_dir=None,
        data_options=tuned.data_options,
        model_options=dataclasses.replace(champion.model_options, lr=rate),
        found_lr=None,
        search=None,
        search_trials=None,
        search_pruner=None,
        **options,
    ).for_task(tuned.task)
    fabric = make_fabric(device, precision=config.precision)
    asked = {
        "radius": radius,
        "lr": rate,
        "old": data.old,
        "test": data.test,
        "minimum_effect": float(minimum_effect),
        "training_lr": trained_with,
        "radius_history": history.as_json(),
        "roles": {one.method.name: one.role for one in compared},
    }
    return _Plan(champion, tuned, config, compared, asked, data.hashes(tuned)), fabric


def _recorded(plan: _Plan) -> dict[str, Any]:
    """The options in ``results.json``."""
    return {**plan.config.as_json(), "retune": {**plan.options, "parent": plan.champion.fingerprint}}


def _versions_of(model: str | Path, out: str | Path | None) -> Path:
    """The folder of versions: as given, that of the model, or one beside the model or its results."""
    around = VersionFolder.around(model)
    if out is not None or around is not None:
        return Path(out) if out is not None else cast(VersionFolder, around).folder
    place = model_place(model)
    own = place.parent if place.name == FOLDER else place
    return own.with_name(f"{own.resolve().name}-versions")


def _interrupted_parent(folder: Path) -> Path | None:
    """The model that an unfinished re-tuning began with: its version may have become the current one already."""
    begun = _begun(folder)
    state = _state(begun[-1]) if begun else {"finished": True}
    if state.get("finished"):
        return None
    places = VersionFolder(folder).versions.values()
    return next((place for place in places if fingerprint(place) == state["parent"]), None)


def _begun(folder: Path) -> list[Path]:
    """The folders of the re-tunings that have begun, in order."""
    retunes = folder / RETUNES
    return sorted(path for path in retunes.iterdir() if (path / STATE).is_file()) if retunes.is_dir() else []


def _place(versions: VersionFolder, plan: _Plan, *, resume: bool) -> tuple[Path, int]:
    """The folder of this re-tuning, which may have begun already, and the number of its version."""
    begun = _begun(versions.folder)
    last = begun[-1] if begun else None
    state = None if last is None else _state(last)
    if last is not None and state is not None:
        same = all(state.get(name) == value for name, value in plan.identity.items())
        if not state.get("finished"):
            if not resume:
                raise ValueError(
                    f"{last}: holds an unfinished re-tuning; add --resume to complete it, or remove this folder"
                )
            if not same:
                raise ValueError(f"{last}: holds an unfinished re-tuning with other {_difference(state, plan)}")
        if same and resume:
            return last, int(last.name[1:])
    taken = [*versions.versions, *(int(path.name[1:]) for path in begun), 1]
    number = max(taken) + 1
    return versions.folder / RETUNES / version_name(number), number


def _state(place: Path) -> Mapping[str, Any]:
    try:
        state: Any = json.loads((place / STATE).read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise ValueError(f"the format {state['format']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{place / STATE}: expected the state of a re-tuning, got {error!r}") from None
    return state


def _difference(state: Mapping[str, Any], plan: _Plan) -> str:
    """What differs from a re-tuning that has begun."""
    for name, value in plan.options.items():
        found = (state.get("options") or {}).get(name)
        if found != value:
            return f"options: {name} was {found!r}, got {value!r}"
    return "data" if state.get("data") != plan.identity["data"] else "model in use"


def _save_state(place: Path, plan: _Plan, **further: Any) -> None:
    state = json.loads(dumped({"format": FORMAT, **plan.identity, "finished": False, **further}))
    write_atomically(place / STATE, json.dumps(state, indent=1, ensure_ascii=False) + "\n")


def _concluded(
    plan: _Plan, runs: RetuneRuns, results: Results, versions: VersionFolder, number: int, *, promote: bool
) -> RetuneReport:
    """Decide, write the report and the next version, and make it the current one if it may be."""
    from letsam.reports.html import write_report

    predictions = load_predictions(runs.folder, [run.key for run in results.runs])
    candidates = [one.method.name for one in plan.compared]
    found = promotion(results, predictions, candidates, plan.options["minimum_effect"])
    results = dataclasses.replace(results, decision=found.held_out.as_json())
    results.save(runs.folder / RESULTS)
    write_report(results, runs.folder / REPORT)
    version = _write_version(plan, runs, results, versions, number, found)
    promoted = False
    if version is not None and found.verdict == "go" and promote:
        if versions.is_current(version):
            promoted = True
        elif fingerprint(model_place(versions.folder)) == plan.champion.fingerprint:
            versions.make_current(version)
            promoted = True
    _save_state(runs.folder, plan, finished=True, verdict=found.verdict)
    shutil.rmtree(runs.folder / "checkpoints", ignore_errors=True)
    return RetuneReport(versions.folder, results, found, version, promoted, runs.folder / REPORT)


def _write_version(
    plan: _Plan, runs: RetuneRuns, results: Results, versions: VersionFolder, number: int, found: Promotion
) -> Path | None:
    """Write the next version unless it is there; None where the run that it would be diverged."""
    place = versions.place(number)
    if place.is_dir():  # killed after it was written
        check_manifest(place)
        return place
    seed = plan.config.seeds[0]
    run = next(one for one in results.runs_of(found.candidate) if one.seed == seed)
    if run.diverged:
        return None
    challenger = next(one for one in plan.compared if one.method.name == found.candidate)
    training = runs.trained(challenger, seed)
    model = TrainedModel.of(training, dataclasses.replace(results, runs=(run,), decision=None), found.chosen_by)
    record = VersionRecord(
        version=number,
        parent=plan.champion.fingerprint,
        made_by="retune",
        data=plan.data,
        radius={"initial": run.rho_initial, "final": run.rho_final},
        seed=seed,
        options=results.config,
        numbers=measured_numbers(run),
        verdict=found.as_json(plan.champion.fingerprint),
    )
    model.save_as(place, plan.champion.export, record)
    assert version_of(place) is not None
    return place
