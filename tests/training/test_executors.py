"""Workers: bounded retries, errors with their message, and a real cluster with a worker that is killed."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import cluster_cases
import warm
from letsam.cli import run
from letsam.results import Results
from letsam.training import executors
from letsam.training.executors import (
    RETRIES,
    Answered,
    Backend,
    Call,
    Hear,
    Here,
    Lost,
    Outcome,
    Raised,
    answer_to,
    make_backend,
    run_all,
)
from trial_cases import records, rows

TASK = Path(cluster_cases.__file__)
OPTIONS = ("--methods", "sgd,sam:0.1,lets-sam", "--seeds", "2", "--device", "cpu")
ROWS = [(row, seed) for seed in (0, 1) for row in ("sgd", "sam:0.1", "lets-sam", "lets-sam+refit")]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the trial in this process."""
    out = tmp_path_factory.mktemp("one")
    assert run(["trial", f"{TASK}:plain", *OPTIONS, "--out", str(out)]) == 0
    return out


@pytest.fixture
def dask_executor(marker: Path) -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster:
        yield cluster.scheduler_address.replace("tcp://", "dask://")


@pytest.fixture
def ray_executor(marker: Path) -> Iterator[str]:
    import ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        logging_level="error",
        log_to_driver=False,
        address="local",
    )
    yield "ray://auto"
    assert ray.is_initialized(), "a connection that the program has made is left to it"
    ray.shutdown()


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "killed"
    monkeypatch.setenv(cluster_cases.MARKER, str(path))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["joblib", "dask", "ray"])
