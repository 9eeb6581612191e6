"""Live logging of runs: the same numbers as in the results, for each run under a name of its own."""

from __future__ import annotations

import csv
import importlib.util
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from letsam.integrations.logged_metrics import LOGGED
from letsam.results import Run
from letsam.training import loggers
from letsam.training.loggers import LogTo, logged
from letsam.training.loop import Training
from letsam.training.methods import Method
from letsam.training.trial import environment, open_results, run_trial
from training_cases import config, fabric, finish, start, task, without_seconds


def logged_run(of: Any, logs: LogTo, method: str = "lets-sam", seed: int = 0, **options: Any) -> Training:
    one = start(of, method, seed, **options)
    with logged(logs, one) as log:
        while not one.finished:
            one.advance()
            log()
    return one


def rows_of(folder: Path, run: str, version: int = 0) -> list[dict[str, str]]:
    with open(folder / "csv" / run / f"version_{version}" / "metrics.csv") as file:
        return list(csv.DictReader(file))


def check_points(points: list[dict[str, float]], run: Run) -> None:
    """The metrics of all evaluations are those of the history."""
    names = {"training_loss": "train_loss", "test_accuracy": "test_accuracy", "rho": "rho"}
    names |= {name: name for name in ("test_loss", "validation_loss", "generalization_gap", "hypergradient", "epoch")}
    for name, column in names.items():
        assert [point[name] for point in points] == pytest.approx(run.history[column], rel=1e-6), name


def test_csv_has_the_numbers_of_the_history(tmp_path: Path) -> None:
    logs = LogTo(("csv",), str(tmp_path), "blobs")
    one = logged_run(task(), logs, "lets-sam:0.1", 1)
    rows = rows_of(tmp_path, "lets-sam-0.1-1")
    check_points([{name: float(value) for name, value in row.items()} for row in rows], one.result())
    assert [int(row["step"]) for row in rows] == [6, 12, 18]  # 54 samples in batches of 8
    rates = [0.05 * 0.5 * (1 + math.cos(math.pi * step / 18)) for step in (6, 12, 18)]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(rates)


def test_the_adapters_use_the_same_names(tmp_path: Path) -> None:
    logged_run(task(), LogTo(("csv",), str(tmp_path), "blobs"))
    assert set(LOGGED) <= rows_of(tmp_path, "lets-sam-0")[0].keys()


def test_what_a_method_lacks_is_left_out(tmp_path: Path) -> None:
    logged_run(task(metric_name="balanced accuracy"), LogTo(("csv",), str(tmp_path), "blobs"), "sgd")
    columns = {"epoch", "step", "training_loss", "test_loss", "generalization_gap", "learning_rate"}
    assert rows_of(tmp_path, "sgd-0")[0].keys() == columns | {"test_balanced_accuracy"}


def test_logging_changes_no_number(tmp_path: Path) -> None:
    quiet = finish(start(task(dropout=0.2), "lets-sam")).result()
    with_logs = logged_run(task(dropout=0.2), LogTo(("csv", "tensorboard"), str(tmp_path), "blobs")).result()
    assert without_seconds(with_logs) == without_seconds(quiet)


