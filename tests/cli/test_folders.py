"""Folders of results: one run at a time, other data, full disks, and names that a terminal would act on."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from cli_cases import MINE, TASK_FILE, TRAIN, TRIAL, check_error, files, records
from letsam.cli import run
from letsam.results import locked_folder
from results.test_files import full_disk

COMMANDS = {"trial": (*TRIAL, "--out", "one"), "train": TRAIN}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("resume", [True, False])
def test_a_second_run_in_a_folder_is_refused(command: str, resume: bool, here: Path, letsam_run: Any) -> None:
    arguments = [*COMMANDS[command], *(["--resume"] if resume else [])]
    with locked_folder(Path("one")):
        before = files(here)
        check_error(letsam_run(*arguments), rf"one: process {os.getpid()} on .*, since .*, writes to this folder; wait")
        assert files(here) == before
    assert letsam_run(*arguments)[0] == 0
    assert not [name for name in files(here) if "lock" in name]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_killed_run_has_left_is_removed(command: str, here: Path, letsam_run: Any) -> None:
    Path("one").mkdir()
    left = [Path("one") / f".{name}.{'0f' * 16}.tmp" for name in ("checkpoint.pt", "results.json")]
    for path in (*left, Path("one/.letsam.lock")):
        path.write_text("process 1 on nowhere, since yesterday,")
    assert letsam_run(*COMMANDS[command], "--resume")[0] == 0
    assert not [path for path in Path("one").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("train=data(40, 0)", "train=data(48, 0)", r"\[40, 0, 30\] samples .*, got \[48, 0, 30\]$"),
        ("train=data(40, 0)", "train=data(40, 7)", r"samples with the checksums \[.*\], got \[.*\]$"),
        ("test=data(30, 1)", "test=data(30, 7)", r"samples with the checksums \[.*\], got \[.*\]$"),
        ("(inputs[:, 0] > 0)", "(inputs[:, 1] > 0)", r"samples with the checksums \[.*\], got \[.*\]$"),
    ],
)
def test_a_run_is_not_resumed_on_other_data(
    command: str, old: str, new: str, message: str, here: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*COMMANDS[command], "--epochs", "1"]
    if command == "trial":
        arguments = ["trial", MINE, "--methods", "sgd", "--seeds", "1", "--epochs", "1", "--out", "one"]
    assert letsam_run(*arguments)[0] == 0
    before = files(here / "one")
    assert old in TASK_FILE
    (here / "my_task.py").write_text(TASK_FILE.replace(old, new))
    check_error(letsam_run(*arguments, "--resume"), r"one/results\.json: holds runs on other data: " + message)
    assert files(here / "one") == before
    if command == "train":  # of an unfinished run there is the checkpoint alone
        Path("one/results.json").unlink()
        check_error(letsam_run(*arguments, "--resume"), r"one/checkpoint\.pt: holds a run on other data: " + message)


def test_results_without_a_record_of_their_data_are_resumed(trial: Path, letsam_run: Any) -> None:
    value = json.loads((trial / "results.json").read_text())
    assert value["config"].pop("data")["samples"] == [40, 0, 30]
    value["runs"] = value["runs"][:-1]
    (trial / "results.json").write_text(json.dumps(value))
    assert letsam_run(*TRIAL, "--resume")[0] == 0
    assert len(records(trial / "results.json")) == 8


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line(command: str, here: Path, letsam_run: Any) -> None:
    with full_disk(1000):
        result = letsam_run(*COMMANDS[command])
    name = "results.json" if command == "trial" else "checkpoint.pt"
    check_error(result, rf"^error: one/{name} cannot be written: .*; nothing is written$")
    left = [str(path) for path in Path("one").rglob("*") if path.is_file()]  # small files fit on the disk
    assert left == (["one/predictions/sgd-0.safetensors"] if command == "trial" else [])


def test_a_disk_that_fills_up_keeps_what_is_finished(here: Path, letsam_run: Any, trial: Path) -> None:
    size = (trial / "results.json").stat().st_size
    with full_disk(size // 2):
        result = letsam_run(*TRIAL, "--out", "one")
    check_error(result, r"^error: one/results\.json cannot be written: .*; the earlier file is kept$")
    kept = records(Path("one/results.json"))
    assert 0 < len(kept) < 8
    assert {path.name for path in Path("one").iterdir()} == {"predictions", "results.json"}
    assert letsam_run(*TRIAL, "--out", "one", "--resume")[0] == 0
    assert records(Path("one/results.json")) == records(trial / "results.json")


ESCAPES = "\x1b[31mred\x07\u202e"
SHOWN = r"\x1b[31mred\x07\u202e"


def test_names_in_a_file_do_not_reach_the_terminal(real_report: None, trial: Path, letsam_run: Any) -> None:
    value = json.loads((trial / "results.json").read_text())
    value["task"] = value["name"] = value["config"]["x"] = ESCAPES
    for one in value["runs"]:
        one["metric"] = f"{ESCAPES} \N{CJK UNIFIED IDEOGRAPH-6F22} $\\frac$ & <b>"
        one["method"] = one["method"].replace("sam:0.1", f"sam{ESCAPES}[red]")
    (trial / "results.json").write_text(json.dumps(value))
    status, out, err = letsam_run("report", str(trial))
    assert (status, err) == (0, "")
    page = (trial / "report.html").read_text()
    for text in (out, page):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    assert "\u202e" not in out
    assert f"{SHOWN}: means over seeds" in out
    assert f"sam{SHOWN}[red]" in out
    assert "$\\frac$ &amp; &lt;b&gt;" in page


def test_arguments_do_not_reach_the_terminal(here: Path, letsam_run: Any) -> None:
    check_error(letsam_run("trial", f"{ESCAPES}.py:f"), re.escape(f"{SHOWN}.py does not exist"))
    check_error(letsam_run("trial", MINE, "--methods", ESCAPES), re.escape(SHOWN))
    check_error(letsam_run("report", ESCAPES), re.escape(f"{SHOWN}/results.json: expected a results file"))


def test_a_name_that_is_no_unicode_is_refused_before_training(here: Path, letsam_run: Any) -> None:
    check_error(letsam_run("trial", "my_t\udcffsk.py:f"), r"`task` must be Unicode text, got 'my_t\\udcffsk.py:f'")
    check_error(letsam_run("trial", MINE, "--model", "m\udcff"), r"`model` must be Unicode text, got 'm\\udcff'")


def test_a_terminal_without_every_character_is_no_error(trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with LANG=C: the table has \N{PLUS-MINUS SIGN} and arrows."""
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    assert run(["report", str(trial)]) == 0
    ascii_only.flush()
    assert b"report: " in ascii_only.buffer.getvalue()  # type: ignore[attr-defined]
