"""The file of a watch: each record is on the disk or not there, whatever happens while it is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from letsam.operation import Alarm, WatchError, WatchRecord, read_watch
from letsam.operation.estimates import Estimate
from letsam.operation.watch_record import RECORDS, RecordFile


def record(batch: int, name: str = "märz.csv") -> WatchRecord:
    return WatchRecord(
        time=f"2030-01-{batch:02}T00:00:00+00:00",
        model="f00",
        data={"name": name, "fingerprint": str(batch), "samples": 9, "labels": 3},
        labelled=True,
        batch=batch,
        metrics={"accuracy": Estimate(0.5, 0.25, 0.75)},
        tests={"accuracy": {"p": 0.5}},
        alarms=(Alarm("accuracy", "low"),),
        state={"rate": 0.05},
        notes=("a note",),
    )


def filled(folder: Path, count: int = 3) -> RecordFile:
    file = RecordFile.read(folder / RECORDS)
    for batch in range(1, count + 1):
        file = file.append(record(batch))
    return file


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    filled(tmp_path)
    for place in (tmp_path, tmp_path / RECORDS, str(tmp_path)):
        assert read_watch(place) == [record(1), record(2), record(3)]
    lines = (tmp_path / RECORDS).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    fields = {"format", "time", "model", "data", "labelled", "batch", "metrics", "tests", "alarms", "state", "notes"}
    assert json.loads(lines[0]).keys() == fields
    assert record(1).alarmed


def test_a_torn_last_line_is_left_out_and_replaced(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / RECORDS
    whole = path.read_bytes()
    first_two = whole.splitlines(keepends=True)[:2]
    for length in range(len(b"".join(first_two)), len(whole) - 1):
        path.write_bytes(whole[:length])
        assert read_watch(tmp_path) == [record(1), record(2)], length
    path.write_bytes(whole[:-40])
    RecordFile.read(path).append(record(3))
    assert path.read_bytes() == whole


def test_a_torn_line_that_is_longer_than_the_next_record(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    path = tmp_path / RECORDS
    whole = path.read_bytes()
    long = json.dumps(record(2, "a very long name " * 50).as_json()).encode()
    path.write_bytes(whole + long[:-3])
    RecordFile.read(path).append(record(2))
    assert read_watch(path) == [record(1), record(2)]
    assert path.read_bytes().endswith(b"}\n")


def test_a_line_that_lacks_nothing_but_its_end_counts(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / RECORDS
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert read_watch(tmp_path)[-1] == record(3)
    RecordFile.read(path).append(record(4))
    assert read_watch(tmp_path) == [record(batch) for batch in range(1, 5)]
    assert path.read_bytes().startswith(whole)


def test_a_crash_in_the_middle_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends before the line is whole on the disk: in the child, nothing after that runs."""
    filled(tmp_path, 2)
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, "fsync", lambda descriptor: os._exit(9))
        RecordFile.read(tmp_path / RECORDS).append(record(3))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    known = read_watch(tmp_path)
    assert known[:2] == [record(1), record(2)]
    RecordFile.read(tmp_path / RECORDS).append(record(len(known) + 1))
    assert read_watch(tmp_path)[:2] == [record(1), record(2)]


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = filled(tmp_path, 2)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        message = r"watch\.jsonl cannot be written: No space left on device; the earlier records are kept"
        with pytest.raises(OSError, match=message):
            file.append(record(3))
    assert read_watch(tmp_path)[:2] == [record(1), record(2)]


def test_a_file_that_was_changed_is_refused_by_its_line(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / RECORDS
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for wrong in ("{}\n", "nothing\n", lines[1].replace("letsam watch 1", "letsam watch 9"), "[]\n"):
        path.write_text(lines[0] + wrong + lines[2], encoding="utf-8")
        with pytest.raises(WatchError, match=r"watch\.jsonl: line 2 is no record of a watch"):
            read_watch(tmp_path)
    path.write_text(lines[0] + "nothing\n", encoding="utf-8")  # it has an end, so that no crash has torn it
    with pytest.raises(WatchError, match="line 2"):
        read_watch(tmp_path)


def test_no_watch(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "nowhere.jsonl"):
        with pytest.raises(WatchError, match=r"expected the folder of a watch, but it has no watch\.jsonl"):
            read_watch(place)
