"""`letsam models` and `letsam sign`: the versions of a model, and signatures that protect them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from letsam.cli.commands import app
from letsam.cli.guidance import examples
from letsam.cli.terminal import print_line, print_table
from letsam.results import locked_folder, printable

if TYPE_CHECKING:
    from letsam.model_folder.lineage import LineageRow

__all__ = ["models_command", "sign_command"]


@app.command(
    "models",
    epilog=examples(
        "how-to/retune",
        "letsam models runs/patients-versions --verify",
        "letsam models runs/patients-versions --current v0001",
    ),
)
def models_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of versions, of a model or of results.")],
    verify: Annotated[bool, typer.Option("--verify", help="Compare every file with its hash.")] = False,
    key: Annotated[
        Path | None, typer.Option(metavar="PUBLIC", help="Public key that all versions must be signed with.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    current: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Make this version, such as v0002, the current one.")
    ] = None,
) -> None:
    """List the versions of a model. Shows the data, the radius, the numbers and the verdict of each.

    Exit status: 0, or 2 where a version was changed or something is missing.
    """
    from letsam.model_folder.lineage import lineage

    if current is not None:
        _make_current(folder, current)
    rows = lineage(folder, verify=verify, key=key)
    if as_json:
        print(json.dumps([row.as_json() for row in rows], indent=1))
    else:
        _print_rows(rows, verified=verify or key is not None)
    problems = [row.problem for row in rows if row.problem is not None]
    if problems:
        more = f"; and {len(problems) - 1} more of {len(rows)} versions" if len(problems) > 1 else ""
        raise ValueError(f"{problems[0]}{more}")


@app.command(
    "sign",
    epilog=examples(
        "how-to/retune",
        "letsam sign runs/patients --key letsam.pem --new-key",
        "letsam predict runs/patients october.csv --key letsam.pub",
    ),
)
def sign_command(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Folder of a model, of results with one, or of versions.")
    ],
    key: Annotated[Path, typer.Option(metavar="PRIVATE", help="File of the private key (Ed25519, PEM).")],
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make the key first, and the public one beside it (suffix .pub).")
    ] = False,
) -> None:
    """Sign a model, so that changes are noticed. Of a folder of versions, it signs the current one.

    letsam predict, letsam models and letsam.load then take --key letsam.pub, and refuse what is not signed with it.
    """
    from letsam.model_folder import model_place
    from letsam.model_folder.signatures import make_keys, sign_model

    place = model_place(model)
    if new_key:
        print_line(f"public key: {make_keys(key)}")
    print_line(f"signature: {sign_model(place, key)}")


def _make_current(folder: Path, name: str) -> None:
    """Make a version the current one, if it is the first one or its verdict is go."""
    from letsam.model_folder import version_of
    from letsam.model_folder.manifest import check_manifest
    from letsam.model_folder.version_folder import VersionFolder

    versions = VersionFolder(folder)
    names = [place.name for place in versions.versions.values()]
    if name not in names:
        listed = ", ".join(names) or "(there are none)"
        raise ValueError(f"`current` must be a version in {folder}: {listed}; got {name!r}")
    place = folder / name
    with locked_folder(folder):
        check_manifest(place)
        record = version_of(place)
        verdict = None if record is None else (record.verdict or {}).get("verdict")
        if record is not None and record.parent is not None and verdict != "go":
            raise ValueError(f"`current` must be a version with the verdict go, got {name}, whose verdict is {verdict}")
        versions.make_current(place)


def _print_rows(rows: Sequence[LineageRow], *, verified: bool) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("version", "made by", "created (UTC)", "data", "radius", "test", "verdict", "gain", "state"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("version", "created (UTC)", "test", "gain"))
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in _cells(row, verified=verified)))
    print_table(table)


def _cells(row: LineageRow, *, verified: bool) -> tuple[str, ...]:
    record = row.record
    state = "current" if row.current else ""
    if row.problem is not None:
        state = ", ".join(part for part in (state, "not whole") if part)
    elif verified:
        state = ", ".join(part for part in (state, "unchanged") if part)
    name = f"{'  ' * min(row.depth, 6)}{row.name}"
    if record is None:
        return (name, *[""] * 7, state)
    return (
        name,
        record.made_by,
        record.created[:16].replace("T", " "),
        _data(record.data),
        _radius(record.radius),
        _number(record.numbers),
        *_verdict(record.verdict or {}),
        state,
    )


def _data(data: Mapping[str, Any]) -> str:
    names = " + ".join(Path(str(source.get("name"))).name for source in data.get("sources", ()))
    return f"{str(data.get('fingerprint', ''))[:8]} {names}"


def _radius(radius: Mapping[str, float | None]) -> str:
    initial, final = radius.get("initial"), radius.get("final")
    return "-" if initial is None or final is None else f"{initial:.3g} → {final:.3g}"


def _number(numbers: Mapping[str, float | None]) -> str:
    """The main metric, which is the first."""
    from letsam.results.metric_units import value_scale

    name, value = next(iter(numbers.items()), ("", None))
    if value is None:
        return f"{name}: diverged" if name else ""
    scale = value_scale(name, [abs(value)])
    return f"{name} {scale.text(value)}{scale.unit}"


def _verdict(verdict: Mapping[str, Any]) -> tuple[str, str]:
    """The verdict with its candidate, and the gain over the parent."""
    if not verdict:
        return "", ""
    held_out = verdict.get("held_out") or {}
    gain, unit = held_out.get("gain"), held_out.get("unit", "")
    return f"{verdict.get('verdict')}: {verdict.get('candidate')}", f"{gain:+.2f}{unit}" if gain is not None else ""
