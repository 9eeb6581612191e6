"""The command line: what it writes, what it says, and that bad input costs one line and nothing else."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import letsam
from letsam.cli import run
from letsam.results import Results
from letsam.training import trial as trials
from letsam.training.loop import Training
from training_cases import learned_passes, without_seconds

TASK_FILE = """
import os, sys, time
import torch
from torch import nn
from torch.utils.data import TensorDataset
from letsam.tasks import Task

def data(count, seed):
    g = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=g)
    return TensorDataset(inputs, (inputs[:, 0] > 0).long())

def make(**changes):
    model = lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
    fields = dict(name="mine", model=model, train=data(40, 0), test=data(30, 1), epochs=3, batch_size=8)
    return Task(**{**fields, **changes})

def loss(outputs, targets):
    time.sleep(float(os.environ.get("SLOW", 0)))
    return nn.functional.cross_entropy(outputs, targets)

def make_task(): return make(loss=loss)
def own_validation(): return make(validation=data(20, 2))
def wider(): return make(model=lambda: nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 2)))
def wild(): return make(optimizer=lambda p: torch.optim.SGD(p, lr=1e30), model=lambda: nn.Sequential(
    nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 2)))
def three(): return make(train=data(3, 0))
def raises(): raise RuntimeError("no data\\nhere")
def leaves(): sys.exit(3)
def number(): return 3
def vector_loss(): return make(loss=nn.CrossEntropyLoss(reduction="none"))
def float_loss(): return make(loss=lambda outputs, targets: 1.0)
def detached_loss(): return make(loss=lambda outputs, targets: outputs.detach().mean())
def two_lines(outputs, targets): raise RuntimeError("first\\nsecond")
def failing_loss(): return make(loss=two_lines)
def vector_metric(): return make(metric=lambda outputs, targets: outputs.argmax(1))
def no_optimizer(): return make(optimizer=lambda p: None)
def no_module(): return make(model=lambda: 3)
"""

RUN_FIELDS = [
    "method",
    "seed",
    "rho_initial",
    "rho_final",
    "test_accuracy",
    "test_loss",
    "train_loss",
    "validation_loss",
    "generalization_gap",
    "gradient_passes",
    "seconds",
    "history",
    "metric",
]
TRIAL = ("trial", "my_task.py:make_task", "--methods", "sgd,sam:0.1,lets-sam", "--seeds", "2")
ROWS = [(row, seed) for seed in (0, 1) for row in ("sgd", "sam:0.1", "lets-sam", "lets-sam+refit")]
TRAIN = ("train", "my_task.py:make_task", "--method", "lets-sam", "--out", "one")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a task file, as a user has it."""
    (tmp_path / "my_task.py").write_text(TASK_FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.fixture
def real_report() -> None:
    """Asked for by tests that look at the page: the report is made, which takes its time."""


@pytest.fixture(autouse=True)
def _quick_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_report" not in request.fixturenames:

        def write_report(results: Results, path: Path) -> None:
            path.write_text(f"<p>{len(results.runs)} runs</p>")

        monkeypatch.setattr("letsam.reports.html.write_report", write_report)


@pytest.fixture
def letsam_run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line here; gives status, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run(arguments)
        return (status, *capsys.readouterr())

    return call


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "LETSAM_TRACEBACK")}
    source = str(Path(letsam.__file__).parents[1])
    return {**kept, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **extra}


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "letsam", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)


def records(path: Path) -> list[dict[str, Any]]:
    return [without_seconds(record) for record in Results.load(path).runs]


def rows(path: Path) -> list[tuple[str, int]]:
    return [(record.method, record.seed) for record in Results.load(path).runs]


# Bad input: status 2, one line, nothing written


def check_error(result: tuple[int, str, str], message: str) -> None:
    status, out, err = result
    assert re.search(message, err), err
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "\x1b" not in err
    assert out == ""
    assert status == 2


