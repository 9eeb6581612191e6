"""The records of a watch: one JSON object a line, in the file ``watch.jsonl``."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from letsam.operation.estimates import Estimate

WATCH_FORMAT = "letsam watch 1"
RECORDS = "watch.jsonl"


class WatchError(ValueError):
    """A watch cannot go on; the message is one line."""


@dataclass(frozen=True)
class Alarm:
    """Something that has changed.

    Args:
        code: what, such as "drift_auc" or "accuracy".
        message: in words, with the numbers.
    """

    code: str
    message: str


def inputs_changed(alarms: Sequence[Alarm]) -> bool:
    """Whether the alarms say that the inputs themselves have changed, and not the mix of classes or a feature alone.

    Example:
        >>> inputs_changed([Alarm("drift_auc", "")]), inputs_changed([Alarm("feature_drift", "")])
        (True, False)
    """
    return any(alarm.code in ("drift_auc", "embedding_distance") for alarm in alarms)


@dataclass(frozen=True)
class WatchRecord:
    """What was found in one batch.

    Args:
        time: UTC, in ISO format, by the clock of the machine.
        model: fingerprint of the model.
        data: "name", "fingerprint" and number of "samples" of the batch.
        labelled: whether labels were given.
        batch: number of the record, from 1.
        metrics: numbers with their intervals, by name.
        tests: the tests, by name: "statistic" and "p", or "evidence"; "limit" and what was "expected".
        alarms: what has changed; empty: nothing.
        state: of the sequential tests, from which the next record goes on.
        notes: remarks, such as what could not be measured.

    Example:
        >>> WatchRecord("2030-01-01T00:00:00Z", "f00", {"name": "may.csv", "samples": 9}, False, 1).alarmed
        False
    """

    time: str
    model: str
    data: Mapping[str, Any]
    labelled: bool
    batch: int
    metrics: Mapping[str, Estimate] = field(default_factory=dict[str, Estimate])
    tests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    alarms: tuple[Alarm, ...] = ()
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()

    @property
    def alarmed(self) -> bool:
        """Whether there is an alarm."""
        return bool(self.alarms)

    def as_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {
            "format": WATCH_FORMAT,
            "time": self.time,
            "model": self.model,
            "data": dict(self.data),
            "labelled": self.labelled,
            "batch": self.batch,
            "metrics": {name: vars(one) for name, one in self.metrics.items()},
            "tests": {name: dict(test) for name, test in self.tests.items()},
            "alarms": [vars(alarm) for alarm in self.alarms],
            "state": dict(self.state),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> WatchRecord:
        """The record that `as_json` wrote.

        Raises:
            ValueError: it is of another format.
            KeyError: a field is missing.
        """
        if content["format"] != WATCH_FORMAT:
            raise ValueError(f"the format {content['format']!r}, expected {WATCH_FORMAT!r}")
        return cls(
            time=str(content["time"]),
            model=str(content["model"]),
            data=dict(content["data"]),
            labelled=bool(content["labelled"]),
            batch=int(content["batch"]),
            metrics={name: Estimate(one["value"], one["low"], one["high"]) for name, one in content["metrics"].items()},
            tests={name: dict(test) for name, test in content["tests"].items()},
            alarms=tuple(Alarm(one["code"], one["message"]) for one in content["alarms"]),
            state=dict(content["state"]),
            notes=tuple(content.get("notes", ())),
        )


@dataclass(frozen=True)
class RecordFile:
    """The file of a watch, as it was read.

    Args:
        path: of the file.
        records: in order.
        whole: how many bytes belong to whole records; what comes after them was torn by a crash.
        torn: whether there is such a rest.
    """

    path: Path
    records: tuple[WatchRecord, ...] = ()
    whole: int = 0
    torn: bool = False

    @classmethod
    def read(cls, path: Path) -> RecordFile:
        """Read a file; a missing one has no records.

        A last line that is no whole record is what a crash has left: it is not counted. `append` removes it.

        Raises:
            WatchError: another line is no record: the file was changed.
        """
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return cls(path)
        except OSError as error:
            raise WatchError(f"{path} cannot be read: {error.strerror}") from error
        records: list[WatchRecord] = []
        whole = 0
        lines = content.splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            try:
                record = WatchRecord.from_json(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                if number == len(lines) and not line.endswith(b"\n"):
                    return cls(path, tuple(records), whole, torn=True)
                raise WatchError(f"{path}: line {number} is no record of a watch ({error!r})") from None
            if not line.endswith(b"\n"):  # whole but for its end
                return cls(path, (*records, record), whole, torn=True)
            records.append(record)
            whole += len(line)
        return cls(path, tuple(records), whole)

    def append(self, record: WatchRecord) -> RecordFile:
        """Write a further record to the disk, after the last whole one.

        Raises:
            OSError: the file cannot be written, such as on a full disk; the earlier records are kept.
        """
        text = json.dumps(record.as_json(), ensure_ascii=False, allow_nan=False) + "\n"
        line = text.encode("utf-8")
        begun = self.path.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            kept = self._whole_content() if self.torn else None
            with self.path.open("r+b" if begun else "xb") as file:
                size = self.whole
                if kept is not None:
                    file.seek(size)
                    file.write(kept)
                    size += len(kept)
                file.truncate(size)
                file.seek(size)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if not begun:
                _keep_name(self.path.parent)
        except OSError as error:
            raise OSError(
                f"{self.path} cannot be written: {error.strerror or error}; the earlier records are kept"
            ) from error
        return RecordFile(self.path, (*self.records, record), size + len(line))

    def _whole_content(self) -> bytes | None:
        """The last line again, with its end, where a crash took nothing but that."""
        rest = self.path.read_bytes()[self.whole :]
        try:
            WatchRecord.from_json(json.loads(rest))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        return rest + b"\n"


def read_watch(path: str | Path) -> list[WatchRecord]:
    """The records of a watch.

    Args:
        path: of the folder of the watch, or of its file ``watch.jsonl``.

    Returns:
        The records, in order. A last line that a crash has torn is left out.

    Raises:
        WatchError: there is no such file, or a line of it is no record.

    Example:
        >>> read_watch("nowhere")
        Traceback (most recent call last):
        letsam.operation.watch_record.WatchError: nowhere: expected the folder of a watch, but it has no watch.jsonl
    """
    place = Path(path)
    file = place / RECORDS if place.is_dir() or place.suffix != ".jsonl" else place
    if not file.is_file():
        raise WatchError(f"{place}: expected the folder of a watch, but it has no {RECORDS}")
    return list(RecordFile.read(file).records)


def json_number(value: float) -> float | None:
    """A number as JSON can have it: None where it is not finite."""
    return value if math.isfinite(value) else None


def _keep_name(folder: Path) -> None:
    """Write the name of a new file to the disk, where the system can do so."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
