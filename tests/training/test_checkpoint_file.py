"""Checkpoints of a run: the file, and what a fresh run makes of it."""

from __future__ import annotations

import pickle
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import training_cases
from letsam.training.checkpoint_file import FORMAT, load_checkpoint, save_checkpoint
from letsam.training.loop import Training
from training_cases import finish, same, start, weights, without_seconds

IDENTITY = {"task": "blobs", "methods": ["sgd"], "seeds": [0], "rho": None, "label_noise": 0.0}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "checkpoint.pt"


@pytest.fixture
def saved(path: Path) -> bytes:
    save_checkpoint(path, {"weights": torch.arange(4.0), "epoch": 3, "history": {"rho": [None, 0.1]}}, IDENTITY)
    return path.read_bytes()


# A run goes on where it was


def through_a_file(run: Training, path: Path) -> dict[str, Any]:
    save_checkpoint(path, run.state_dict(), IDENTITY)
    return load_checkpoint(path, IDENTITY)


def check_continues(make: Callable[[], Training], path: Path) -> None:
    """Save after every epoch, go on in a fresh run from each file, compare with the run that was never interrupted."""
    whole = make()
    states = []
    while not whole.finished:
        states.append(through_a_file(whole, path))
        whole.advance()
    states.append(through_a_file(whole, path))
    for epoch, state in enumerate(states):
        torch.manual_seed(987)
        again = make()
        torch.rand(epoch + 1)  # whatever else has drawn
        again.load_state_dict(state)
        assert again.epoch == epoch
        finish(again)
        assert torch.equal(weights(again), weights(whole))
        assert same(again.state_dict()["optimizer"], whole.state_dict()["optimizer"])
        assert same(without_seconds(again.result()), without_seconds(whole.result()))


@pytest.mark.parametrize(
    "method", ["sgd", "sam", "asam", "lets-sam", "lets-asam", "lets-paper-sam", "lets-sam-per-layer"]
)
def test_a_fresh_run_continues_bit_for_bit(method: str, path: Path) -> None:
    """With dropout, so that the random state counts as well."""
    task = training_cases.task(dropout=0.5)
    check_continues(lambda: start(task, method, 3, label_noise=0.2), path)


@pytest.mark.parametrize("method", ["sgd", "lets-sam"])
@pytest.mark.parametrize(
    "changes",
    [
        {"items": True, "dropout": 0.3},
        {"optimizer": lambda p: torch.optim.AdamW(p, lr=0.01)},
        {"validation": training_cases.VALIDATION},
    ],
    ids=["items", "adamw", "validation"],
)
def test_also_with_other_data_and_base_optimizers(method: str, changes: dict[str, Any], path: Path) -> None:
    task = training_cases.task(**changes)
    check_continues(lambda: start(task, method), path)


@pytest.mark.parametrize("method", ["lets-sam", "lets-sam-per-layer"])
def test_also_a_refit(method: str, path: Path) -> None:
    task = training_cases.task()
    searched = finish(start(task, method)).result()
    check_continues(lambda: start(task, method, searched=searched), path)


def test_a_state_with_the_means_of_many_radii_is_refused(path: Path) -> None:
    run = start(training_cases.task(), "lets-sam-per-layer")
    run.advance()
    state = through_a_file(run, path)
    state["progress"]["rho_schedule"] = [sum(step) / len(step) for step in state["progress"]["rho_schedule"]]
    with pytest.raises(ValueError, match=r"^`state` must hold every learned radius, got the means that an older"):
        start(training_cases.task(), "lets-sam-per-layer").load_state_dict(state)


def test_the_radius_and_its_optimizer_are_in_the_file(path: Path) -> None:
    run = start(training_cases.task(), "lets-sam")
    run.advance()
    radius = through_a_file(run, path)["optimizer"]["sharpness_aware"]["radius"]

    assert radius["rho"] == run.optimizer.rho  # type: ignore[attr-defined]
    assert radius["exp_avg"] != 0
    assert radius["updates"] > 0


