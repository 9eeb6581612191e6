"""`letsam shadow`: champion and challenger on the same data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letsam import checks
from letsam.cli.commands import app
from letsam.cli.guidance import examples
from letsam.cli.terminal import print_line, print_pairs, print_table, sample_bars
from letsam.results import printable

__all__ = ["shadow_command"]

_MODEL = "The folder of a model, of results with one, or of versions."


@app.command("shadow", epilog=examples("how-to/rollout", "letsam shadow runs/v1 runs/v2 july.csv --labels"))
def shadow_command(
    champion: Annotated[Path, typer.Argument(metavar="CHAMPION", help=f"The model in use. {_MODEL}")],
    challenger: Annotated[Path, typer.Argument(metavar="CHALLENGER", help="The model that may replace it, likewise.")],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A file or folder of the same form as the training data.")
    ],
    labels: Annotated[
        bool, typer.Option("--labels", help="DATA have labels, as the training data had; some may be missing.")
    ] = False,
    metric: Annotated[
        str | None, typer.Option(help="Metric that is compared where there are labels.  [default: the champion's]")
    ] = None,
    level: Annotated[float, typer.Option(help="Probability with which each bound may be wrong.")] = 0.05,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report.  [default: MODEL-shadow beside the challenger]")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    batch_size: Annotated[int, typer.Option(help="Samples that are predicted at once.")] = 256,
) -> int:
    """Compare what two models predict for the same data. Writes shadow.json, shadow.html and differing.csv.

    Without labels: how often the answers differ, and by how much the accuracies can differ at most. With labels: the
    gain of the challenger with its bounds. The samples that differ are in differing.csv.

    Exit status: 0, or 2 for invalid input.
    """
    from rich.text import Text

    from letsam.operation.model_pair import ModelPair
    from letsam.operation.shadow_report import default_shadow_folder
    from letsam.operation.shadow_wording import shadow_headline, shadow_numbers, shadow_texts
    from letsam.operation.shadowing import checked_metric, compare_outputs
    from letsam.results import locked_folder

    checks.whole("batch_size", batch_size, 1)
    checks.choice("device", device, ("cpu", "cuda", "mps"))
    if not 0 < level < 0.5:
        raise ValueError(f"`level` must be above 0 and below 0.5, got {level}")
    pair = ModelPair.loaded(champion, challenger, device)
    for model in (pair.champion, pair.challenger):
        if model.preparation is None:
            task = model.results.task
            raise ValueError(f"{model.folder}: the model of the task {task!r}, which is no file of data, takes none")
    checked_metric(pair, metric)
    folder = out or default_shadow_folder(pair.challenger.folder)
    with locked_folder(folder), sample_bars() as progress:
        found = pair.outputs(data, labels or None, batch_size=batch_size, progress=progress)
        report = compare_outputs(pair, found, data, metric=metric, level=level)
    report.save(folder)
    print_table(Text(printable(shadow_headline(report)), style="bold"))
    for text in shadow_texts(report):
        print_table(Text(printable(text)))
    print_pairs(shadow_numbers(report))
    print_line(f"report: {folder / 'shadow.html'}")
    return 0