MINE = "my_task.py:make_task"
BAD_TASKS = [
    ("digit", r"unknown task 'digit' \(did you mean 'digits'\?\), expected one of digits, fashion-mnist"),
    ("coco", "unknown task 'coco', expected one of digits"),
    ("", "unknown task ''"),
    ("my_task.py", "names a file and no function, expected my_task.py:function"),
    ("nowhere.py:make_task", "task file nowhere.py does not exist"),
    ("no_such_package.module:make_task", "no module named 'no_such_package.module'"),
    ("my_task.py:make_tsak", "has no function 'make_tsak'"),
    ("my_task.py:raises", r"raised RuntimeError: no data here \(my_task.py, line \d+\)"),
    ("my_task.py:leaves", "raised SystemExit: 3"),
    ("my_task.py:number", "must return a letsam.tasks.Task, got int"),
    ("broken.py:make_task", "importing broken.py raised SyntaxError"),
    ("failing.py:make_task", "importing failing.py raised ZeroDivisionError"),
    ("my_task.py:three", "`validation_share` = 0.1 of 3 samples must leave at least 1"),
    ("my_task.py:vector_loss", r"`loss` must return a scalar tensor, got \(8,\)"),
    ("my_task.py:float_loss", "`loss` must return a scalar tensor, got float"),
    ("my_task.py:detached_loss", "`loss` must depend on the model's outputs"),
    ("my_task.py:failing_loss", r"RuntimeError: first second \(LETSAM_TRACEBACK=1 shows where\)"),
    ("my_task.py:vector_metric", r"`metric` must return a scalar tensor, got \(\d+,\)"),
    ("my_task.py:no_optimizer", "`optimizer` must return a torch.optim.Optimizer, got NoneType"),
    ("my_task.py:no_module", "`model` must return a torch.nn.Module, got int"),
]
BAD_OPTIONS = [
    (("--methods", "sgd,lets-sma"), "`methods` must be of .* got 'lets-sma', did you mean 'lets-sam'"),
    (("--methods", "sgd:0.1"), "sgd has no radius, got 'sgd:0.1'"),
    (("--methods", "sam:0"), "the radius in 'sam:0' must be a number > 0"),
    (("--methods", "sam:nan"), "the radius in 'sam:nan' must be a number > 0"),
    (("--methods", "sam:x"), "the radius in 'sam:x' must be a number > 0"),
    (("--methods", "sam:fire:"), "the radius in 'sam:fire:' must be a number > 0, got 'fire:'"),
    (("--methods", "sam:[red]"), r"the radius in 'sam:\[red\]' must be a number > 0, got '\[red\]'"),
    (("--methods", ""), "`methods` must name at least one"),
    (("--methods", "sgd,sam,sgd"), "`methods` must not repeat, got sgd, sam, sgd"),
    (("--methods", "sgd,lets-sam:20"), "`rho` must be within `bounds` = .*, got 20.0"),
    (("--rho", "0"), "`rho` must be > 0, got 0.0"),
    (("--rho", "-0.1"), "`rho` must be > 0, got -0.1"),
    (("--rho", "nan"), "`rho` must be > 0, got nan"),
    (("--rho", "inf"), "`rho` must be > 0, got inf"),
    (("--rho", "20"), "`rho` must be within `bounds` = .*, got 20.0"),
    (("--rho", "small"), "--rho.*small|--rho.*number"),
    (("--epochs", "0"), "`epochs` must be a whole number >= 1, got 0"),
    (("--epochs", "1.5"), "--epochs"),
    (("--batch-size", "-1"), "`batch_size` must be a whole number >= 1, got -1"),
    (("--seeds", "0"), "`seeds` must be a count >= 1 .* got '0'"),
    (("--seeds", "-3"), "`seeds` must be .* got '-3'"),
    (("--seeds", "x"), "`seeds` must be .* got 'x'"),
    (("--seeds", "1,x"), "`seeds` must be .* got '1,x'"),
    (("--seeds", "1e3"), "`seeds` must be .* got '1e3'"),
    (("--seeds", ""), "`seeds` must be .* got ''"),
    (("--seeds", ","), "`seeds` must be .* got ','"),
    (("--seeds", "1,-2"), "`seeds` must be .* got '1,-2'"),
    (("--seeds", "3,3"), "`seeds` must not repeat, got 3, 3"),
    (("--seeds", "20240101"), "`seeds` must be a count up to 1000, got 20240101; for one seed write 20240101,"),
    (("--seeds", "9223372036854775808,"), r"`seeds` must be whole numbers below 2\*\*63"),
    (("--label-noise", "1"), "`label_noise` must be at least 0 and below 1, got 1.0"),
    (("--label-noise", "-0.1"), "`label_noise` must be at least 0 and below 1, got -0.1"),
    (("--label-noise", "nan"), "`label_noise` must be at least 0 and below 1, got nan"),
    (("--max-grad-norm", "0"), "`max_grad_norm` must be > 0, got 0.0"),
    (("--validation-share", "0"), "`validation_share` must be between 0 and 1, got 0.0"),
    (("--validation-share", "1"), "`validation_share` must be between 0 and 1, got 1.0"),
    (("--validation-share", "0.001"), "`validation_share` = 0.001 of 40 samples must leave at least 1"),
    (("--train-size", "100"), "task 'my_task.py:make_task' takes no `train_size`"),
    (("--data-dir", "."), "task 'my_task.py:make_task' takes no `data_dir`"),
    (("--device", "gpu"), "`device` must be one of auto, cpu, cuda, mps, got 'gpu'"),
    (("--device", "cuda"), "`device` must be available on this machine, got 'cuda'"),
    (("--out", "my_task.py"), "`out` must be a folder, got the file my_task.py"),
    (("--out", "my_task.py/below"), "`out` must be a folder, got the file my_task.py"),
    (("--no-such-option",), "[Nn]o such option.*--no-such-option"),
    (("--epochs",), "--epochs.*requires an argument"),
    (("surplus",), "[Uu]nexpected extra argument.*surplus"),
]


