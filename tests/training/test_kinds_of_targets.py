"""Runs on weighted samples, several labels and numbers, and with models that return dicts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from letsam.data.loss_by_kind import KindLoss
from letsam.tasks import Task, TaskError
from letsam.tasks.metrics import METRICS, Metric
from letsam.tasks.weighted import WeightedRows, WeightedTarget
from letsam.training.data_record import DataRecord
from training_cases import finish, same, start, weights

COUNT = 24


def rows(kind: str, seed: int = 0) -> TensorDataset:
    g = torch.Generator().manual_seed(seed)
    inputs = torch.randn(COUNT, 4, generator=g)
    targets: dict[str, Callable[[], Tensor]] = {
        "classification": lambda: (inputs[:, 0] + 0.3 * torch.randn(COUNT, generator=g) > 0).long(),
        "multilabel": lambda: (inputs[:, :2] > 0).float(),
        "regression": lambda: 100 + 10 * inputs[:, 0],
    }
    return TensorDataset(inputs, targets[kind]())


def task(kind: str, **changes: Any) -> Task:
    outputs = 1 if kind == "regression" else 2
    fields: dict[str, Any] = {
        "name": kind,
        "model": lambda: nn.Linear(4, outputs),
        "train": rows(kind),
        "test": rows(kind, 1),
        "loss": KindLoss(kind, scale=(10.0,)),
        "metrics": METRICS[kind],
        "metric_name": METRICS[kind][0].name,
        "lower_is_better": METRICS[kind][0].lower_is_better,
        "kind": kind,
        "epochs": 2,
        "batch_size": COUNT,
    }
    return Task(**{**fields, **changes})


@pytest.mark.parametrize("kind", list(METRICS))
@pytest.mark.parametrize("method", ["sgd", "lets-sam"])
def test_metrics_are_those_of_the_whole_test_set(kind: str, method: str) -> None:
    run = finish(start(task(kind, evaluation_batch=7, batch_size=8), method))
    record = run.result()
    inputs, targets = rows(kind, 1).tensors
    with torch.no_grad():
        outputs = run.model(inputs)
    expected = {metric.name: metric.function(outputs, targets) for metric in METRICS[kind]}
    assert record.metrics == pytest.approx(expected, rel=1e-5)
    assert record.test_accuracy == record.metrics[record.metric]
    assert record.history["test_accuracy"][-1] == record.test_accuracy
    assert record.lower_is_better == (kind == "regression")
    if kind == "classification":
        assert record.test_loss == pytest.approx(float(nn.functional.cross_entropy(outputs, targets)), rel=1e-5)


@pytest.mark.parametrize("kind", list(METRICS))
@pytest.mark.parametrize("method", ["sgd", "sam"])
def test_a_weight_counts_like_repeated_samples(kind: str, method: str) -> None:
    """In loss, gradient and metrics, whatever the size of the micro-batches."""
    plain, tested = rows(kind), rows(kind, 1)
    counts = torch.randint(0, 4, (COUNT,), generator=torch.Generator().manual_seed(5))
    chosen = torch.arange(COUNT).repeat_interleave(counts)
    weighted = [WeightedRows(data, data.tensors[1], counts) for data in (plain, tested)]
    repeated = [TensorDataset(*(tensor[chosen] for tensor in data.tensors)) for data in (plain, tested)]
    a = finish(start(task(kind, train=weighted[0], test=weighted[1], evaluation_batch=7), method, accumulate=2))
    b = finish(start(task(kind, train=repeated[0], test=repeated[1], batch_size=len(chosen)), method))
    torch.testing.assert_close(weights(a), weights(b), rtol=1e-4, atol=1e-5)
    ours, theirs = a.result(), b.result()
    assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-4, abs=1e-5)
    assert (ours.train_loss, ours.test_loss) == pytest.approx((theirs.train_loss, theirs.test_loss), rel=1e-4)


def test_results_know_other_weights() -> None:
    data = rows("classification")
    powers = [torch.arange(1.0, COUNT + 1) ** power for power in (1, 2, 1)]
    weighted = [WeightedRows(data, data.tensors[1], weights) for weights in powers]
    first, second, again = (DataRecord.of(task("classification", train=train)) for train in weighted)
    assert again.difference(first.as_json()) is None
    assert second.difference(first.as_json()) is not None
    assert len(first.checksums) == 5  # inputs, targets and weights, and the test data


def test_weighted_samples_are_split_and_get_label_noise() -> None:
    data = rows("classification")
    weighted = WeightedRows(data, data.tensors[1], torch.arange(1.0, COUNT + 1))
    run = finish(start(task("classification", train=weighted, batch_size=4), "lets-sam", label_noise=0.25))
    sample = run.train.dataset[0][1]
    assert isinstance(sample, WeightedTarget)
    assert run.result().validation_loss is not None
    noisy = start(task("classification", train=weighted), label_noise=0.25).train.dataset
    changed = [int(noisy[i][1].target) != int(data.tensors[1][i]) for i in range(COUNT)]
    assert sum(changed) == 6
    assert [float(noisy[i][1].weight) for i in range(COUNT)] == weighted.weights.tolist()


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_label_noise_needs_classes(kind: str) -> None:
    with pytest.raises(
        ValueError, match=r"^`label_noise` needs one whole-number class per sample, got targets of type"
    ):
        start(task(kind), label_noise=0.1)


def test_groups_and_times_are_respected_by_the_validation_split() -> None:
    groups = torch.arange(COUNT) // 3
    run = start(task("classification", groups=groups), "lets-sam", validation_share=0.25)
    kept = set(groups[run.order[0]].tolist())
    assert run.validation is not None
    assert len(run.validation) == COUNT - len(run.order[0])
    assert len(kept) * 3 == len(run.order[0])

    run = start(task("regression", times=torch.arange(COUNT).flip(0).double()), "lets-sam", validation_share=0.25)
    assert run.order[0].tolist() == list(range(6, COUNT))  # the first rows are the latest


class Answers(nn.Module):
    """Returns a dict, as a model of transformers does."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"logits": self.linear(inputs), "hidden": inputs}