def test_a_killed_worker_changes_no_number(
    kind: str,
    one_process: Path,
    marker: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two workers; one ends in the middle of its first run. Every finished run is saved as it arrives."""
    chosen = ("--jobs", "2") if kind == "joblib" else ("--executor", request.getfixturevalue(f"{kind}_executor"))
    saved: list[int] = []
    save = Results.save
    monkeypatch.setattr(Results, "save", lambda self, path: (saved.append(len(self.runs)), save(self, path)))
    with caplog.at_level(logging.WARNING, "letsam"):
        assert run(["trial", f"{TASK}:kills", *OPTIONS, *chosen, "--out", str(tmp_path / "o")]) == 0
    assert marker.exists()
    results = Results.load(tmp_path / "o" / "results.json")
    assert rows(results) == ROWS
    assert records(results) == records(Results.load(one_process / "results.json"))
    files = {path.name: path.read_bytes() for path in (one_process / "predictions").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "o" / "predictions").iterdir()}
    assert len(files) == len(ROWS)
    assert saved == [*range(1, 9), 8]  # the last time with the verdict
    (message,) = {one.getMessage() for one in caplog.records if one.name.startswith("letsam")}
    assert message.startswith("a worker ended while working on ")
    assert message.endswith("; it starts again, attempt 2 of 4")


# Without processes


class Flaky(Backend):
    """Two workers, of which one ends whenever the item is in `bad`, so many times; answers come in order."""

    def __init__(self, bad: dict[Any, int], *, restarted: bool = False) -> None:
        self.bad, self.restarted, self.closed = dict(bad), restarted, False
        self.given: deque[tuple[int, Call[Any]]] = deque()
        self.most = 0

    @property
    def capacity(self) -> int:
        return 2

    def submit(self, number: int, call: Call[Any]) -> None:
        self.given.append((number, call))
        self.most = max(self.most, len(self.given))

    def wait(self, hear: Hear) -> list[tuple[int, Outcome]]:
        number, call = self.given.popleft()
        if self.bad.get(call.item, 0):
            self.bad[call.item] -= 1
            if self.restarted:
                self.given.append((number, call))
            return [(number, Lost("it was killed", self.restarted))]
        call = pickle.loads(pickle.dumps(call))
        return [(number, answer_to(call, lambda value: hear(number, value)))]

    def close(self) -> None:
        self.closed = True


def double(item: int, tell: executors.Tell) -> int:
    tell(("half", item))
    return 2 * item


@pytest.mark.parametrize("restarted", [False, True])
def test_items_are_started_again_a_bounded_number_of_times(restarted: bool, caplog: pytest.LogCaptureFixture) -> None:
    backend = Flaky({2: RETRIES}, restarted=restarted)
    heard: list[Any] = []
    found = list(run_all(double, [1, 2, 3], backend, heard=lambda *one: heard.append(one)))
    assert sorted(found) == [(1, 2), (2, 4), (3, 6)]
    assert sorted(heard) == [(item, ("half", item)) for item in (1, 2, 3)]
    assert [one.getMessage() for one in caplog.records] == [
        f"a worker ended while working on 2 (it was killed); it starts again, attempt {attempt} of 4"
        for attempt in (2, 3, 4)
    ]
    backend = Flaky({2: RETRIES + 1}, restarted=restarted)
    with pytest.raises(RuntimeError, match=r"^the worker ended 4 times while working on 2 \(it was killed\)"):
        list(run_all(double, [1, 2, 3], backend))
    assert backend.closed


def test_what_follows_is_next_and_no_more_runs_at_once_than_there_are_workers() -> None:
    backend = Flaky({})
    found = [item for item, _ in run_all(double, [1, 2, 3, 4], backend, follow=lambda item, _: [10] * (item == 1))]
    assert found == [1, 2, 10, 3, 4]
    assert (backend.most, backend.closed) == (2, True)


def test_an_interruption_stops_the_workers() -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    backend = Flaky({})
    with pytest.raises(KeyboardInterrupt):
        list(run_all(double, [1], backend, heard=interrupt))
    assert backend.closed


class Unsendable(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} is not {other}")
        self.function = lambda: one


def fails(item: str, tell: executors.Tell) -> None:
    if item == "value":
        raise ValueError("`item` must not be 1, got 1")
    if item == "exit":
        sys.exit(3)
    raise Unsendable(1, 2)


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ("value", ValueError, "`item` must not be 1, got 1"),
        ("exit", RuntimeError, "SystemExit: 3"),
        ("other", RuntimeError, "Unsendable: 1 is not 2"),
    ],
)
def test_errors_of_the_work_come_with_their_message(item: str, error: type[Exception], message: str) -> None:
    backend = Flaky({})
    with pytest.raises(error) as caught:
        list(run_all(fails, [item], backend))
    assert str(caught.value) == message
    assert backend.closed
    answer = answer_to(Call(fails, item), lambda value: None, cluster=True)
    assert isinstance(answer, Raised)
    assert str(answer.error).startswith(f"{message} (on the worker " if item != "other" else message)


def place(item: int, tell: executors.Tell) -> tuple[str, int]:
    return os.getcwd(), torch.get_num_threads()


def test_a_worker_has_the_folder_of_the_trial_one_thread_and_its_versions(tmp_path: Path) -> None:
    before = os.getcwd()
    assert answer_to(Call(place, 0, str(tmp_path)), lambda _: None) == Answered((str(tmp_path), 1))
    assert answer_to(Call(place, 0, str(tmp_path / "none")), lambda _: None) == Answered((before, 1))
    assert os.getcwd() == before
    answer = answer_to(Call(place, 0, versions=("0.0.0", torch.__version__)), lambda _: None, cluster=True)
    assert isinstance(answer, Raised)
    assert "every worker must have letsam 0.0.0, so that all runs are comparable, got" in str(answer.error)


@pytest.mark.parametrize(
    ("executor", "jobs", "message"),
    [
        ("slurm", 1, "`executor` must be joblib, dask://HOST:PORT, ray://HOST:PORT or ray://auto, got 'slurm'"),
        ("dask://", 1, "`executor` must be "),
        ("dask://host", 1, "`executor` must be "),
        ("dask://auto", 1, "`executor` must be "),
        ("spark://host:1", 1, "`executor` must be "),
        ("joblib", 0, "`jobs` must be a whole number >= 1, got 0"),
        ("ray://auto", 2, "`jobs` must be 1 with ray://auto, which has its own number of workers, got 2"),
    ],
)
def test_executors_that_there_are_not(executor: str, jobs: int, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        make_backend(executor, jobs)


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from letsam.training import dask_cluster

    monkeypatch.setattr(dask_cluster, "SECONDS", 0.2)
    with pytest.raises(ValueError, match=r"^`executor`: no Dask scheduler answers at 127\.0\.0\.1:9$"):
        make_backend("dask://127.0.0.1:9")


def test_here_an_exception_is_the_same_object() -> None:
    with pytest.raises(Unsendable, match="1 is not 2"):
        list(run_all(fails, ["other"], Here()))


PARENT = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from training.sleeping_work import work
from letsam.training.executors import make_backend, run_all
list(run_all(work, [sys.argv[2]], make_backend("joblib", 1)))
"""


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Which cannot tell them; they notice, also in the middle of a run."""
    (tmp_path / "work.py").write_text(
        "import os, time\nfrom pathlib import Path\n"
        "def work(item, tell):\n"
        "    Path(item).with_suffix('.tmp').write_text(str(os.getpid()))\n"
        "    Path(item).with_suffix('.tmp').rename(item)\n"
        "    time.sleep(60)\n"
    )
    code = PARENT.replace("training.sleeping_work", "work")
    told = tmp_path / "pid"
    command = [sys.executable, "-c", code, str(tmp_path), str(told)]
    env = warm.environment()
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), env["PYTHONPATH"]])
    parent = subprocess.Popen(command, env=env)
    deadline = time.monotonic() + 60
    while not told.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = int(told.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)


def alive(process: int) -> bool:
    """Whether it runs; one that has ended may wait for its new parent to notice."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
