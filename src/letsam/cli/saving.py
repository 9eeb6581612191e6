"""The folder ``model`` of the commands: written after a run of `train`, or after a trial with ``--refit-best``."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from letsam.cli.terminal import interruptible, print_line, progress_bars
from letsam.results import Results, printable

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from letsam.training.config import TrialConfig
    from letsam.training.loop import Training
    from letsam.training.sampling import SplitCache


def save_run(training: Training, results: Results, folder: Path, export: str | None) -> None:
    """Write the model of `letsam train`; a network that cannot be written is told of, as its results are there.

    All ranks must call it together; the first one writes.
    """
    from letsam.model_folder.exporting import ExportError
    from letsam.model_folder.model_writing import TrainedModel

    try:
        model = TrainedModel.of(training, results)
        if training.fabric.is_global_zero:
            print_line(f"model: {model.save(folder, export)}")
    except ExportError:
        raise
    except (ValueError, RuntimeError) as error:
        if training.fabric.is_global_zero:
            text = printable(" ".join(str(error).split()))
            print(f"warning: no folder {folder / 'model'} is written: {text}", file=sys.stderr)


def save_winner(
    config: TrialConfig,
    results: Results,
    splits: SplitCache,
    fabric: Fabric,
    folder: Path,
    export: str | None,
    language: str,
) -> None:
    """Train the winner of a trial and write its model, unless the folder holds it already; name it in the report."""
    from letsam.model_folder.refit_best import is_written, train_winner
    from letsam.reports.html import write_report

    written = fabric.broadcast(fabric.is_global_zero and is_written(folder, results, export))
    if not written:
        state = "the trial is finished, the refit of its best method is not"
        with interruptible(lambda: state), progress_bars(1, 0, shown=fabric.is_global_zero) as callback:
            model = train_winner(config, results, splits, fabric, callback)
        if fabric.is_global_zero:
            model.save(folder, export)
    if fabric.is_global_zero:
        config_of_model = json.loads((folder / "model" / "model.json").read_text(encoding="utf-8"))
        chosen = {name: config_of_model[name] for name in ("method", "seed", "chosen_by")}
        results = dataclasses.replace(results, config={**results.config, "refit_best": chosen})
        results.save(folder / "results.json")
        write_report(results, folder / "report.html", language)
        print_line(f"model: {folder / 'model'} ({chosen['method']}, chosen {chosen['chosen_by']})")
