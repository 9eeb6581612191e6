"""`--refit-best`: which method wins, and that it is trained on all the training data."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import letsam
from letsam.model_folder.refit_best import is_written, train_winner
from letsam.model_folder.winner import winner_of
from letsam.results import Results, Run
from letsam.training.sampling import SplitCache
from training_cases import blobs, config, fabric, without_seconds
from training_cases import task as small_task
from trial_cases import run


def record(method: str, seed: int, accuracy: float, validation_loss: float | None = None, **changes: Any) -> Run:
    fields = {"test_loss": 1.0, "train_loss": 0.5, "generalization_gap": 0.5, "gradient_passes": 1, "seconds": 0.0}
    known = {"rho_initial": None, "rho_final": None, "history": {}, **fields, **changes}
    return Run(method=method, seed=seed, test_accuracy=accuracy, validation_loss=validation_loss, **known)


@pytest.mark.parametrize(
    ("runs", "method", "chosen_by"),
    [
        (
            [record("sgd", 3, 0.5), record("sgd", 1, 0.7), record("sam", 3, 0.61), record("sam", 1, 0.61)],
            "sam",
            "among 2 by the highest mean test accuracy over 2 seeds",
        ),
        (
            [record("sgd", 3, 0.5, lower_is_better=True), record("sam", 3, 0.6, lower_is_better=True)],
            "sgd",
            "among 2 by the lowest mean test accuracy of one seed",
        ),
        (
            [record("a", 3, 0.5, 0.1), record("b", 3, 0.6, 0.2)],
            "a",
            "among 2 by the lowest mean validation loss of one seed",
        ),
        (
            [record("a", 3, 0.5, 0.1), record("b", 3, 0.6)],
            "b",
            "among 2 by the highest mean test accuracy of one seed",
        ),
        (
            [record("a", 3, 0.9), record("a", 1, 0.9, test_loss=math.nan), record("b", 3, 0.6)],
            "b",
            "because it was the only one",
        ),
    ],
)
def test_the_winner(runs: list[Run], method: str, chosen_by: str) -> None:
    winner = winner_of(Results("t", {"data": {"samples": [9, 3, 3]}}, {}, tuple(runs)))
    assert (winner.method, winner.seed, winner.chosen_by) == (method, 3, chosen_by)


def test_what_a_radius_holds_out_does_not_choose() -> None:
    runs = (record("a", 3, 0.5, 0.1), record("b", 3, 0.6, 0.2))
    assert winner_of(Results("t", {"data": {"samples": [9, 0, 3]}}, {}, runs)).method == "b"


def test_there_is_no_winner_where_all_diverged() -> None:
    with pytest.raises(ValueError, match="`refit_best` needs a method that has not diverged, and there is none"):
        winner_of(Results("t", {}, {}, (record("sgd", 0, math.nan),)))


@pytest.mark.parametrize("best", ["sam:0.1", "lets-sam", "lets-sam+refit"])
def test_the_winner_is_trained_on_all_the_training_data(best: str, tmp_path: Path) -> None:
    task, options = small_task(), config(methods=["sam:0.1", "lets-sam"], seeds=(4,))
    options = options.for_task(task)
    results = run(task, options, tmp_path)
    runs = [dataclasses.replace(one, test_accuracy=0.99 if one.method == best else 0.1) for one in results.runs]
    results = dataclasses.replace(results, runs=tuple(runs))
    model = train_winner(options, results, SplitCache(task, **options.split_options), fabric())
    expected = "sam:0.1" if best == "sam:0.1" else "lets-sam+refit"
    trained = model.results.runs[0]
    assert trained.key == (expected, 4)
    same = next(
        without_seconds(one) for one in run(task, options, tmp_path, resume=True).runs if one.key == trained.key
    )
    assert without_seconds(trained) == same  # bit for bit that run of the trial
    assert model.split()["samples"] == {"train": len(task.train), "validation": 0, "test": len(task.test)}

    model.save(tmp_path)
    assert is_written(tmp_path, results, None)
    assert not is_written(tmp_path, results, "onnx")
    other = dataclasses.replace(results, config={**results.config, "epochs": 99})
    assert not is_written(tmp_path, other, None)
    (tmp_path / "model" / "radius.json").write_text("{}")
    assert not is_written(tmp_path, results, None)


def test_what_a_search_has_chosen_is_used(tmp_path: Path) -> None:
    task = small_task()
    options = config(methods=["sgd"], seeds=(0,)).for_task(task)
    chosen = {"lr": 0.2, "weight_decay": 0.1}
    plain = run(task, options, tmp_path)
    runs = tuple(dataclasses.replace(one, hyperparameters=chosen) for one in plain.runs)
    splits = SplitCache(task, **options.split_options)
    model = train_winner(options, dataclasses.replace(plain, runs=runs), splits, fabric())
    by_hand = dataclasses.replace(
        task, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.2, momentum=0.9, weight_decay=0.1)
    )
    expected = run(by_hand, options, tmp_path / "by_hand").runs[0]
    assert model.results.runs[0].test_loss == expected.test_loss != plain.runs[0].test_loss
    assert model.results.runs[0].hyperparameters == chosen
    model.save(tmp_path)
    assert "A search has chosen lr 0.2, weight_decay 0.1." in (tmp_path / "model" / "README.md").read_text()


def test_with_validation_data_of_its_own_the_radius_is_learned_again(tmp_path: Path) -> None:
    task = small_task(validation=blobs(20, 5))
    options = config(methods=["lets-sam", "sgd"], seeds=(0,)).for_task(task)
    results = run(task, options, tmp_path)
    assert all(one.validation_loss is not None for one in results.runs)
    assert winner_of(results).chosen_by == "among 3 by the lowest mean validation loss of one seed"
    losses = [0.1 if one.method == "lets-sam" else 0.2 for one in results.runs]
    runs = [dataclasses.replace(one, validation_loss=loss) for one, loss in zip(results.runs, losses, strict=True)]
    results = dataclasses.replace(results, runs=tuple(runs))
    model = train_winner(options, results, SplitCache(task, **options.split_options), fabric())
    assert model.results.runs[0].key == ("lets-sam", 0)
    assert model.results.runs[0].test_loss == next(one for one in runs if one.method == "lets-sam").test_loss
    losses = [0.1 if one.method == "lets-sam+refit" else 0.2 for one in results.runs]
    runs = [dataclasses.replace(one, validation_loss=loss) for one, loss in zip(results.runs, losses, strict=True)]
    results = dataclasses.replace(results, runs=tuple(runs))
    model = train_winner(options, results, SplitCache(task, **options.split_options), fabric())
    assert model.results.runs[0].key == ("lets-sam+refit", 0)
    assert model.results.runs[0].test_loss == runs[1].test_loss


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from letsam.cli import run as command

    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
    arguments = ("trial", "digits", "--train-size", "100", "--methods", "sgd,lets-sam", "--seeds", "1", "--epochs", "2")
    out = ("--out", str(tmp_path), "--refit-best")
    assert command([*arguments, *out]) == 0
    printed = capsys.readouterr().out.splitlines()[-1]
    assert printed.startswith(f"model: {tmp_path / 'model'} (")
    assert "chosen among 3 by the highest mean test accuracy of one seed)" in printed
    model = letsam.load(tmp_path)
    assert model.config["chosen_by"] in (tmp_path / "model" / "README.md").read_text()
    assert len(model.predict(torch.randn(2, 1, 8, 8)).labels) == 2

    def fail(*_: Any) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:  # the same command with --resume trains nothing
        patch.setattr("letsam.model_folder.refit_best.train_winner", fail)
        assert command([*arguments, *out, "--resume"]) == 0
    assert command([*arguments, "--out", str(tmp_path), "--resume", "--export", "onnx"]) == 2
    assert "`export` needs --refit-best" in capsys.readouterr().err