@pytest.mark.parametrize("method", ["sgd", "lets-sam"])
def test_models_that_return_dicts(method: str) -> None:
    """torch's and letsam's losses get the logits; a user's function gets the dict if it takes it."""
    plain = {"loss": nn.functional.cross_entropy, "metrics": (), "metric_name": "accuracy"}
    expected = finish(start(task("classification", **plain), method)).result()

    def of_dict(outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs["logits"], targets) + 0 * outputs["hidden"].sum()

    losses: list[Callable[..., Tensor]] = [
        nn.functional.cross_entropy,
        nn.CrossEntropyLoss(),
        functools.partial(nn.functional.cross_entropy, label_smoothing=0.0),
        lambda outputs, targets: nn.functional.cross_entropy(outputs, targets),
        of_dict,
    ]
    for loss in losses:
        record = finish(start(task("classification", **{**plain, "model": Answers, "loss": loss}), method)).result()
        assert same([record.test_loss, record.test_accuracy], [expected.test_loss, expected.test_accuracy])
    record = finish(start(task("classification", model=Answers), method)).result()
    assert record.metrics["accuracy"] == pytest.approx(expected.test_accuracy)


def test_the_error_of_a_users_loss_is_about_what_the_model_returned() -> None:
    def loss(outputs: Any, targets: Tensor) -> Tensor:
        raise KeyError("scores")

    run = start(task("classification", model=Answers, loss=loss))
    with pytest.raises(TaskError, match=r"^`loss` raised KeyError: 'scores'"):
        run.advance()


def test_a_metric_that_gives_no_number_is_named() -> None:
    def metric(outputs: Tensor, targets: Tensor) -> Any:
        return outputs

    run = start(task("classification", metrics=(Metric(name="mine", function=metric),), epochs=1))
    with pytest.raises(TypeError, match=r"^`metrics: mine` must be a number, got"):
        run.advance()


def test_metrics_survive_a_checkpoint() -> None:
    run = finish(start(task("regression")))
    again = start(task("regression"))
    again.load_state_dict(run.state_dict())
    assert same(dict(again.result().metrics), dict(run.result().metrics))
