"""The runs of a re-tuning: the model in use as it is, and each challenger with each seed, with checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric

from letsam.operation.challengers import Challenger
from letsam.operation.champion import CHAMPION
from letsam.operation.new_data import TunedTask
from letsam.results import Results
from letsam.results.metric_units import ON_OLD_DATA
from letsam.results.predicted import predictions_file
from letsam.training.checkpoint_file import load_checkpoint, save_checkpoint
from letsam.training.config import TrialConfig
from letsam.training.evaluation import evaluate_on
from letsam.training.feed import Batches
from letsam.training.loop import Training
from letsam.training.methods import KINDS, Method, PlannedRun
from letsam.training.predictions import Finished
from letsam.training.rehearsal import rehearse
from letsam.training.sampling import SplitCache, Splits
from letsam.training.trial import RESULTS, EpochCallback

__all__ = ["RetuneRuns"]


@dataclass(frozen=True)
class RetuneRuns:
    """All runs of a re-tuning. All of them hold out the same validation data, so that these can choose between them.

    Args:
        tuned: the task, with the learning rate of the re-tuning.
        config: the options, with the defaults of the task filled in.
        compared: the challengers.
        fabric: where it runs.
        folder: for the results and checkpoints.
        parent: fingerprint of the model in use.
    """

    tuned: TunedTask
    config: TrialConfig
    compared: tuple[Challenger, ...]
    fabric: Fabric
    folder: Path
    parent: str

    @property
    def plan(self) -> list[PlannedRun]:
        """All runs: seed by seed, the model in use first."""
        as_it_is = Method(CHAMPION, KINDS["sgd"], None)
        methods = [as_it_is, *(one.method for one in self.compared)]
        return [PlannedRun(method, seed) for seed in self.config.seeds for method in methods]

    def rehearse(self) -> None:
        """Try a batch with each challenger.

        Raises:
            ValueError: what its first epoch or evaluation would have raised.
        """
        cache = SplitCache(self.tuned.task, **self.config.split_options)
        runs = [PlannedRun(one.method, self.config.seeds[0]) for one in self.compared]
        rehearse(self.config, self.fabric, cache, runs)

    def missing(self, results: Results, callback: EpochCallback | None = None) -> Iterator[Results]:
        """Do what is missing in the results; save and yield them after every run.

        Args:
            results: so far.
            callback: called after every epoch.
        """
        known = {run.key for run in results.runs}
        cache = SplitCache(self.tuned.task, **self.config.split_options)
        for row in self.plan:
            if row.key in known:
                continue
            splits = cache.get(row.seed, hold_out=True)
            challenger = next((one for one in self.compared if one.method == row.method), None)
            if challenger is None:  # the model in use, measured as a run of no step
                training = Training(self.tuned.task, row.method, row.seed, self.config, self.fabric, splits=splits)
                training.record()
            else:
                training = self.trained(challenger, row.seed, splits, callback)
            finished = self._measured(training)
            finished.save_predictions(self.folder)
            results = results.with_run(finished.run)
            results.save(self.folder / RESULTS)
            if challenger is not None and row.seed != self.config.seeds[0]:
                self.checkpoint(row.name, row.seed).unlink(missing_ok=True)
            yield results

    def trained(
        self, challenger: Challenger, seed: int, splits: Splits | None = None, callback: EpochCallback | None = None
    ) -> Training:
        """A finished run; it goes on from its checkpoint if there is one."""
        splits = splits or SplitCache(self.tuned.task, **self.config.split_options).get(seed, hold_out=True)
        method = challenger.method
        training = Training(self.tuned.task, method, seed, self.config, self.fabric, splits=splits)
        challenger.prepare(training)
        path = self.checkpoint(method.name, seed)
        identity = {**self.config.identity, "method": method.name, "seed": seed, "parent": self.parent}
        if path.exists():
            training.load_state_dict(load_checkpoint(path, identity, self.config.data))
        while not training.finished:
            training.advance()
            save_checkpoint(path, training.state_dict(), identity)
            if callback:
                callback(PlannedRun(method, seed), training.epoch, training.epochs)
        return training

    def checkpoint(self, method: str, seed: int) -> Path:
        """The checkpoint of a run; that of the first seed is kept until the next version is written."""
        return self.folder / "checkpoints" / f"{Path(predictions_file(method, seed)).stem}.pt"

    def _measured(self, training: Training) -> Finished:
        """The record of a run, with the main metric on old test data as a further one."""
        finished, old = training.finish(), self.tuned.old
        if old is None:
            return finished
        batches = Batches(old.test, self.fabric.device, old.collate)
        value = evaluate_on(old, training.model, batches, whole=True).metric
        metrics = {**finished.run.metrics, f"{old.metric_name}{ON_OLD_DATA}": value}
        return dataclasses.replace(finished, run=dataclasses.replace(finished.run, metrics=metrics))
