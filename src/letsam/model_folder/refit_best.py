"""``--refit-best``: the best method of a trial, trained once more on all the training data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from lightning_fabric import Fabric

from letsam.model_folder.exporting import exported_file
from letsam.model_folder.manifest import check_manifest
from letsam.model_folder.model_loading import RESULTS
from letsam.model_folder.model_places import FOLDER
from letsam.model_folder.model_writing import TrainedModel
from letsam.model_folder.winner import winner_of
from letsam.results import MethodName, Results
from letsam.training.config import TrialConfig
from letsam.training.hyperparameter_search import with_values
from letsam.training.loop import Training
from letsam.training.methods import Method, PlannedRun
from letsam.training.sampling import SplitCache


def train_winner(
    config: TrialConfig,
    results: Results,
    splits: SplitCache,
    fabric: Fabric,
    callback: Callable[[PlannedRun, int, int], None] | None = None,
) -> TrainedModel:
    """Train the winner of a trial on all the training data.

    A learned radius replays the schedule that its run with the same seed has learned. With validation data of the
    task's own, nothing was held out, and with `release` it was given back: then it is learned again, unless the winner
    is a refit itself. All ranks must call it together.

    Args:
        config: of the trial.
        results: with all runs of the trial.
        splits: of the task.
        fabric: where it runs.
        callback: called after every epoch.

    Returns:
        The model, to be saved.

    Raises:
        ValueError: every method diverged.
    """
    winner = winner_of(results)
    name = MethodName.parse(winner.method)
    refit = name.refit or (name.learned and splits.task.validation is None and config.release is None)
    row = PlannedRun(Method.parse(name.search), winner.seed, refit=refit)
    searched = next(run for run in results.runs if run.key == row.search.key) if refit else None
    data = splits.get(row.seed, hold_out=row.method.is_learned and not refit)
    found = next(run for run in results.runs if run.key == (winner.method, winner.seed)).hyperparameters
    training = Training(with_values(splits.task, found), row.method, row.seed, config, fabric, searched, data)
    while not training.finished:
        training.advance()
        if callback:
            callback(row, training.epoch, training.epochs)
    trained = dataclasses.replace(training.result(), hyperparameters=found)
    record = dataclasses.replace(results, runs=(trained,), decision=None)
    return TrainedModel.of(training, record, winner.chosen_by, results.runs_of(winner.method))


def is_written(out: Path, results: Results, export: str | None) -> bool:
    """Whether ``OUT/model`` holds the winner of these results already, as `train_winner` would make it."""
    folder = out / FOLDER
    try:
        check_manifest(folder)
        written = Results.load(folder / RESULTS)
    except ValueError:
        return False
    winner = winner_of(results)
    search = MethodName.parse(winner.method).search
    (run,) = written.runs
    same = {**results.config, "methods": None, "seeds": None} == {**written.config, "methods": None, "seeds": None}
    exported = export is None or exported_file(folder, export).is_file()
    return same and exported and (MethodName.parse(run.method).search, run.seed) == (search, winner.seed)