@pytest.fixture
def bad(here: Path, letsam_run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs the command line with something wrong in it; the folder must be as it was."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("LETSAM_TRACEBACK", raising=False)
    (here / "broken.py").write_text("def make_task(:\n")
    (here / "failing.py").write_text("x = 1 / 0\n")

    def call(*arguments: str, message: str) -> None:
        before = files(here)
        check_error(letsam_run(*arguments), message)
        assert files(here) == before
        assert not (here / "runs").exists()

    return call


@pytest.mark.parametrize(("task", "message"), BAD_TASKS)
def test_tasks_that_cannot_be_used(task: str, message: str, bad: Any) -> None:
    bad("trial", task, "--methods", "sam,lets-sam", message=message)
    if "three" not in task:
        bad("train", task, "--method", "sgd", message=message)


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_options_that_cannot_be_used(options: tuple[str, ...], message: str, bad: Any) -> None:
    bad("trial", MINE, *options, message=message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", MINE), "[Mm]issing option.*--method"),
        (("train", MINE, "--method", "adam"), "`methods` must be of .* got 'adam'"),
        (("train", MINE, "--method", "sam,asam"), "`methods` must be of .* got 'sam,asam'"),
        (("train", MINE, "--method", "sgd", "--seed", "-1"), "`seeds` must be a whole number >= 0, got -1"),
        (("train", MINE, "--method", "sgd", "--seed", str(2**63)), r"below 2\*\*63"),
        (("train", MINE, "--method", "lets-sam:20"), "`rho` must be within `bounds`"),
        (("train", MINE, "--method", "sam", "--rho", "nan"), "`rho` must be > 0, got nan"),
        (("train", "my_task.py:three", "--method", "lets-sam"), "`validation_share` = 0.1 of 3 samples"),
        (("train", MINE, "--method", "sgd", "--out", "my_task.py/x"), "`out` must be a folder"),
        (("trial",), "[Mm]issing argument.*TASK"),
        (("trial", "digits", "--train-size", "3"), "`train_size` must be a whole number from 10 .* got 3"),
        (("trial", "digits", "--train-size", "0"), "`train_size` must be a whole number >= 1, got 0"),
        (("trial", "digits", "--data-dir", "."), "task 'digits' takes no `data_dir`"),
        (("trial", "fashion-mnist", "--data-dir", "."), r"no Fashion-MNIST files .* in \."),
        (("report",), "[Mm]issing argument.*DIR"),
        (("report", "nowhere"), "nowhere/results.json: expected a results file, but there is no such file"),
        (("report", "my_task.py"), "my_task.py/results.json: expected a "),
        (("trail", "digits"), "[Nn]o such command.*trail"),
        (("--version-of-nothing",), "[Nn]o such option"),
    ],
)
def test_commands_that_cannot_be_used(arguments: tuple[str, ...], message: str, bad: Any) -> None:
    bad(*arguments, message=message)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("{", ("--resume",), "old/results.json: expected JSON"),
        ("{}", ("--resume",), "old/results.json: expected the field schema"),
        ("anything", (), "old/results.json: holds results already; add --resume"),
    ],
)
def test_folders_with_something_else(content: str, options: tuple[str, ...], message: str, bad: Any) -> None:
    Path("old").mkdir()
    Path("old/results.json").write_text(content)
    bad("trial", MINE, "--out", "old", *options, message=message)
    bad("train", MINE, "--method", "sgd", "--out", "old", *options, message=message)
    if options:
        bad("report", "old", message=message)


