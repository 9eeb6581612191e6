"""Callbacks of a watch: every logger has the numbers of the records, and so has the file for Prometheus."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from letsam.operation import Watch, WatchRecord, read_watch
from letsam.operation.prometheus import PrometheusFile, prometheus_text
from letsam.operation.watch_log import WatchLog, logged_numbers
from watch_cases import batch, numbers

LOGGERS = "csv,tensorboard,mlflow"


@pytest.fixture
def batches(digits: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for number in range(3):
        batch(number)[:60].to_csv(f"m{number}.csv", index=False)
    return digits


@pytest.mark.slow
def test_loggers_have_the_numbers_of_all_batches(batches: Path, letsam_run: Any) -> None:
    """One run for each logger, although each batch has a process of its own; what was watched before is made up for."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tracking = pytest.importorskip("mlflow.tracking")
    assert letsam_run("watch", "out", "m0.csv", "--out", "w")[0] == 0
    assert letsam_run("watch", "out", "m1.csv", "--labels", "--out", "w", "--log", LOGGERS)[0] == 0
    assert letsam_run("watch", "out", "m2.csv", "--labels", "--out", "w", "--log", LOGGERS)[2] == ""
    expected = [logged_numbers(record) for record in read_watch("w")]
    assert len(expected) == 3
    assert {"accuracy", "accuracy_low", "drift_auc_high", "alarms", "samples"} <= expected[2].keys()

    with open("w/logs/csv/watch/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row.pop("step")) for row in rows] == [1, 2, 3]
    found = [{name: float(value) for name, value in row.items() if value} for row in rows]
    assert found == expected

    read = events.EventAccumulator("w/logs/tensorboard/watch")
    read.Reload()
    for name in expected[2]:
        check_points([(event.step, event.value) for event in read.Scalars(name)], name, expected)

    client = tracking.MlflowClient(f"sqlite:///{Path('w/logs/mlflow.db').resolve()}")
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert run.info.status == "FINISHED"
    for name in expected[2]:
        history = client.get_metric_history(run.info.run_id, name)
        check_points(sorted((one.step, one.value) for one in history), name, expected)


def check_points(found: list[tuple[int, float]], name: str, expected: list[dict[str, float]]) -> None:
    """The batches and values of a number are those of the records, in single precision."""
    wanted = {place: point[name] for place, point in enumerate(expected, 1) if name in point}
    assert [step for step, _ in found] == list(wanted), name
    assert [value for _, value in found] == pytest.approx(list(wanted.values()), rel=1e-6), name


@pytest.mark.slow
def test_wandb_goes_on_with_one_run(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name, value in {"MODE": "offline", "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for number in range(2):
        Watch(batches, "w", callbacks=[WatchLog(["wandb"], "w", "digits")]).observe(f"m{number}.csv")
    # `offline-run-TIME-ID`; W&B adds `-1` to the second one of the same second
    runs = [path.name.split("-")[3] for path in Path("w/logs/wandb").glob("offline-run-*")]
    assert len(runs) == 2
    assert len(set(runs)) == 1
    assert json.loads(Path("w/logs/logged.json").read_text()) == {"wandb": {"batch": 2}}


def test_a_record_is_logged_once(batches: Path) -> None:
    log = WatchLog(["csv"], "w", "digits")
    watch = Watch(batches, "w", callbacks=[log])
    record = watch.observe("m0.csv")
    before = Path("w/logs/csv/watch/metrics.csv").read_bytes()
    log(record)
    watch.observe("m0.csv")
    assert Path("w/logs/csv/watch/metrics.csv").read_bytes() == before
    with pytest.raises(ValueError, match="`log` must be of tensorboard, csv, mlflow, wandb"):
        WatchLog(["paper"], "w", "digits")


def samples(text: str) -> dict[tuple[str, str], float]:
    """What the parser of the Prometheus client reads: the value by metric, and by number or code."""
    parser = pytest.importorskip("prometheus_client.parser")
    found: dict[tuple[str, str], float] = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            assert sample.labels["task"] == "digits"
            key = sample.name.removeprefix("letsam_watch_"), sample.labels.get("name") or sample.labels.get("code", "")
            assert key not in found
            found[key] = sample.value
    return found


def test_prometheus(batches: Path, letsam_run: Any) -> None:
    assert letsam_run("watch", "out", "m0.csv", "--prometheus", "node/watch.prom")[0] == 0
    assert letsam_run("watch", "out", "m0.csv", "--labels", "--prometheus", "node/watch.prom")[0] == 0
    first, second = read_watch("out/model-watch")
    found = samples(Path("node/watch.prom").read_text())
    for record in (first, second):  # numbers that the last record lacks are those of the record before
        for name, one in record.metrics.items():
            assert [found[end, name] for end in ("value", "low", "high")] == [one.value, one.low, one.high]
            assert found["value_batch", name] == record.batch
    assert (found["batch", ""], found["samples", ""], found["labels", ""], found["alarms", ""]) == (2, 60, 60, 0)
    assert {code for metric, code in found if metric == "alarm"} == {*first.tests, *second.tests}
    assert found["alarm", "accuracy"] == 0
    files = [path.name for path in Path("node").iterdir()]
    assert files == ["watch.prom"]


def test_prometheus_text_of_any_name() -> None:
    record = WatchRecord("2030-01-01T00:00:00+00:00", "f" * 64, {"name": "m", "samples": 1}, False, 1)
    text = prometheus_text([record], 'a "b"\\c\nd')
    parser = pytest.importorskip("prometheus_client.parser")
    families = list(parser.text_string_to_metric_families(text))
    assert {sample.labels["task"] for family in families for sample in family.samples} == {'a "b"\\c\nd'}
    times = [family.samples[0].value for family in families if family.name == "letsam_watch_time_seconds"]
    assert times == [1893456000.0]


def test_a_callback_that_fails_loses_nothing(batches: Path, letsam_run: Any) -> None:
    seen: list[WatchRecord] = []

    def fails(record: WatchRecord) -> None:
        raise ConnectionError("the server\nis away")

    watch = Watch(batches, "w", callbacks=[fails, seen.append])
    with pytest.warns(
        UserWarning, match="the record is written, but ConnectionError in a callback: the server is away"
    ):
        record = watch.observe("m0.csv")
    assert seen == [record] == read_watch("w")
    Path("blocked").write_text("a file")
    prometheus = ("--prometheus", "blocked/watch.prom")
    status, _, err = letsam_run("watch", "out", "m1.csv", *prometheus)
    assert status == 0
    assert err.startswith("warning: the record is written, but ")
    assert "blocked/watch.prom cannot be written" in err
    assert len(read_watch("out/model-watch")) == 1


def test_after_a_crash_the_callbacks_are_called_again(batches: Path) -> None:
    """With the last record alone, when its batch comes again."""
    first, second = (Watch(batches, "w").observe(f"m{number}.csv") for number in range(2))
    seen: list[WatchRecord] = []
    watch = Watch(batches, "w", callbacks=[seen.append, PrometheusFile("watch.prom", "w", "digits")])
    assert watch.observe("m0.csv") == first
    assert seen == []
    assert watch.observe("m1.csv") == second
    assert seen == [second]
    assert samples(Path("watch.prom").read_text())["value", "drift_auc"] == numbers(second)["drift_auc"]
