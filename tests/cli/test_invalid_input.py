"""Invalid input: exit status 2, one line on stderr, nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cli_cases import (
    MINE,
    TASK_FILE,
    TRAIN,
)
from letsam.cli import run
from letsam.tasks import TaskError

BAD_TASKS = [
    ("digit", r"unknown task 'digit', did you mean 'digits'\?$"),
    ("Glue/MRPC", r"unknown task 'Glue/MRPC', did you mean 'glue/mrpc'\?$"),
    ("coco", "unknown task 'coco', expected one that `letsam tasks` lists, a file or folder of data, or your own"),
    ("my_tsak.py", "names a file but no function"),
    ("./brokn.py2", r"unknown task './brokn.py2', did you mean 'broken.py'\?$"),
    ("none/folder", "unknown task 'none/folder': there is no such file or folder of data$"),
    ("", "unknown task ''"),
    ("my_task.py", "names a file but no function, expected my_task.py:function"),
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
    ("my_task.py:failing_loss", r"error: `loss` raised RuntimeError: first second \(my_task.py, line \d+\)$"),
    ("my_task.py:vector_metric", r"`metric` must return a scalar tensor, got \(\d+,\)"),
    ("my_task.py:no_optimizer", "`optimizer` must return a torch.optim.Optimizer, got NoneType"),
    ("my_task.py:no_module", "`model` must return a torch.nn.Module, got int"),
]
BAD_OPTIONS = [
    (("--methods", "sgd,lets-sma"), "`methods` must be of .{,50} got 'lets-sma', did you mean 'lets-sam'"),
    (("--methods", "SAM"), r"`methods` must be of .{,50} got 'SAM', did you mean 'sam'\?$"),
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
    (("--seeds", "9223372036854775808,"), r"`seeds` must be a whole number below 2\*\*63"),
    (("--label-noise", "1"), "`label_noise` must be at least 0 and below 1, got 1.0"),
    (("--label-noise", "-0.1"), "`label_noise` must be at least 0 and below 1, got -0.1"),
    (("--label-noise", "nan"), "`label_noise` must be at least 0 and below 1, got nan"),
    (("--max-grad-norm", "0"), "`max_grad_norm` must be > 0, got 0.0"),
    (("--validation-share", "0"), "`validation_share` must be between 0 and 1, got 0.0"),
    (("--validation-share", "1"), "`validation_share` must be between 0 and 1, got 1.0"),
    (("--validation-share", "0.001"), "`validation_share` = 0.001 of 40 samples must leave at least 1"),
    (("--lr", "0"), "`lr` must be > 0, got 0.0"),
    (("--lr", "fast"), "`lr` must be a number above 0, or auto, got 'fast'"),
    (("--weight-decay", "-1"), "`weight_decay` must be at least 0, got -1.0"),
    (("--optimizer", "adamm"), r"`optimizer` must be .*sgd.*, got 'adamm', did you mean 'adam[w]?'\?$"),
    (("--pretrained", "minilm"), "`--pretrained` needs a TASK that is a file or folder of data"),
    (("--lora",), "`--lora` needs a TASK that is a file or folder of data"),
    (("--train-size", "100"), "task 'my_task.py:make_task' takes no `train_size`"),
    (("--data-dir", "."), "task 'my_task.py:make_task' takes no `data_dir`"),
    (("--device", "gpu"), r"`device` must be one of auto, cpu, cuda, mps, got 'gpu', did you mean 'cpu'\?$"),
    (("--device", "cuda"), "`device` must be available on this machine, got 'cuda'"),
    (("--out", "my_task.py"), "`out` must be a folder, got the file my_task.py"),
    (("--out", "my_task.py/below"), "`out` must be a folder, got the file my_task.py"),
    (
        ("--executor", "slurm"),
        "`executor` must be joblib, dask://HOST:PORT, ray://.*, got 'slurm'",
    ),
    (("--executor", "ray://auto", "--jobs", "2"), "`jobs` must be 1 with ray://auto, which has its own number of"),
    (("--search", "momentum"), "`search` must name some of lr, weight_decay, got 'momentum'"),
    (("--search", "lr,weight-decay"), r"`search` must name .*'lr, weight-decay', did you mean 'weight_decay'\?$"),
    (("--log", "csv,tensorbord"), r"`log` must be of .* got 'csv,tensorbord', did you mean 'tensorboard'\?$"),
    (("--validation-shift", "blurr:2"), r"`validation_shift` must be of .* got 'blurr', did you mean 'blur'\?$"),
    (("--evaluate-shift", "Noise"), r"`evaluate_shift` must be of .* got 'Noise', did you mean 'noise'\?$"),
    (("--search-trials", "3"), "`search_trials` needs `search`, which names what is tuned, got 3"),
    (("--search-storage", "sqlite:///x.db"), "`search_storage` needs `search`"),
    (("--no-such-option",), "[Nn]o such option.*--no-such-option"),
    (("--epochs",), "--epochs.*requires an argument"),
    (("surplus",), "[Uu]nexpected extra argument.*surplus"),
]


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
    with pytest.raises(TaskError, match="`loss` raised RuntimeError: first second") as raised:
        run(["trial", "my_task.py:failing_loss"])
    assert str(raised.value.__cause__) == "first\nsecond"