def test_the_folder_of_another_trial_is_left_alone(bad: Any, letsam_run: Any) -> None:
    short = ("--methods", "sgd", "--seeds", "1", "--epochs", "1", "--no-refit", "--out", "old")
    assert letsam_run("trial", MINE, *short)[0] == 0
    already, another = "holds results already; add --resume", "old/results.json: holds another trial: its "
    one = ("--epochs", "1", "--out", "old")

    bad("trial", MINE, *short, message=already)
    bad("trial", MINE, *short, "--label-noise", "0.2", "--resume", message=f"{another}label_noise is 0.0, got 0.2")
    bad("trial", "my_task.py:wider", *short, "--resume", message=f"{another}task is 'my_task.py:make_task', got ")
    bad("train", MINE, "--method", "sgd", *one, message=already)
    bad("train", MINE, "--method", "sgd", "--rho", "0.1", *one, "--resume", message=f"{another}rho is None, got 0.1")
    bad("train", MINE, "--method", "sam", *one, "--resume", message="holds other runs than sam with seed 0")
    bad("train", MINE, "--method", "sgd", "--seed", "1", *one, "--resume", message="than sgd with seed 1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "one/checkpoint.pt: expected a letsam checkpoint, got a file that cannot be read as one"),
        (b"not a checkpoint", "one/checkpoint.pt: expected a letsam checkpoint, got a file that cannot be read as one"),
        (b"\x80\x05\x95", "one/checkpoint.pt: expected a letsam checkpoint, got a file that cannot be read as one"),
    ],
)
def test_a_damaged_checkpoint(content: bytes, message: str, bad: Any) -> None:
    Path("one").mkdir()
    Path("one/checkpoint.pt").write_bytes(content)
    bad(*TRAIN, "--resume", message=message)
    bad(*TRAIN, message="one/checkpoint.pt: holds a run already; add --resume")


def test_a_foreign_checkpoint(bad: Any, letsam_run: Any, here: Path) -> None:
    assert letsam_run(*TRAIN)[0] == 0
    Path("one/results.json").unlink()
    at = r"one/checkpoint.pt: expected a checkpoint "

    bad(*TRAIN, message="holds a run already; add --resume")
    bad(*TRAIN, "--resume", "--seed", "1", message=at + r"with seeds \[1\], got \[0\]")
    bad(*TRAIN, "--resume", "--label-noise", "0.1", message=at + "with label_noise 0.1, got 0.0")
    bad(*TRAIN, "--resume", "--method", "sam", message=at + r"with methods \['sam'\], got \['lets-sam'\]")
    bad("train", "my_task.py:wider", *TRAIN[2:], "--resume", message=at + "with task 'my_task.py:wider', got 'my_task")
    (here / "my_task.py").write_text(TASK_FILE.replace("Linear(4, 8)", "Linear(4, 9)").replace("(8, 2)", "(9, 2)"))
    bad(*TRAIN, "--resume", message=at + "of this model and optimizer, got another's")
    torch.save({"weight": torch.ones(2)}, "one/checkpoint.pt")
    bad(*TRAIN, "--resume", message="one/checkpoint.pt: expected a letsam checkpoint, got another file")


