"""``lr="auto"``: one learning rate for all methods of a trial, the same wherever it is found."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from letsam.models import ModelOptions
from letsam.results import Results
from letsam.tasks import Task
from letsam.training.config import TrialConfig
from letsam.training.learning_rate import with_learning_rate
from letsam.training.methods import Method
from letsam.training.sampling import SplitCache
from training_cases import fabric, task

AUTO = ModelOptions(lr="auto")


def config(**options: object) -> TrialConfig:
    methods = tuple(map(Method.parse, ("sgd", "lets-sam")))
    return TrialConfig(task="small", methods=methods, model_options=AUTO, **options)  # type: ignore[arg-type]


def found(options: TrialConfig, of: Task, earlier: Path | None = None) -> tuple[TrialConfig, Task]:
    options = options.for_task(of)
    return with_learning_rate(options, SplitCache(of, **options.split_options), fabric(), earlier)


def test_it_is_found_once_and_no_random_number_is_drawn() -> None:
    small = task()
    state = torch.get_rng_state()
    first, made = found(config(), small)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.found_lr is not None
    assert 0 < first.found_lr != 0.05
    network = small.model()
    assert made.optimizer(network.parameters()).param_groups[0]["lr"] == first.found_lr
    assert made.inferred[-1] == ("learning rate", f"{first.found_lr:g}, found by a range test")

    methods = tuple(map(Method.parse, ("asam", "sam:0.1")))
    assert found(dataclasses.replace(config(), methods=methods), small)[0].found_lr == first.found_lr
    assert first.with_optimizer(small).optimizer(network.parameters()).param_groups[0]["lr"] == first.found_lr
    assert found(config(seeds=(5, 0)), small)[0].found_lr != first.found_lr


def test_a_continued_trial_keeps_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    options = dataclasses.replace(config(), found_lr=0.123).for_task(task())
    Results("small", options.as_json(), {}).save(path)
    continued, _ = found(config(), task(), path)
    assert continued.found_lr == 0.123
    continued.check_continues(Results.load(path).config)


def test_nothing_changes_without_auto() -> None:
    small = task()
    options = dataclasses.replace(config(), model_options=None)
    same, unchanged = found(options, small)
    assert (same.found_lr, unchanged) == (None, small)
    assert same.with_optimizer(small) is small


def test_options_of_the_base_optimizer_of_any_task() -> None:
    options = TrialConfig(task="digits", model_options=ModelOptions(optimizer="adamw", lr=0.01, weight_decay=0.1))
    digits = options.load_task()
    made = digits.optimizer(digits.model().parameters())
    assert isinstance(made, torch.optim.AdamW)
    assert (made.param_groups[0]["lr"], made.param_groups[0]["weight_decay"]) == (0.01, 0.1)


def test_another_learning_rate_is_another_trial() -> None:
    earlier = config().for_task(task()).as_json()
    other = dataclasses.replace(config(), model_options=ModelOptions(lr=0.1)).for_task(task())
    with pytest.raises(ValueError, match="holds another trial: its model_options is"):
        other.check_continues(earlier)
