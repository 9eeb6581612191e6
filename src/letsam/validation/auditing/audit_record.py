"""The findings of an audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from letsam.doctor import Finding

NAMED = 20  # samples of a finding that are named in its record
UNSEEN = 0.1  # share of wrong labels that an audit should not miss


@dataclass(frozen=True)
class AuditFinding(Finding):
    """Something that is wrong with data.

    Attributes:
        code: the kind of fault, in hyphenated words; stable across versions.
        message: what is wrong, and what to change.
        severity: "error" or "warning".
        page: of the documentation, which explains it.
        what: what is wrong.
        change: what to change.
        count: how many samples, groups or labels it is about; None where it is about whole sets.
        total: of how many.
        samples: the names of up to 20 of the samples.

    Example:
        >>> print(AuditFinding.of("duplicates", "2 samples are repeated", "leave them out", "error", 2, 10))
        error: 2 samples are repeated: leave them out [duplicates; letsam docs how-to/validation-data]
    """

    page: str = "how-to/validation-data"
    what: str = ""
    change: str = ""
    count: int | None = None
    total: int | None = None
    samples: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        code: str,
        what: str,
        change: str,
        severity: Literal["error", "warning"] = "warning",
        count: int | None = None,
        total: int | None = None,
        samples: Sequence[str] = (),
    ) -> AuditFinding:
        """A finding whose message says both what is wrong and what to change."""
        about: dict[str, Any] = {"what": what, "change": change, "count": count, "total": total}
        return cls(code, f"{what}: {change}", severity, **about, samples=tuple(samples[:NAMED]))

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**vars(self), "samples": list(self.samples)}


@dataclass(frozen=True)
class Audit(Sequence[AuditFinding]):
    """The findings of an audit, errors first; a sequence of `AuditFinding` objects.

    Attributes:
        findings: what is wrong, and what to change.
        measures: the numbers behind them, as JSON values, whether they are a fault or not.
        places: of the samples behind findings, by their codes: (validation, training) pairs for repeats, and for
            suspected labels (name of the set, place).
    """

    findings: tuple[AuditFinding, ...]
    measures: dict[str, Any]
    places: dict[str, list[tuple[Any, int]]]

    @overload
    def __getitem__(self, index: int) -> AuditFinding: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[AuditFinding, ...]: ...
    def __getitem__(self, index: int | slice) -> AuditFinding | tuple[AuditFinding, ...]:
        """A finding."""
        return self.findings[index]

    def __len__(self) -> int:
        """The number of findings."""
        return len(self.findings)

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings)) or "nothing is wrong"

    @property
    def untold(self) -> tuple[str, ...]:
        """What this audit could not tell, in sentences."""
        share, skill = self.measures.get("wrong_label_share"), self.measures.get("label_skill")
        if skill is not None and share is None:
            why = f"a classifier predicts too few of them (Cohen's kappa {skill:.2f})"
            return (f"whether labels are wrong cannot be told: {why}",)
        if share is not None and share[2] >= UNSEEN and not any(one.code == "wrong-labels" for one in self):
            return (f"up to {share[2]:.0%} of the labels may be wrong without a finding",)
        return ()

    def as_json(self) -> dict[str, Any]:
        """Findings and measures as JSON values, for the record of a trial."""
        return {"findings": [one.as_json() for one in self.findings], "measures": self.measures}


@dataclass(frozen=True)
class SampleNames:
    """What samples are called.

    Args:
        train: of the training samples, such as their rows or files; None: by their places.
        validation: of the validation samples; None: likewise.
    """

    train: Sequence[str] | None = None
    validation: Sequence[str] | None = None

    def validated(self, place: int) -> str:
        """A validation sample."""
        return f"validation sample {place}" if self.validation is None else self.validation[place]

    def trained(self, place: int) -> str:
        """A training sample."""
        return f"training sample {place}" if self.train is None else self.train[place]

    def pair(self, place: int, other: int) -> str:
        """A validation sample and the training sample that it repeats."""
        trained = self.trained(other)
        return f"{self.validated(place)} ({trained if self.train is None else f'training: {trained}'})"
