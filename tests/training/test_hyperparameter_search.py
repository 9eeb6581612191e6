"""Optuna tunes the base optimizer of each method, on held-out data; an interruption changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor, nn

import training_cases
from letsam.results import Results
from letsam.tasks import Task
from letsam.training.config import TrialConfig
from letsam.training.hyperparameter_search import Searches, check_search, run_search_trial, with_values
from letsam.training.methods import Method
from letsam.training.trial import environment, open_results, run_trial
from training_cases import config, fabric, without_seconds

METHODS = ("sgd", "lets-sam")


def options(task: Task, **changes: Any) -> TrialConfig:
    given = {"methods": METHODS, "seeds": (0, 1), "epochs": 2, "search": ("lr", "weight_decay"), "search_trials": 4}
    return config(**{**given, **changes}).for_task(task)


class Interrupted(Searches):
    """That of a process which is interrupted after so many trials."""

    def __init__(self, *arguments: Any, after: int) -> None:
        super().__init__(*arguments)
        self.left = after

    def add(self, method: Method, trial: Any) -> None:
        super().add(method, trial)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def run(task: Task, chosen: TrialConfig, out: Path, after: int = -1, *, resume: bool = False) -> Results:
    results = open_results(out, chosen, environment(fabric()), resume=resume)
    searches = Interrupted(chosen, task, None, out, after=after)
    *_, results = run_trial(task, chosen, fabric(), results, out, searches=searches)
    return results


@pytest.fixture(scope="module")
def task() -> Task:
    return training_cases.task(epochs=2)


@pytest.fixture(scope="module")
def whole(task: Task, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    out = tmp_path_factory.mktemp("whole")
    return run(task, options(task), out), out


def trials_of(out: Path) -> dict[str, list[tuple[dict[str, float], float | None, dict[int, float]]]]:
    storage = f"sqlite:///{out / 'optuna.db'}"
    return {
        study.study_name.split()[2]: [(t.params, t.value, t.intermediate_values) for t in study.trials]
        for study in (optuna.load_study(study_name=n, storage=storage) for n in optuna.get_all_study_names(storage))
    }


def test_each_method_has_the_same_budget_and_its_best_values(whole: tuple[Results, Path]) -> None:
    results, out = whole
    trials = trials_of(out)
    assert {method: len(found) for method, found in trials.items()} == {"sgd": 4, "lets-sam": 4}
    own = {"lr": 0.05, "weight_decay": 5e-4}
    for method, found in trials.items():
        assert found[0][0] == own, "the first trial has the task's own values"
        assert all(0.05 / 30 <= params["lr"] <= 0.05 * 30 for params, _, _ in found)
        best = max((row for row in found if row[1] is not None), key=lambda row: row[1] or 0.0)[0]
        runs = [one for one in results.runs if one.method.startswith(method)]
        assert runs
        assert all(one.hyperparameters == best for one in runs)
    assert [params for params, _, _ in trials["sgd"][:1]] == [params for params, _, _ in trials["lets-sam"][:1]]
    assert Results.load(out / "results.json") == results


def test_the_runs_are_those_of_the_base_optimizer_with_these_values(task: Task, whole: tuple[Results, Path]) -> None:
    found = whole[0].runs[0]
    by_hand = training_cases.task(optimizer=lambda p: torch.optim.SGD(p, momentum=0.9, **found.hyperparameters))
    expected = training_cases.finish(training_cases.start(by_hand, "sgd", epochs=2)).result()
    assert {**without_seconds(expected), "hyperparameters": found.hyperparameters} == without_seconds(found)


@pytest.mark.parametrize("after", [1, 5])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(
    after: int, task: Task, whole: tuple[Results, Path], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(task, options(task), tmp_path, after)
    assert sum(map(len, trials_of(tmp_path).values())) == after
    again = run(task, options(task), tmp_path, resume=True)
    assert trials_of(tmp_path) == trials_of(whole[1])
    assert {one.key: without_seconds(one) for one in again.runs} == {
        one.key: without_seconds(one) for one in whole[0].runs
    }


def test_test_data_are_never_read(task: Task) -> None:
    """Nor those that the score of the task knows: it is searched by the loss then."""
    seen: list[float] = []

    class Watched(training_cases.Network):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.extend(inputs[:, 0].tolist())
            return super().forward(inputs)

    watched = training_cases.task(model=Watched, score=lambda model, dataset: pytest.fail("the score was computed"))
    chosen = options(watched)
    trial = run_search_trial(chosen, fabric(), watched, Method.parse("lets-sam"), ())
    assert set(seen) == set(range(60)), "all training samples, and no others"
    assert trial.value is not None
    assert not Searches(chosen, task, "sqlite://", Path()).lower
    assert Searches(chosen, watched, "sqlite://", Path()).lower


def test_what_is_held_out_is_the_same_for_all_methods_and_not_trained_on(task: Task) -> None:
    trained: dict[str, set[float]] = {}
    for method in METHODS:
        seen: set[float] = set()

        class Watched(training_cases.Network):
            def forward(self, inputs: Tensor, seen: set[float] = seen) -> Tensor:
                if self.training:
                    seen.update(inputs[:, 0].tolist())
                return super().forward(inputs)

        watched = training_cases.task(model=Watched)
        chosen = options(watched, epochs=8)  # a batch that is not full is left out of its epoch
        run_search_trial(chosen, fabric(), watched, Method.parse(method), ())
        trained[method] = seen
    assert len(trained["sgd"]) == 54
    assert trained["lets-sam"] <= trained["sgd"]


def test_bad_values_are_pruned_and_diverged_ones_never_win(tmp_path: Path) -> None:
    deep = training_cases.task(
        model=lambda: nn.Sequential(*[layer for _ in range(4) for layer in (nn.Linear(5, 5), nn.ReLU())]),
        optimizer=lambda p: torch.optim.SGD(p, lr=1e18),
        epochs=1,
    )
    chosen = options(deep, epochs=1, search_trials=1, methods=("sgd",))
    trial = run_search_trial(chosen, fabric(), deep, Method.parse("sgd"), ())
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert trial.user_attrs == {"diverged": True}
    searches = Searches(chosen, deep, None, tmp_path)
    searches.add(Method.parse("sgd"), trial)
    with pytest.raises(ValueError, match=r"^`search`: all 1 trials of sgd have diverged$"):
        searches.chosen(Method.parse("sgd"))


def test_a_trial_that_falls_behind_is_pruned(task: Task) -> None:
    chosen = options(task, search=("lr",), search_pruner="median", epochs=3)
    good = optuna.distributions.FloatDistribution(0.05 / 30, 0.05 * 30, log=True)
    earlier = tuple(
        optuna.trial.create_trial(
            params={"lr": 0.05}, distributions={"lr": good}, value=1.1, intermediate_values={1: 1.1, 2: 1.1, 3: 1.1}
        )
        for _ in range(6)
    )
    trial = run_search_trial(chosen, fabric(), task, Method.parse("sgd"), earlier)
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert list(trial.intermediate_values) == [1]
    kept = run_search_trial(
        options(task, search=("lr",), search_pruner="none", epochs=3), fabric(), task, Method.parse("sgd"), earlier
    )
    assert kept.state == optuna.trial.TrialState.COMPLETE


def test_param_groups_keep_their_ratios() -> None:
    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        first, *rest = list(parameters)
        groups = [{"params": [first], "lr": 0.1, "weight_decay": 0.01}, {"params": rest, "lr": 0.02}]
        return torch.optim.SGD(groups, lr=0.1, weight_decay=0.0)

    tuned = with_values(training_cases.task(optimizer=optimizer), {"lr": 0.2, "weight_decay": 0.5})
    groups = tuned.optimizer(training_cases.Network().parameters()).param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.2, 0.5), (0.04, 0.0)]


def test_what_cannot_be_searched_is_refused(tmp_path: Path) -> None:
    without = training_cases.task(optimizer=lambda p: torch.optim.Rprop(p, lr=0.01))
    with pytest.raises(ValueError, match=r"^`search`: Rprop of this task has no weight_decay$"):
        check_search(options(without), without)
    check_search(options(without, search=("lr",)), without)
    still = training_cases.task(optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    with pytest.raises(ValueError, match=r"^`lr` must be > 0, got 0\.0$"):
        check_search(options(still), still)
    searches = Searches(options(still), still, "nosuch://x", tmp_path)
    with pytest.raises(ValueError, match=r"^`search_storage`: nosuch://x cannot be used: "):
        searches.earlier(Method.parse("sgd"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": ("momentum",)}, "^`search` must name some of lr, weight_decay, got 'momentum'$"),
        ({"search": ()}, "^`search` must name some of"),
        ({"search": ("lr", "lr")}, "^`search` must name some of"),
        ({"search_trials": 0, "search": ("lr",)}, "^`search_trials` must be a whole number >= 1, got 0$"),
        ({"search_trials": 3}, "^`search_trials` needs `search`"),
        ({"search_pruner": "best", "search": ("lr",)}, "^`search_pruner` must be one of median, halving, none"),
    ],
)
def test_options_of_a_search(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**change)
