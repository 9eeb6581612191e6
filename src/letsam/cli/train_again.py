"""`letsam train --from MODEL`: a model is trained again as its folder says, and its weights are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from letsam.cli import options
from letsam.cli.live import live_trial
from letsam.cli.terminal import interruptible, print_line, print_note, print_results
from letsam.results import locked_folder

if TYPE_CHECKING:
    from letsam.model_folder import VersionRecord
    from letsam.operation.champion import Champion
    from letsam.training.config import TrialConfig

__all__ = ["train_again"]

_ALLOWED = ("task", "out", "resume", "device", "log", "test", "language")
"""Options that do not change what is trained."""


def train_again(
    model: Path,
    given: tuple[Any, ...],
    further: dict[str, Any],
    train: Callable[[TrialConfig, Path], None],
) -> int:
    """Train a model again.

    Args:
        model: as `letsam.model_folder.model_place` takes it.
        given: the groups of options of `letsam train`; with ``--from``, those that change the training are refused.
        further: its own options by name, None where they are not given.
        train: trains a model from its initial weights into a folder.

    Returns:
        The exit status: 0 for the same weights, 1 for others.
    """
    import torch

    from letsam.model_folder import version_of
    from letsam.model_folder.model_places import FOLDER
    from letsam.model_folder.same_weights import weight_difference
    from letsam.operation.champion import Champion
    from letsam.operation.repeating import check_training_data, differing_versions, repeated_options
    from letsam.training.data_record import DataRecord
    from letsam.training.devices import make_fabric
    from letsam.training.trial import environment

    _check_given(given, further)
    run, data = given[0], given[1]
    champion = Champion.read(model)
    own = champion.place.parent if champion.place.name == FOLDER else champion.place
    folder = run.out or own.with_name(f"{own.resolve().name}-again")
    threads = champion.results.environment.get("threads")
    if isinstance(threads, int) and threads != torch.get_num_threads():
        print_note(f"threads: {threads}, as the model was trained with")
        torch.set_num_threads(threads)
    record = version_of(champion.place)
    test = None if data.test is None else str(data.test)
    if record is not None and record.made_by == "retune":
        _retune_again(champion, record, run, test, folder)
    else:
        config = repeated_options(champion, run.task or None, test)
        loaded = config.load_task()
        check_training_data(champion, config.for_task(loaded), DataRecord.of(loaded))
        train(config, folder)
    found = weight_difference(champion.place, folder / FOLDER)
    if found.same:
        print_line(f"the same weights, bit for bit, as {champion.place}: {found.tensors} tensors")
        return 0
    print_line(
        f"other weights than {champion.place}: {found.differing} of {found.tensors} tensors differ, by at most "
        f"{found.largest:.2g}"
    )
    fabric = make_fabric(run.device, precision=champion.options.precision)
    differing = differing_versions(champion, environment(fabric))
    print_line(f"what differs: {'; '.join(differing)}" if differing else "no recorded version differs")
    return 1


def _check_given(given: tuple[Any, ...], further: dict[str, Any]) -> None:
    for group in given:
        for field in dataclasses.fields(group):
            if field.name not in _ALLOWED and getattr(group, field.name) != field.default:
                raise ValueError(_not_with_from(field.name))
    for name, value in further.items():
        if value is not None:
            raise ValueError(_not_with_from(name))


def _not_with_from(name: str) -> str:
    return f"`--{name.replace('_', '-')}` must not be given with --from, as the model says how it was trained"


def _retune_again(
    champion: Champion, record: VersionRecord, run: options.RunArguments, test: str | None, folder: Path
) -> None:
    """Train a version again from its parent, into the folder."""
    from letsam.model_folder.model_places import FOLDER
    from letsam.model_folder.model_writing import TrainedModel
    from letsam.operation.new_data import NewData
    from letsam.operation.repeating import repeated_plan
    from letsam.operation.retune_runs import RetuneRuns
    from letsam.reports.html import write_report
    from letsam.training.methods import PlannedRun
    from letsam.training.trial import REPORT, RESULTS, environment, open_results

    recorded = record.options["retune"]
    moved = NewData(run.task or champion.options.task, test or recorded["test"], recorded["old"])
    plan = repeated_plan(champion, record, moved, run.device)
    with locked_folder(folder):
        results = open_results(
            folder, plan.config, environment(plan.fabric), plan.tuned.task.inferred, resume=run.resume
        )
        runs = RetuneRuns(plan.tuned, plan.config, plan.compared, plan.fabric, folder, plan.champion.fingerprint)
        challenger = next(one for one in plan.compared if one.method.name == champion.run.method)
        planned = PlannedRun(challenger.method, record.seed)
        nothing = dataclasses.replace(results, config=plan.recorded, runs=())
        state: Callable[[], str] = lambda: "the run is not finished"  # noqa: E731
        with interruptible(state), live_trial(nothing, [planned], shown=True) as live:
            training = runs.trained(challenger, record.seed, callback=live.epoch)
        finished = training.finish()
        finished.save_predictions(folder)
        results = dataclasses.replace(nothing, runs=(finished.run,))
        results.save(folder / RESULTS)
        write_report(results, folder / REPORT, run.language)
        print_results(results)
        model = TrainedModel.of(training, results, champion.config["chosen_by"])
        again = dataclasses.replace(record, options=results.config)
        print_line(f"model: {model.save_as(folder / FOLDER, champion.export, again)}")