def test_tensorboard(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    one = logged_run(task(), LogTo(("tensorboard",), str(tmp_path), "blobs"))
    read = events.EventAccumulator(str(tmp_path / "tensorboard" / "lets-sam-0" / "version_0"))
    read.Reload()
    names = set(read.Tags()["scalars"]) - {"hp_metric"}
    points = [{name: read.Scalars(name)[i].value for name in names} for i in range(3)]
    check_points(points, one.result())
    assert [event.step for event in read.Scalars("rho")] == [6, 12, 18]


@pytest.mark.slow
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    logs = LogTo(("mlflow",), "logs", "blobs")
    logs.prepare()
    one = logged_run(task(), logs)
    client = tracking.MlflowClient(f"sqlite:///{tmp_path / 'logs' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("blobs").experiment_id])
    assert (run.info.run_name, run.info.status) == ("lets-sam-0", "FINISHED")
    assert (run.data.params["method"], run.data.params["seed"]) == ("lets-sam", "0")
    names = set(run.data.metrics)
    points = [{name: client.get_metric_history(run.info.run_id, name)[i].value for name in names} for i in range(3)]
    check_points(points, one.result())
    with pytest.raises(KeyboardInterrupt), logged(logs, start(task(), "sgd")):
        raise KeyboardInterrupt
    statuses = {run.data.params["method"]: run.info.status for run in client.search_runs([run.info.experiment_id])}
    assert statuses == {"lets-sam": "FINISHED", "sgd": "FAILED"}


@pytest.mark.slow
def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name, value in {"MODE": "offline", "SILENT": "true", "DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    logs = LogTo(("wandb",), str(tmp_path / "logs"), "blobs")
    for method in ("sgd", "sam"):
        logged_run(task(epochs=1), logs, method)
    written = sorted((tmp_path / "logs" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(written) == 2  # a run each

    def texts() -> list[bytes]:
        return [path.read_bytes() for path in written]

    end = time.monotonic() + 60  # a process of W&B's own writes the files, on a busy machine after the run has ended
    while not all(b"generalization_gap" in text for text in texts()) and time.monotonic() < end:
        time.sleep(0.1)
    assert all(b"generalization_gap" in text and b"learning_rate" in text for text in texts())
    assert sorted(b"sam-0" in text for text in texts()) == [False, True]


def test_a_resumed_run_is_logged_from_there(tmp_path: Path) -> None:
    logs = LogTo(("csv",), str(tmp_path), "blobs")
    first = start(task(), "sam")
    with logged(logs, first) as log:
        first.advance()
        log()
    second = start(task(), "sam")
    second.load_state_dict(first.state_dict())
    with logged(logs, second) as log:
        while not second.finished:
            second.advance()
            log()
    epochs = [[float(row["epoch"]) for row in rows_of(tmp_path, "sam-0", version)] for version in (0, 1)]
    assert epochs == [[1], [2, 3]]


def test_every_run_of_a_trial_is_logged(tmp_path: Path) -> None:
    options = config(methods=("sgd", "lets-sam"), seeds=(0,))
    results = open_results(tmp_path, options, environment(fabric()), resume=False)
    logs = LogTo(("csv",), str(tmp_path / "logs"), "blobs")
    *_, results = run_trial(task(), options, fabric(), results, tmp_path, logs=logs)
    assert {path.name for path in (tmp_path / "logs" / "csv").iterdir()} == {"sgd-0", "lets-sam-0", "lets-sam+refit-0"}
    for run in results.runs:
        rows = rows_of(tmp_path / "logs", f"{run.method}-0")
        assert float(rows[-1]["test_loss"]) == pytest.approx(run.test_loss)


@pytest.mark.parametrize("names", [("tensorbored",), ("csv", "csv"), ()])
def test_names_are_checked(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="`log` must be of tensorboard, csv, mlflow, wandb, each once"):
        LogTo(names, "logs", "blobs")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        loggers.importlib.util, "find_spec", lambda name: None if name in ("mlflow", "lightning") else found(name)
    )
    LogTo(("csv", "tensorboard"), "logs", "blobs").check_packages()
    message = r"`log` mlflow needs the package mlflow and lightning: install it with pip install \"letsam\[log\]\""
    with pytest.raises(ValueError, match=message):
        LogTo(("csv", "mlflow"), "logs", "blobs").check_packages()


def test_of_several_ranks_one_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = start(task(), "sgd")
    monkeypatch.setattr(type(one.fabric), "is_global_zero", False)
    with logged(LogTo(("csv",), str(tmp_path), "blobs"), one) as log:
        one.advance()
        log()
    assert os.listdir(tmp_path) == []
    assert Method.parse("sgd").name == one.name