def test_a_traceback_for_those_who_ask(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETSAM_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="first\nsecond"):
        run(["trial", "my_task.py:failing_loss"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trial", "my_task.py:detached_loss", "--methods", "sam"), "`loss` must depend on the model's outputs"),
        (("train", "my_task.py:make_task", "--method", "sgd", "--out", "old", "--resume"), "cannot be read as one"),
    ],
)
def test_bad_input_in_a_process_of_its_own(arguments: tuple[str, ...], message: str, here: Path) -> None:
    (here / "old").mkdir()
    (here / "old" / "checkpoint.pt").write_bytes(b"\x80\x05\x95 no checkpoint")
    before = files(here)
    done = process(*arguments)
    check_error((done.returncode, done.stdout, done.stderr), message)
    assert files(here) == before


# Lists and help


def test_tasks_and_methods(here: Path, letsam_run: Any) -> None:
    status, out, err = letsam_run("tasks")
    assert (status, err) == (0, "")
    assert re.search(r"^digits +\S.*\nfashion-mnist +\S.*\n", out)
    assert "path/to/file.py:function or package.module:function" in out

    status, out, err = letsam_run("methods")
    assert (status, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines()]
    assert names[:5] == ["sgd", "sam", "asam", "lets-sam", "lets-asam"]
    assert "sam:0.1" in out
    for name, variant in letsam.variants.VARIANTS.items():
        assert {name, f"lets-{name}"} <= set(names)
        facts = variant.facts
        row = rf"^{name} +{facts.paper} +{re.escape(facts.passes)} +{facts.copies} +{re.escape(facts.learned)}$"
        assert re.search(row, out, re.MULTILINE)
    assert files(here).keys() == {"my_task.py"}


@pytest.mark.parametrize("arguments", [(), ("--help",), ("trial", "--help")])
def test_help_is_no_error(arguments: tuple[str, ...], letsam_run: Any) -> None:
    status, out, err = letsam_run(*arguments)
    assert (status, err) == (0, "")
    assert "Usage: letsam" in out
    options = ("methods", "seeds", "rho", "epochs", "label-noise", "out", "resume", "device", "validation-share")
    if "trial" in arguments:
        assert all(f"--{name}" in out for name in (*options, "no-refit", "train-size"))


# A trial


@pytest.fixture
def trial(here: Path, letsam_run: Any) -> Path:
    """A finished trial on a task of one's own; what it said was checked."""
    status, out, err = letsam_run(*TRIAL)
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    folder = here / "runs" / "my_task.py-make_task"
    assert out.splitlines()[-1] == f"report: {folder.relative_to(here) / 'report.html'}"
    for row in dict.fromkeys(row for row, _ in ROWS):
        assert re.search(rf"^ *{re.escape(row)} +\d", out, re.MULTILINE), out
    return folder


