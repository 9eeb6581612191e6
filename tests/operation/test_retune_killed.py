"""kill -9 at any moment of a re-tuning: what is written is whole, and --resume gives what nobody interrupted.

Everything that letsam writes is put in its place by `os.replace` or `os.rename`, and before that it is in a temporary
file. So a process is killed right before or right after its n-th such call, for random n and for those at the end, when
the version is written and becomes the current one; and at random times.
"""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

import warm
from letsam.model_folder import model_place, version_of
from letsam.model_folder.manifest import check_manifest
from letsam.model_folder.model_places import versions_in
from letsam.model_folder.version_folder import VersionFolder
from retune_cases import champion, content, state

KILLED = """
import os, signal, sys
import letsam.reports.html
from letsam.cli import run
from letsam.operation.promotion import Promotion

letsam.reports.html.write_report = lambda results, path, *_: path.write_text("page")
Promotion.verdict = "go"
at, after, calls = int(os.environ["AT"]), os.environ["AFTER"] == "1", 0

def counted(function):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = function(*arguments, **named)
        if calls == at and after:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return call

os.replace, os.rename = counted(os.replace), counted(os.rename)
status = run(["retune", "wine", "new.csv", "--seeds", "3", "--epochs", "1", "--out", "v", *sys.argv[1:]])
print("calls", calls)
sys.exit(status)
"""


def start(at: int, *arguments: str, after: bool = False) -> warm.Started:
    return warm.start("killed.py", *arguments, env=warm.environment(AT=str(at), AFTER=str(int(after))))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    champion(tmp_path)
    (tmp_path / "killed.py").write_text(KILLED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], int]:
    """What a re-tuning writes that nobody interrupts, and its number of calls."""
    folder = tmp_path_factory.mktemp("undisturbed")
    champion(folder)
    (folder / "killed.py").write_text(KILLED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = start(0).wait()
    assert done.returncode == 0, done.stderr
    return state(folder / "v"), int(done.stdout.split()[-1])


def check_whole(folder: Path) -> None:
    """Every version is whole, and one of them is the current one as soon as there is any."""
    for place in versions_in(folder).values():
        check_manifest(place)
        assert version_of(place) is not None
    if (folder / "current.json").exists():
        assert model_place(folder).name in ("v0001", "v0002")


def test_killed_at_its_writes(here: Path, undisturbed: tuple[dict[str, object], int]) -> None:
    expected, calls = undisturbed
    assert calls > 30
    end = [(at, after) for at in range(calls - 2, calls + 1) for after in (False, True)]
    drawn = [(at, bool(at % 2)) for at in sorted(random.sample(range(1, calls - 2), 3))]
    for at, after in [*drawn, *end]:
        shutil.rmtree("v", ignore_errors=True)
        killed = start(at, after=after).wait()
        assert killed.returncode == -9, (at, killed.stderr)
        check_whole(here / "v")
        done = start(0, "--resume").wait()
        assert done.returncode == 0, (at, after, done.stderr)
        found = state(here / "v")
        assert found.keys() == expected.keys(), (at, after)
        for name, value in expected.items():
            assert found[name] == value, (at, after, name)


def test_killed_again_and_again_at_random_times(here: Path, undisturbed: tuple[dict[str, object], int]) -> None:
    started = time.monotonic()
    times = 0
    while times < 4:
        running = start(0, "--resume")
        time.sleep(random.uniform(0.1, 2.0) if times else 0.1)
        if running.process.exitcode is not None:
            break
        running.process.kill()
        running.process.join()
        times += 1
        check_whole(here / "v")
    done = start(0, "--resume").wait()
    assert done.returncode == 0, done.stderr
    assert times > 0
    assert state(here / "v") == undisturbed[0]
    assert time.monotonic() - started < 300


def test_what_was_interrupted_is_not_begun_anew_without_resume(here: Path) -> None:
    assert start(12, after=True).wait().returncode == -9
    before = state(here / "v")
    done = start(0).wait()
    assert done.returncode == 2
    assert done.stderr == (
        "error: v/retunes/v0002: holds an unfinished re-tuning; add --resume to complete it, or remove this folder "
        "(more: letsam docs how-to/retune)\n"
    )
    for change, message in (
        (("--lr", "0.02"), "an unfinished re-tuning with other options: lr was 0.0003, got 0.02"),
        (("--radius", "continue"), "with other options: radius was 'fresh', got 'continue'"),
        (("--old", "old.csv"), "with other options: old was None, got 'old.csv'"),
        (("--validation-share", "0.2"), "with other options: validation_share was 0.1, got 0.2"),
        (("--test", "old.csv"), "with other options: test was None, got 'old.csv'"),
    ):
        done = start(0, "--resume", *change).wait()
        assert done.returncode == 2
        assert message in done.stderr
    rows = (here / "new.csv").read_text().splitlines()
    (here / "new.csv").write_text("\n".join([*rows[:-1], rows[1]]))
    done = start(0, "--resume").wait()
    assert done.returncode == 2
    assert "holds an unfinished re-tuning with other data" in done.stderr
    assert state(here / "v") == before
    assert content(here / "v" / "retunes" / "v0002" / "retune.json")["finished"] is False


def test_a_version_that_became_current_right_before_the_kill(here: Path, undisturbed: tuple[object, int]) -> None:
    """The model in use is another one by then; the re-tuning is completed all the same, and not begun anew."""
    shutil.copytree("wine/model", "v/v0001")
    (here / "killed.py").write_text(KILLED.replace('"wine", "new.csv"', '"v", "new.csv"').replace('"--out", "v", ', ""))
    VersionFolder(here / "v").begin(here / "wine" / "model")
    calls = undisturbed[1] - 2  # the first version is there already
    for at in range(calls - 2, calls + 1):
        for name in ("v0002", "retunes"):
            shutil.rmtree(here / "v" / name, ignore_errors=True)
        VersionFolder(here / "v").make_current(here / "v" / "v0001")
        assert start(at, after=True).wait().returncode == -9
        assert start(0, "--resume").wait().returncode == 0
        assert sorted(versions_in(here / "v")) == [1, 2]
        assert content(here / "v" / "current.json")["version"] == "v0002"
        assert content(here / "v" / "retunes" / "v0002" / "retune.json")["finished"] is True
