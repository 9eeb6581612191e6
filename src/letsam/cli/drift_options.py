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
    audit: Annotated[
        bool | None,
        typer.Option(
            "--audit/--no-audit",
            help="Examine the data first, for the report.  [default: files of data, if scikit-learn is installed]",
        ),
    ] = None

    @property
    def asks_for_audit(self) -> bool | None:
        """Whether an audit is wanted; None: it is made where it can be.

        Raises:
            ValueError: data from operation are given, and nothing would use them.
        """
        if self.deployed is None or self.validation_shift == "auto":
            return self.audit
        if self.audit is False:
            raise ValueError("`deployed` is used by the audit, or by `validation_shift` = auto, got --no-audit")
        return True
