"""`letsam watch`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from letsam import checks
from letsam.cli.commands import app
from letsam.cli.guidance import examples
from letsam.cli.options import parse_names
from letsam.cli.terminal import print_line, print_note, print_table, sample_bar
from letsam.results import printable

if TYPE_CHECKING:
    from letsam.operation import WatchRecord


@app.command(
    "watch",
    epilog=examples(
        "how-to/watch",
        "letsam watch runs/patients july.csv",
        "letsam watch runs/patients july.csv --labels --prometheus /var/lib/node_exporter/letsam.prom",
    ),
)
def watch_command(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The folder of a model, or of results or versions with one.")
    ],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A new batch: a file or folder of the form of the training data.")
    ],
    labels: Annotated[
        bool, typer.Option("--labels", help="DATA have targets as the training data had; some may be missing.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the watch.  [default: MODEL-watch, beside the model]")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Data with targets that MODEL was not trained on, where its folder has no reference."),
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(help="Probability of any false alarm over the whole watch.  [default: 0.05, or as it has begun]"),
    ] = None,
    log: Annotated[
        str | None, typer.Option(help="Log the numbers to tensorboard, csv, mlflow or wandb; several with commas.")
    ] = None,
    prometheus: Annotated[
        Path | None, typer.Option(help="Write the numbers to this file, in the text format of Prometheus.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    batch_size: Annotated[int, typer.Option(help="Samples that are predicted at once.")] = 256,
) -> int:
    """Watch a model in operation. Has the world changed since it was trained, and does it still do what it did?

    Appends the batch to OUT/watch.jsonl and writes OUT/watch.html. For each batch call it once, and once more with
    --labels when they arrive. Exit status: 0 without an alarm, 1 with one, 2 for invalid input.
    """
    from letsam.model_folder import load
    from letsam.operation import Watch
    from letsam.operation.prometheus import PrometheusFile
    from letsam.operation.watch_log import WatchLog

    checks.choice("device", device, ("cpu", "cuda", "mps"))
    loaded = load(model, device=device)
    if loaded.preparation is None:
        task = loaded.results.task
        raise ValueError(
            f"{model}: batches for the model of the task {task!r} are no files; see letsam.operation.Watch"
        )
    watch = Watch(
        loaded,
        out,
        reference=reference,
        false_alarm_rate=false_alarm_rate,
        batch_size=batch_size,
    )
    task = str(watch.model.config["task"])
    if log is not None:
        watch.callbacks += (WatchLog(parse_names("log", log), watch.out, task),)
    if prometheus is not None:
        watch.callbacks += (PrometheusFile(prometheus, watch.out, task),)
    before = len(watch.records)
    with warnings.catch_warnings(record=True) as caught, sample_bar() as progress:
        warnings.simplefilter("always", UserWarning)
        record = watch.observe(data, labels=True if labels else None, progress=progress)
    if record.batch <= before:
        print_note(f"note: this batch was watched already, as batch {record.batch}; nothing is added")
    _show(record)
    print_line(f"watch: {watch.out / 'watch.html'}")
    for warning in caught:
        print_note(f"warning: {warning.message}")
    return int(record.alarmed)


def _show(record: WatchRecord) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from letsam.operation.watch_page import number_rows

    count = record.data.get("labels", 0)
    labels = f"{count:,} with labels" if record.labelled else "without labels"
    title = printable(f"batch {record.batch}: {record.data['name']}, {record.data['samples']:,} samples, {labels}")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for column in ("number", "value", "95% interval", "held-out data", "limit", "test"):
        table.add_column(column, justify="left" if column in ("number", "test") else "right")
    for row in number_rows(record):
        style = "bold" if row.alarm else ""
        cells = (row.name, row.value, row.interval, row.expected, row.limit, row.test)
        table.add_row(*(Text(printable(cell), style=style) for cell in cells))
    print_table(table)
    for note in record.notes:
        print_line(f"note: {note}")
    for alarm in record.alarms:
        print_line(f"alarm: {alarm.code}: {alarm.message}")
    if not record.alarms:
        print_line("no alarm")