def test_what_a_trial_writes(real_report: None, trial: Path, here: Path) -> None:
    written = {f"runs/my_task.py-make_task/{name}" for name in ("report.html", "results.json")}
    assert files(here).keys() == {"my_task.py"} | written
    value = json.loads((trial / "results.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert value["task"] == MINE
    assert [(one["method"], one["seed"]) for one in value["runs"]] == ROWS
    for one in value["runs"]:
        assert list(one) == RUN_FIELDS
        learned, radius = one["method"] == "lets-sam", one["method"] != "sgd"
        assert isinstance(one["rho_initial"], float) == isinstance(one["rho_final"], float) == radius
        assert isinstance(one["validation_loss"], float) == learned
        assert 0 <= one["test_accuracy"] <= 1
        assert one["generalization_gap"] == pytest.approx(one["test_loss"] - one["train_loss"])
        search = learned_passes(12)
        passes = {"sgd": 15, "sam:0.1": 30, "lets-sam": search, "lets-sam+refit": search + 30}
        assert one["gradient_passes"] == passes[one["method"]]
        assert one["seconds"] > 0
        columns = {name: len(column) for name, column in one["history"].items()}
        assert columns.pop("rho_schedule", None) == (12 if learned else None)
        assert columns == dict.fromkeys(
            [
                "epoch",
                "train_loss",
                "test_loss",
                "test_accuracy",
                "validation_loss",
                "generalization_gap",
                "rho",
                "hypergradient",
            ],
            3,
        )
    html = (trial / "report.html").read_text()
    assert "lets-sam+refit" in html
    assert "</html>" in html


def test_a_trial_is_reproducible_wherever_it_runs(trial: Path, letsam_run: Any) -> None:
    torch.manual_seed(5)
    assert letsam_run(*TRIAL, "--out", "again/and again", "--device", "cpu")[0] == 0
    assert records(Path("again/and again/results.json")) == records(trial / "results.json")


@pytest.mark.slow
def test_jobs_change_no_number(trial: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes side by side give what one after the other has given, in the same order."""
    asked: list[int] = []
    plain = trials.run_trial_side_by_side

    def counted(config: Any, device: str, jobs: int, *rest: Any) -> Any:
        asked.append(jobs)
        return plain(config, device, jobs, *rest)

    monkeypatch.setattr(trials, "run_trial_side_by_side", counted)
    status, out, err = letsam_run(*TRIAL, "--out", "two", "--jobs", "2")
    assert (status, err) == (0, "")
    assert asked == [2]
    assert records(Path("two/results.json")) == records(trial / "results.json")
    assert out.splitlines()[-1] == f"report: {Path('two/report.html')}"


def test_report_makes_table_and_page_again(real_report: None, trial: Path, letsam_run: Any) -> None:
    page, results = (trial / "report.html").read_bytes(), (trial / "results.json").read_bytes()
    (trial / "report.html").unlink()
    status, out, err = letsam_run("report", str(trial))

    assert (status, err) == (0, "")
    assert "lets-sam+refit" in out
    assert out.splitlines()[-1] == f"report: {trial / 'report.html'}"
    assert (trial / "report.html").read_bytes() == page
    assert (trial / "results.json").read_bytes() == results


def test_a_complete_trial_is_kept_with_resume(trial: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Results.load(trial / "results.json").runs
    monkeypatch.setattr(Training, "advance", lambda run: pytest.fail("trained again"))
    status, out, err = letsam_run(*TRIAL, "--resume")
    assert (status, err) == (0, "")
    assert "lets-sam+refit" in out
    assert Results.load(trial / "results.json").runs == before


@pytest.mark.parametrize(
    ("seeds", "expected"), [("11,12", [11, 12]), ("7,", [7]), ("20240101,", [20240101]), (" 2 ", [0, 1])]
)
def test_seeds_are_a_count_or_a_list(seeds: str, expected: list[int], here: Path, letsam_run: Any) -> None:
    arguments = ("trial", MINE, "--methods", " sgd , ", "--seeds", seeds, "--epochs", "1", "--out", "o")
    assert letsam_run(*arguments)[0] == 0
    assert rows(Path("o/results.json")) == [("sgd", seed) for seed in expected]


def test_a_task_in_a_package_is_the_same_task(here: Path, letsam_run: Any) -> None:
    (here / "letsam_cli_package").mkdir()
    (here / "letsam_cli_package" / "__init__.py").touch()
    (here / "letsam_cli_package" / "module.py").write_text(TASK_FILE)
    options = ("--methods", "lets-asam", "--seeds", "1", "--label-noise", "0.2")
    assert letsam_run("trial", "letsam_cli_package.module:make_task", *options)[0] == 0
    assert letsam_run("trial", MINE, *options)[0] == 0
    one, other = here / "runs" / "letsam_cli_package.module-make_task", here / "runs" / "my_task.py-make_task"
    assert rows(one / "results.json") == [("lets-asam", 0), ("lets-asam+refit", 0)]
    assert records(one / "results.json") == records(other / "results.json")


def test_every_option_reaches_the_training(here: Path, letsam_run: Any) -> None:
    options = {
        "rho": 0.2,
        "epochs": 2,
        "batch_size": 5,
        "label_noise": 0.25,
        "validation_share": 0.3,
        "refit": False,
        "max_grad_norm": 0.5,
    }
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if name != "refit"]
    assert letsam_run("trial", MINE, "--methods", "sam,lets-sam", "--seeds", "1", "--no-refit", *flags)[0] == 0
    results = Results.load(here / "runs" / "my_task.py-make_task" / "results.json")
    fixed, learned = results.runs

    assert options.items() <= dict(results.config).items()
    assert (fixed.rho_initial, fixed.gradient_passes) == (0.2, 2 * 2 * 8)
    assert (learned.rho_initial, learned.gradient_passes) == (0.2, learned_passes(2 * 5))  # 28 of 40 kept
    assert list(fixed.history["epoch"]) == [1, 2]
    clean = ("trial", MINE, "--methods", "sam:0.2", "--seeds", "1", "--epochs", "2", "--batch-size", "5", "--out", "o")
    assert letsam_run(*clean)[0] == 0
    assert Results.load("o/results.json").runs[0].train_loss < fixed.train_loss


def test_digits(here: Path, letsam_run: Any) -> None:
    options = ("--train-size", "200", "--epochs", "2", "--methods", "sam,lets-asam", "--seeds", "1", "--out", "o")
    status, _, err = letsam_run("trial", "digits", *options)
    assert (status, err) == (0, "")
    assert rows(Path("o/results.json")) == [("sam", 0), ("lets-asam", 0), ("lets-asam+refit", 0)]
    assert [one.gradient_passes for one in Results.load("o/results.json").runs] == [
        12,
        learned_passes(4),
        learned_passes(4) + 12,
    ]


def test_validation_data_of_ones_own_leave_no_refit(here: Path, letsam_run: Any) -> None:
    options = ("--methods", "lets-sam", "--seeds", "1", "--out", "o")
    assert letsam_run("trial", "my_task.py:own_validation", *options)[0] == 0
    assert rows(Path("o/results.json")) == [("lets-sam", 0)]


def test_a_trial_that_diverges(real_report: None, here: Path, letsam_run: Any) -> None:
    options = ("--methods", "sgd,sam,lets-sam", "--seeds", "1", "--out", "o")
    status, _, err = letsam_run("trial", "my_task.py:wild", *options)
    assert (status, err) == (0, "")
    value = json.loads(Path("o/results.json").read_text())
    assert value["runs"][0]["test_loss"] is None
    assert len(value["runs"]) == 4
    assert Path("o/report.html").exists()


# Interruption, in this process


class Interrupted:
    """`Training.advance` that raises KeyboardInterrupt in place of its n-th call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.left, self.advance, self.patch = at, Training.advance, monkeypatch

    def __enter__(self) -> None:
        def advance(run: Training) -> None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            self.advance(run)

        self.patch.setattr(Training, "advance", advance)

    def __exit__(self, *_: object) -> None:
        self.patch.setattr(Training, "advance", self.advance)


@pytest.mark.parametrize(("at", "kept"), [(1, 0), (11, 3)])
def test_an_interrupted_trial(
    at: int, kept: int, trial: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path("other")
    with Interrupted(monkeypatch, at):
        status, _, err = letsam_run(*TRIAL, "--out", "other")
    assert status == 130
    assert err == f"interrupted: {kept} of 8 runs are finished; the same command with --resume completes the rest\n"
    assert not (out / "report.html").exists()
    if kept:
        assert records(out / "results.json") == records(trial / "results.json")[:kept]
        assert letsam_run(*TRIAL, "--out", "other")[0] == 2
    assert letsam_run(*TRIAL, "--out", "other", "--resume")[0] == 0
    assert records(out / "results.json") == records(trial / "results.json")
    assert (out / "report.html").exists()


# Training one run


def test_train(real_report: None, here: Path, letsam_run: Any) -> None:
    status, out, err = letsam_run("train", MINE, "--method", "sam:0.1", "--seed", "3")
    folder = Path("runs/my_task.py-make_task/sam-0.1-3")

    assert (status, err) == (0, "")
    assert out.splitlines()[-2:] == [f"checkpoint: {folder / 'checkpoint.pt'}", f"report: {folder / 'report.html'}"]
    assert {path.name for path in folder.iterdir()} == {"checkpoint.pt", "report.html", "results.json"}
    assert rows(folder / "results.json") == [("sam:0.1", 3)]


def test_a_run_of_train_is_that_of_a_trial(trial: Path, letsam_run: Any) -> None:
    assert letsam_run(*TRAIN, "--seed", "1")[0] == 0
    expected = [one for one in records(trial / "results.json") if (one["method"], one["seed"]) == ("lets-sam", 1)]
    assert records(Path("one/results.json")) == expected


@pytest.mark.parametrize(("method", "at"), [("sgd", 2), ("sam", 3), ("lets-sam", 1), ("lets-sam", 2), ("lets-asam", 3)])
def test_an_interrupted_run_of_train(
    method: str, at: int, here: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", MINE, "--method", method, "--label-noise", "0.2")
    with Interrupted(monkeypatch, at):
        status, _, err = letsam_run(*command, "--out", "cut")
    assert status == 130
    assert err == f"interrupted: {at - 1} of 3 epochs are finished; the same command with --resume completes the rest\n"
    assert [path.name for path in here.glob("cut/*")] == (["checkpoint.pt"] if at > 1 else [])

    assert letsam_run(*command, "--out", "cut", "--resume")[0] == 0
    assert letsam_run(*command, "--out", "whole")[0] == 0
    assert records(Path("cut/results.json")) == records(Path("whole/results.json"))
    states = [torch.load(f"{name}/checkpoint.pt", weights_only=True)["state"]["model"] for name in ("cut", "whole")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_a_finished_run_of_train_is_kept_with_resume(here: Path, letsam_run: Any) -> None:
    assert letsam_run(*TRAIN)[0] == 0
    before, runs = files(here)["one/checkpoint.pt"], Results.load("one/results.json").runs
    assert letsam_run(*TRAIN, "--resume")[0] == 0
    assert files(here)["one/checkpoint.pt"] == before
    assert Results.load("one/results.json").runs == runs


# In a process of its own


def read_all(terminal: int) -> str:
    chunks = []
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # Linux: the other side is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks).decode()


@pytest.mark.slow
def test_progress_on_a_terminal(here: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = ("trial", MINE, "--methods", "sgd,lets-sam", "--seeds", "1", "--out", "o")
    with subprocess.Popen(
        [sys.executable, "-m", "letsam", *arguments],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env=environment(TERM="xterm-256color", COLUMNS="100", SLOW="0.01"),
    ) as child:
        os.close(theirs)
        shown = read_all(ours)
        out = child.stdout.read() if child.stdout else ""
    os.close(ours)

    assert child.returncode == 0
    assert "\x1b[" in shown
    for part in ("runs", "sgd, seed 0", "lets-sam, seed 0", "lets-sam+refit, seed 0", "3/3"):
        assert part in shown
    assert "\x1b" not in out
    assert out.splitlines()[-1] == "report: o/report.html"


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(here: Path) -> None:
    """SIGINT to a real process between runs of a second or so; `--resume` completes the rest."""
    arguments = ["letsam", *TRIAL, "--out", "o"]
    # a test runner in the background hands on that SIGINT is ignored; a shell's command line does not
    script = (
        f"import runpy, signal, sys; sys.argv = {arguments!r}; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); runpy.run_module('letsam', run_name='__main__')"
    )
    results = here / "o" / "results.json"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment(SLOW="0.03"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        deadline = time.monotonic() + 60
        while not results.exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)

    kept = Results.load(results).runs
    assert child.returncode == 130, err
    assert out == ""
    assert err == (
        f"interrupted: {len(kept)} of 8 runs are finished; the same command with --resume completes the rest\n"
    )
    assert 0 < len(kept) < 8
    assert [path.name for path in results.parent.iterdir()] == ["results.json"]

    done = process(*TRIAL, "--out", "o", "--resume")
    assert (done.returncode, done.stderr) == (0, "")  # quiet where nobody watches
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert done.stdout.splitlines()[-1] == "report: o/report.html"
    assert rows(results) == ROWS
    assert Results.load(results).runs[: len(kept)] == kept
    assert (here / "o" / "report.html").exists()


@pytest.mark.slow
def test_a_hint_where_the_extra_is_not_installed(here: Path) -> None:
    script = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "typer":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from letsam.__main__ import main
main()
"""
    command = [sys.executable, "-c", script, "tasks"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr == (
        'error: the command letsam needs the package typer: install it with pip install "letsam[trial]"\n'
    )


def test_a_missing_package_that_a_command_needs_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    for name in [name for name in sys.modules if name.startswith("letsam.training.")]:
        monkeypatch.delitem(sys.modules, name)
    assert run(["trial", "digits"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the command letsam needs the package lightning_fabric: install it")
    assert error.count("\n") == 1
