"""`retune`: train a model again on new data, compare, and write the next version.

The files of a re-tuning are in ``DIR/retunes/vNNNN``, named after the version that it makes: ``retune.json`` with its
options, ``results.json``, the predictions, ``report.html``, and checkpoints while it lasts. A process that is killed at
any moment leaves a re-tuning that ``resume`` completes with the same numbers.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from letsam.languages import ENGLISH, check_language
from letsam.model_folder.manifest import check_manifest, fingerprint
from letsam.model_folder.model_places import FOLDER, model_place
from letsam.model_folder.model_writing import TrainedModel
from letsam.model_folder.signatures import read_private_key, sign_model
from letsam.model_folder.version_folder import VersionFolder
from letsam.model_folder.version_record import VersionRecord, measured_numbers
from letsam.operation.challengers import AFRESH
from letsam.operation.champion import Champion
from letsam.operation.new_data import NewData
from letsam.operation.promotion import Promotion, promotion
from letsam.operation.retune_plan import EPOCHS, RetuneOptions, RetunePlan
from letsam.operation.retune_runs import RetuneRuns
from letsam.operation.retune_state import last_parent, place_of, save_state, was_finished
from letsam.results import Results, locked_folder, remove_leftovers
from letsam.results.predicted import FOLDER as PREDICTIONS
from letsam.results.predicted import load_predictions
from letsam.training.methods import PlannedRun
from letsam.training.trial import REPORT, RESULTS, environment, open_results

__all__ = ["RetuneReport", "retune"]

SEEDS = (0, 1, 2, 3, 4)

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
    sign: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    language: str = ENGLISH,
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
        lr: learning rate at the beginning, > 0; None: 0.3 times that of training.
        seeds: at least three; the seed of a run decides on its order of samples and on its validation data.
        validation_share: fraction of the new training data held out for the radius and the choice of the challenger.
        evaluate_shift: shifts of further tests, such as "noise,blur:2"; a challenger that is worse there is no go.
        minimum_effect: the gain that is worth having, >= 0, in points of an accuracy.
        promote: whether a version with the verdict go becomes the current one.
        sign: file of a private key; the next version is signed before it becomes the current one, see `letsam sign`.
        resume: complete a re-tuning with these arguments that was interrupted; begin one where there is none.
        device: "auto", "cpu", "cuda" or "mps".
        language: of the report, such as "ja".
        progress: called with the results so far and all runs; a context manager that gives an object with the methods
            `epoch(run, epochs done, epochs)` and `finished(results)`, such as `letsam.cli.live.live_trial`.

    Returns:
        The verdict and what was written.

    Raises:
        ImportError: Babel is not installed, and the language is not English.
        ModelFolderError: the model was changed, or is of another version of letsam.
        DataError: the data lack a column, have a class that was never seen, or are empty.
        ValueError: an option out of range; an unfinished re-tuning without `resume`; another process writes to the
            folder of the versions. Nothing is written in any of these cases.
    """
    check_language(language)
    folder = _versions_of(model, out)
    given = NewData(str(data), None if test is None else str(test), None if old is None else str(old))
    asked = RetuneOptions(
        radius=radius,
        epochs=epochs,
        lr=lr,
        seeds=seeds,
        validation_share=validation_share,
        evaluate_shift=evaluate_shift,
        minimum_effect=float(minimum_effect),
    )
    if sign is not None:
        read_private_key(sign)
    plan = _plan(Path(model), folder, given, asked, device, resume=resume)
    with locked_folder(folder):
        versions = VersionFolder(folder)
        versions.check_holds(plan.champion.place)
        place, number = place_of(versions, plan, resume=resume)
        for killed in (place, place / PREDICTIONS):
            if killed.is_dir():
                remove_leftovers(killed)
        runs = RetuneRuns(plan.tuned, plan.config, plan.compared, plan.fabric, place, plan.champion.fingerprint)
        results = open_results(place, plan.config, environment(plan.fabric), plan.tuned.task.inferred, resume=True)
        results = dataclasses.replace(results, config=plan.recorded)
        if not results.runs:
            runs.rehearse()
        versions.begin(plan.champion.place)
        save_state(place, plan, finished=False)
        with (progress or _silent)(results, runs.plan) as shown:
            for finished in runs.missing(results, None if shown is None else shown.epoch):
                results = finished
                if shown is not None:
                    shown.finished(results)
        return _concluded(plan, runs, results, versions, number, promote=promote, key=sign, language=language)


def _silent(results: Results, plan: Sequence[PlannedRun]) -> AbstractContextManager[None]:
    return nullcontext()


def _plan(model: Path, folder: Path, data: NewData, asked: RetuneOptions, device: str, *, resume: bool) -> RetunePlan:
    """The plan of a re-tuning, or of the last one if it is the same: its version may be the current one by now."""
    around = VersionFolder.around(model)
    parent = last_parent(folder) if resume and around is not None and model == around.folder else None
    if parent is not None:
        plan = RetunePlan.of(Champion.read(parent), data, asked, device)
        if was_finished(folder, plan) is not None or model_place(model).resolve() == parent.resolve():
            return plan
    return RetunePlan.of(Champion.read(model), data, asked, device)


def _versions_of(model: str | Path, out: str | Path | None) -> Path:
    """The folder of versions: as given, that of the model, or one beside the model or its results."""
    around = VersionFolder.around(model)
    if out is not None or around is not None:
        return Path(out) if out is not None else cast(VersionFolder, around).folder
    place = model_place(model)
    own = place.parent if place.name == FOLDER else place
    return own.with_name(f"{own.resolve().name}-versions")


def _concluded(
    plan: RetunePlan,
    runs: RetuneRuns,
    results: Results,
    versions: VersionFolder,
    number: int,
    *,
    promote: bool,
    key: str | Path | None,
    language: str,
) -> RetuneReport:
    """Decide, write the report and the next version, and make it the current one if it may be."""
    from letsam.reports.html import write_report

    predictions = load_predictions(runs.folder, [run.key for run in results.runs])
    candidates = [one.method.name for one in plan.compared]
    found = promotion(results, predictions, candidates, plan.options["minimum_effect"])
    results = dataclasses.replace(results, decision=found.held_out.as_json())
    results.save(runs.folder / RESULTS)
    write_report(results, runs.folder / REPORT, language)
    version = _write_version(plan, runs, results, versions, number, found)
    if version is not None and key is not None:
        sign_model(version, key)
    promoted = False
    if version is not None and found.verdict == "go" and promote:
        if versions.is_current(version):
            promoted = True
        elif fingerprint(model_place(versions.folder)) == plan.champion.fingerprint:
            versions.make_current(version)
            promoted = True
    save_state(runs.folder, plan, finished=True, verdict=found.verdict)
    shutil.rmtree(runs.folder / "checkpoints", ignore_errors=True)
    return RetuneReport(versions.folder, results, found, version, promoted, runs.folder / REPORT)


def _write_version(
    plan: RetunePlan, runs: RetuneRuns, results: Results, versions: VersionFolder, number: int, found: Promotion
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
    training, seeds = runs.trained(challenger, seed), results.runs_of(found.candidate)
    model = TrainedModel.of(training, dataclasses.replace(results, runs=(run,), decision=None), found.chosen_by, seeds)
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
    return place
