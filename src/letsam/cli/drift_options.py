"""The options of trials and runs about drift: of validation data, of test data, and data from operation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True, kw_only=True)
class DriftArguments:
    """Simulated drift, and data from operation."""

    validation_shift: Annotated[
        str | None,
        typer.Option(help="Simulated drift of the validation data, such as noise:2,blur:1; auto: like --deployed."),
    ] = None
    deployed: Annotated[
        Path | None, typer.Option(help="File or folder of inputs from operation, without targets, such as july.csv.")
    ] = None
    evaluate_shift: Annotated[
        str | None,
        typer.Option(
            help="Test under drift as well, such as noise,blur:2; without a number, all severities; all: all shifts."
        ),
    ] = None