def test_the_generator_of_the_accelerator_is_kept(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Without one: what is asked of torch.cuda is recorded."""
    run = start(training_cases.task(), "sgd")
    state, device, put = torch.arange(4, dtype=torch.uint8), torch.device("cuda"), []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda where: state if where == device else None)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda value, where: put.append((value, where)))
    run.fabric = SimpleNamespace(device=device, world_size=1, global_rank=0, strategy=None)  # type: ignore[assignment]
    run.load_state_dict(through_a_file(run, path))

    assert len(put) == 1
    assert torch.equal(put[0][0], state)
    assert put[0][1] == device
    # a file from the accelerator is read where there is none
    start(training_cases.task(), "sgd").load_state_dict(load_checkpoint(path, IDENTITY))


# The file


def test_what_is_saved_is_loaded(path: Path, saved: bytes) -> None:
    state = load_checkpoint(path, IDENTITY)

    assert same(state, {"weights": torch.arange(4.0), "epoch": 3, "history": {"rho": [None, 0.1]}})
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def refused(path: Path, identity: dict[str, Any] = IDENTITY) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would be a second line on the user's terminal
        with pytest.raises(ValueError) as caught:
            load_checkpoint(path, identity)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected a ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.9, 0.999])
def test_a_file_cut_short(path: Path, saved: bytes, share: float) -> None:
    path.write_bytes(saved[: int(share * len(saved))])
    assert refused(path).endswith("got a file that cannot be read as one")


def test_a_damaged_file(path: Path, saved: bytes) -> None:
    """Whatever bytes are wrong: one line, or the content as it was."""
    rng = random.Random(0)
    for _ in range(150):
        damaged = bytearray(saved)
        for _ in range(rng.choice((1, 3, 30))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            state = load_checkpoint(path, IDENTITY)
        except ValueError:
            refused(path)
        else:
            assert same(state["weights"], torch.arange(4.0))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"some text\n",
        b"\x80\x02}q\x00.",
        b"\x80\x05\x95",
        b"PK\x03\x04 not really",
        bytes(range(256)) * 8,
        pickle.dumps({"format": FORMAT, "identity": IDENTITY, "state": {}}),
    ],
    ids=["empty", "text", "pickle", "cut pickle", "zip", "bytes", "plain pickle"],
)
def test_files_of_other_programs(path: Path, saved: bytes, content: bytes) -> None:
    path.write_bytes(content)
    assert "expected a letsam checkpoint" in refused(path)


@pytest.mark.parametrize(
    "content",
    [
        {"weight": torch.ones(2)},
        [torch.ones(2)],
        torch.ones(2),
        None,
        {"format": "letsam checkpoint 0", "identity": IDENTITY, "state": {}},
        {"format": FORMAT},
        {"format": FORMAT, "identity": IDENTITY},
        {"format": FORMAT, "identity": None, "state": {}},
        {"format": FORMAT, "identity": IDENTITY, "state": [1]},
    ],
    ids=["state_dict", "list", "tensor", "none", "other version", "bare", "no state", "no identity", "state is a list"],
)
def test_torch_files_that_are_no_checkpoints(path: Path, saved: bytes, content: Any) -> None:
    torch.save(content, path)
    assert refused(path).endswith("expected a letsam checkpoint, got another file")


def test_missing_file_and_folder(path: Path) -> None:
    refused(path)
    path.mkdir(parents=True)
    refused(path)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_reading_a_file_runs_nothing(path: Path, saved: bytes, tmp_path: Path) -> None:
    torch.save({"format": FORMAT, "identity": IDENTITY, "state": {"x": Bomb(tmp_path / "ran")}}, path)
    refused(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "digits"}, "with task 'digits', got 'blobs'"),
        ({"seeds": [1]}, r"with seeds [1], got [0]"),
        ({"methods": ["sam"]}, "with methods ['sam'], got ['sgd']"),
        ({"rho": 0.1}, "with rho 0.1, got None"),
        ({"new": 1}, "with new 1, got None"),
    ],
)
def test_a_checkpoint_of_another_run(path: Path, saved: bytes, changes: dict[str, Any], message: str) -> None:
    assert refused(path, {**IDENTITY, **changes}) == f"{path}: expected a checkpoint {message}"
    assert path.read_bytes() == saved


# Written whole or not at all


@pytest.mark.parametrize("where", ["torch.save", "os.replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("exists", [True, False])
def test_a_failed_save_leaves_the_old_file(
    where: str, error: BaseException, exists: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if exists:
        save_checkpoint(path, {"epoch": 1}, IDENTITY)
    before = path.read_bytes() if exists else None

    def fail(content: Any, target: Any) -> None:
        if where == "torch.save":
            Path(target).write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        with pytest.raises(type(error)):
            save_checkpoint(path, {"epoch": 2}, IDENTITY)

    assert [file.name for file in path.parent.iterdir()] == (["checkpoint.pt"] if exists else [])
    assert (path.read_bytes() if exists else None) == before


def test_a_new_save_takes_the_place_of_the_old(path: Path, saved: bytes) -> None:
    save_checkpoint(path, {"epoch": 4}, IDENTITY)
    assert load_checkpoint(path, IDENTITY) == {"epoch": 4}
