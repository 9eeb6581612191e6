"""Champion and challenger for the tests of shadow mode and of roll-outs, trained on real data by the command line."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pandas
import pytest
from sklearn.datasets import load_diabetes, load_digits

from cli_cases import MORE
from letsam.cli import run
from letsam.model_folder import model_place
from letsam.model_folder.manifest import fingerprint
from letsam.operation.estimates import Estimate
from letsam.operation.watch_record import Alarm, RecordFile, WatchRecord


def call(*arguments: object) -> tuple[int, str, str]:
    """The command line here: status, stdout, and stderr without the page that an error names."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run([str(one) for one in arguments])
    return status, out.getvalue(), MORE.sub("", err.getvalue())


def train(data: object, out: object, *options: str, target: str | None = "target") -> None:
    """A model; its report is not made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
        named = () if target is None else ("--target", target)
        status, _, err = call("train", data, *named, *options, "--out", out)
    assert status == 0, err


@functools.cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="letsam-pairs-")


@functools.cache
def digits() -> Path:
    """A folder with the models `v1` and `v2` of handwritten digits, and `july.csv`, 497 rows that none has seen.

    The champion was trained for one epoch and the challenger for four. Tests must not change the folder.
    """
    folder = Path(_kept().name) / "digits"
    folder.mkdir()
    frame = load_digits(as_frame=True).frame
    frame["target"] = frame["target"].map("digit {}".format)
    frame = frame.sample(frac=1.0, random_state=0)
    frame[:900].to_csv(folder / "train.csv", index=False)
    frame[900:1300].to_csv(folder / "test.csv", index=False)
    frame[1300:].to_csv(folder / "july.csv", index=False)
    test = ("--test", str(folder / "test.csv"))
    train(folder / "train.csv", folder / "v1", *test, "--method", "sgd", "--epochs", "3")
    train(folder / "train.csv", folder / "v2", *test, "--method", "sam", "--epochs", "6")
    return folder


@functools.cache
def diabetes() -> Path:
    """The same for numbers to predict: `v1` and `v2` of the progression of diabetes, and `july.csv` with 142 rows."""
    folder = Path(_kept().name) / "diabetes"
    folder.mkdir()
    frame = load_diabetes(as_frame=True).frame
    frame[:300].to_csv(folder / "train.csv", index=False)
    frame[300:].to_csv(folder / "july.csv", index=False)
    train(folder / "train.csv", folder / "v1", "--method", "sgd", "--epochs", "3")
    train(folder / "train.csv", folder / "v2", "--method", "sam", "--epochs", "6")
    return folder


def july(folder: Path) -> Any:
    """The rows of `july.csv`."""
    return pandas.read_csv(folder / "july.csv")


def killed_at(number: int, action: Callable[[], object]) -> bool:
    """Do something in a process that kills itself when it is about to replace a file for the n-th time."""
    child = os.fork()
    if child == 0:
        replace, left = os.replace, [number]

        def last(source: Any, target: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = last
        try:
            action()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


class Rollout:
    """A roll-out of the models of `digits` in a folder, with watches whose records are written here.

    Args:
        folder: of the plan.
        stages: of the plan, in TOML; None: 10% and 100%, each with 300 samples and no alarm.
    """

    def __init__(self, folder: Path, stages: str | None = None) -> None:
        self.folder, self.plan = folder, folder / "plan.toml"
        self.models = {name: str(digits() / version) for name, version in (("champion", "v1"), ("challenger", "v2"))}
        self.stages = stages or (
            '[gates]\nmax_alarms = 0\nmin_samples = 300\n[[stages]]\nshare = "10%"\n[[stages]]\nshare = "100%"\n'
        )
        self.write()

    def write(self, **paths: str) -> None:
        """Write the plan."""
        known = {**self.models, "champion_watch": "w1", "challenger_watch": "w2", "shadow": "shadow", **paths}
        lines = [f'{name} = "{path}"' for name, path in known.items()]
        self.plan.write_text("\n".join([*lines, self.stages]), encoding="utf-8")

    def watched(self, name: str, *, samples: int = 200, alarms: tuple[str, ...] = (), **values: Any) -> None:
        """Add a record to the watch of the champion or the challenger."""
        path = self.folder / {"champion": "w1", "challenger": "w2"}[name] / "watch.jsonl"
        file = RecordFile.read(path)
        batch = len(file.records) + 1
        metrics = {key: Estimate(value, value - 0.02, value + 0.02) for key, value in values.pop("metrics", {}).items()}
        data = {"name": "x.csv", "fingerprint": f"{name} {batch}", "samples": samples, "labels": samples}
        fields = {"time": "2030-01-01T00:00:00+00:00", "model": self.fingerprint(name), "data": data, "labelled": True}
        found = tuple(Alarm(code, f"{code} has changed") for code in alarms)
        file.append(WatchRecord(**{**fields, **values}, batch=batch, metrics=metrics, alarms=found))

    def fingerprint(self, name: str) -> str:
        """Of the champion or the challenger."""
        return fingerprint(model_place(self.models[name]))

    def call(self, *options: str, now: str | None = "2030-01-01T00:00:00Z") -> tuple[int, dict[str, Any]]:
        """The status and the JSON of the command; notes alone may be on stderr."""
        time = () if now is None else ("--now", now)
        status, out, err = call("rollout", self.plan, "--json", *time, *options)
        assert err == "", err
        return status, json.loads(out)

    def error(self, *options: str) -> str:
        """The one line of a call with something wrong in it."""
        status, out, err = call("rollout", self.plan, *options)
        assert (status, out, err.count("\n")) == (2, "", 1), (out, err)
        assert err.startswith("error: ")
        return MORE.sub("", err).removeprefix("error: ").strip()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The entries of the log."""
        path = self.folder / "plan-rollout" / "rollout.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
