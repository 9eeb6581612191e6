"""One run: what is trained on what, and how many passes it takes."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

import training_cases
from letsam.tasks import Task, load_task
from letsam.tasks.images import CroppedImages
from letsam.training.feed import Batches
from letsam.training.sampling import training_order
from training_cases import (
    LEARNED,
    METHODS,
    TRAINING_PASSES,
    VALIDATION,
    finish,
    passes,
    same,
    search,
    start,
    updates,
    weights,
    without_seconds,
)


@pytest.fixture(scope="module")
def digits() -> Task:
    return load_task("digits", train_size=200)


# The same for every method


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_initial_weights_depend_on_the_seed_alone(method: str, dropout: float) -> None:
    task = training_cases.task(dropout=dropout)
    torch.manual_seed(123)
    expected = start(task, "sgd", 4).model.state_dict()
    torch.manual_seed(321)

    assert same(dict(start(task, method, 4).model.state_dict()), dict(expected))
    assert not same(dict(start(task, method, 5).model.state_dict()), dict(expected))


def test_initial_weights_of_a_refit_are_the_searchs() -> None:
    task = training_cases.task()
    assert torch.equal(weights(start(task, "lets-sam", searched=search(task))), weights(start(task, "sgd")))


@pytest.mark.parametrize("items", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_what_each_step_sees(method: str, items: bool) -> None:
    """Recorded inside the model: batches, their order, and on which of them the passes of a step run."""
    task = training_cases.task(items=items)
    run = finish(start(task, method, 3))
    seen: list[list[int]] = run.model.seen  # type: ignore[assignment]
    full = start(task, "sgd", 3)
    held_out = {int(x[0]) for x, _ in run.validation.dataset} if run.validation is not None else set()  # type: ignore[attr-defined]
    train_ids = set(range(60)) - held_out
    per_epoch = len(train_ids) // 8
    expected: list[list[int]] = []
    for epoch in range(3):
        kept = [i for (i,) in training_order(full.order, 1, 3, epoch) if i in train_ids]
        expected += [kept[b * 8 : b * 8 + 8] for b in range(per_epoch)]

    on_training = [batch for batch in seen if set(batch) <= train_ids]
    on_validation = [batch for batch in seen if set(batch) <= held_out]
    copies = TRAINING_PASSES.get(method, 2)
    assert len(held_out) == (6 if method in LEARNED else 0)
    assert on_training == [batch for batch in expected for _ in range(copies)]
    assert len(on_validation) == updates(method, len(expected))
    assert len(on_training) + len(on_validation) == len(seen)
    assert all(sorted(batch) == sorted(held_out) for batch in on_validation)  # 6 held out: each batch is the whole


@pytest.mark.parametrize("method", METHODS)
def test_gradient_passes_are_the_passes_that_ran(method: str) -> None:
    run = finish(start(training_cases.task(), method))
    steps = run.step

    assert steps == 3 * (6 if method in LEARNED else 7)
    assert run.passes == passes(method, steps) == len(run.model.seen)  # type: ignore[arg-type]
    assert run.result().gradient_passes == run.passes


@pytest.mark.parametrize("method", ["sgd", "sam", "lets-sam", "lets-asam"])
@pytest.mark.parametrize("items", [False, True])
def test_a_run_is_reproducible_bit_for_bit(method: str, items: bool) -> None:
    runs = []
    for state in (1, 2):
        torch.manual_seed(state)
        runs.append(finish(start(training_cases.task(dropout=0.3, items=items), method, label_noise=0.2)))
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert same(*(without_seconds(run.result()) for run in runs))


SHARES = ("sam-relative", "lets-sam-layerwise", "lets-sam-per-layer")


@pytest.mark.parametrize("method", [*METHODS, "sam-rising", "gsam-schedule", "sam-budget", "lets-sam+refit", *SHARES])
def test_running_statistics_move_once_a_step(method: str) -> None:
    """As with the base optimizer alone, however many passes a step has."""

    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))

    task = training_cases.task(model=model)
    searched = search(task) if method.endswith("+refit") else None
    run = finish(start(task, method.removesuffix("+refit"), searched=searched))
    moved = {int(b) for name, b in run.model.named_buffers() if name.endswith("num_batches_tracked")}
    assert moved == {run.step}
    assert run.passes > run.step or method == "sgd"


def test_losses_are_reported_on_images_as_they_are() -> None:
    """Neither what is held out nor the training loss is measured on augmented images."""
    targets = torch.arange(40) % 4
    images = torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = CroppedImages(images, targets, [0.5], [0.25])
    task = training_cases.task(
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), train=data, test=data.without_augmentation()
    )
    run = finish(start(task, "lets-sam", label_noise=0.2, validation_share=0.2))
    assert run.validation is not None
    assert (len(run.measured), len(run.validation)) == (32, 8)
    state = torch.get_rng_state()
    for batches in (run.measured, run.validation):
        assert same(batches.one([0, 3]), batches.one([0, 3]))
        assert run.evaluate(batches) == run.evaluate(batches)
    assert torch.equal(torch.get_rng_state(), state)
    assert run.result().train_loss == run.evaluate(run.measured)[0]
    assert any(not torch.equal(run.train.one([0])[0], run.measured.one([0])[0]) for _ in range(9))
    assert torch.equal(run.train.one([0, 5, 9])[1], run.measured.one([0, 5, 9])[1])  # the same noisy labels


def test_data_that_are_not_augmented_are_held_once() -> None:
    run = start(training_cases.task(items=True), "lets-sam")
    assert run.measured is run.train


def test_another_seed_is_another_run() -> None:
    one, other = (finish(start(training_cases.task(), "sgd", seed)) for seed in (0, 1))
    assert not torch.equal(weights(one), weights(other))


@pytest.mark.parametrize("items", [False, True])
def test_how_often_is_evaluated_changes_nothing(items: bool) -> None:
    task = training_cases.task(dropout=0.5, epochs=6, items=items)
    often = finish(start(task, "lets-sam"))
    once = finish(start(dataclasses.replace(task, evaluations=1), "lets-sam"))

    assert len(often.history["epoch"]) == 6
    assert len(once.history["epoch"]) == 1
    assert torch.equal(weights(often), weights(once))


def test_a_tasks_own_validation_data_move_the_radius_only() -> None:
    task = training_cases.task(validation=VALIDATION)
    run = finish(start(task, "lets-sam"))
    seen = {i for batch in run.model.seen for i in batch}  # type: ignore[union-attr]

    assert run.step == 21
    assert seen == set(range(60)) | {i for i in seen if i in range(2000, 2021)}
    assert len(seen) > 60
    assert run.result().validation_loss == run.evaluate(Batches(VALIDATION, run.fabric.device))[0]


# The methods against independent arithmetic


def by_hand(task: Task, seed: int, rho: float, noise: float = 0.0) -> tuple[nn.Module, list[float]]:
    """SGD with momentum and weight decay, and SAM, with a cosine schedule; from the formulas."""
    fresh = start(task, "sgd", seed, label_noise=noise)
    order, inputs, targets = fresh.order, *fresh.train.dataset.tensors  # type: ignore[attr-defined]
    torch.manual_seed(seed)
    model = task.model()
    params = list(model.parameters())
    momenta = [torch.zeros_like(p) for p in params]
    batches = [b for epoch in range(task.epochs) for b in training_order(order, task.batch_size, seed, epoch)]
    rates = [0.05 * 0.5 * (1 + math.cos(math.pi * t / len(batches))) for t in range(len(batches))]
    for rate, batch in zip(rates, batches, strict=True):
        x, y = inputs[batch], targets[batch]
        gradient = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), params)
        if rho:
            kept = [p.detach().clone() for p in params]
            length = torch.sqrt(sum((g * g).sum() for g in gradient))  # type: ignore[arg-type]
            with torch.no_grad():
                for p, g in zip(params, gradient, strict=True):
                    p += rho * g / length
            gradient = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), params)
            with torch.no_grad():
                for p, w in zip(params, kept, strict=True):
                    p.copy_(w)
        with torch.no_grad():
            for p, g, m in zip(params, gradient, momenta, strict=True):
                m.mul_(0.9).add_(g + 5e-4 * p)
                p -= rate * m
    return model, rates


@pytest.mark.parametrize(("method", "rho"), [("sgd", 0.0), ("sam:0.5", 0.5), ("sam", 0.05)])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_run_against_a_loop_by_hand(method: str, rho: float, noise: float) -> None:
    task = training_cases.task()
    model, _ = by_hand(task, 2, rho, noise)
    run = finish(start(task, method, 2, label_noise=noise))

    expected = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(weights(run), expected, rtol=1e-5, atol=1e-6)


def test_the_radius_matters(digits: Task) -> None:
    sgd, tiny, large = (weights(finish(start(digits, m, epochs=3))) for m in ("sgd", "sam:1e-6", "sam:0.5"))
    scale = sgd.norm()

    assert 0 < (tiny - sgd).norm() / scale < 1e-4
    assert (large - sgd).norm() / scale > 1e-2


@pytest.mark.parametrize("method", LEARNED)
def test_the_learned_radius_is_learned(method: str, digits: Task) -> None:
    run = finish(start(digits, method, epochs=4, label_noise=0.4))
    record = run.result()
    schedule = record.history["rho_schedule"]

    assert len(schedule) == run.step
    assert schedule[0] == pytest.approx(record.rho_initial) or method == "lets-asam"  # which starts below it
    assert record.rho_final == schedule[-1]
    assert record.rho_final is not None
    assert record.rho_initial is not None
    assert abs(math.log(record.rho_final / record.rho_initial)) > 0.01
    assert len(set(schedule)) >= updates(method, run.step)
    assert any(record.history["hypergradient"])


def test_learning_the_radius_changes_the_weights() -> None:
    """On the same training data, which a task's own validation data leave to both."""
    task = training_cases.task(validation=VALIDATION)
    sgd, sam, lets = (weights(finish(start(task, m))) for m in ("sgd", "sam:0.2", "lets-sam:0.2"))

    assert not torch.equal(lets, sam)
    assert not torch.equal(lets, sgd)


def test_the_learning_rate_falls_by_a_cosine_to_0() -> None:
    task = training_cases.task()
    for method in ("sgd", "sam", "lets-sam"):
        run = start(task, method)
        rates: list[float] = []
        run.optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))  # noqa: B023
        finish(run)
        steps = run.step
        assert len(rates) == steps
        assert rates == pytest.approx([0.025 * (1 + math.cos(math.pi * t / steps)) for t in range(steps)])
        assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)


# Real data


def test_digits_are_learned(digits: Task) -> None:
    record = finish(start(digits, "lets-sam", epochs=20, batch_size=32)).result()
    assert record.test_accuracy > 0.85
    assert record.train_loss < 0.5
