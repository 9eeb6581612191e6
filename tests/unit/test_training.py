"""One run: what is trained on what, what it costs, what is recorded."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import training_cases
from letsam.results import Results, Run
from letsam.tasks import Task, load_task
from letsam.tasks.images import CroppedImages
from letsam.training.data import training_order
from letsam.training.devices import make_fabric
from letsam.training.loop import Batches
from letsam.training.methods import Method
from training_cases import TEST, VALIDATION, finish, same, start, validation_passes, weights, without_seconds

METHODS = ("sgd", "sam", "asam", "lets-sam", "lets-asam", "lets-paper-sam", "lets-paper-asam")
TRAINING_PASSES = {"sgd": 1, "lets-paper-sam": 3, "lets-paper-asam": 3}  # of a step; 2 for the others
LEARNED = tuple(name for name in METHODS if name.startswith("lets-"))


def updates(method: str, steps: int) -> int:
    """How often the radius moves, one validation pass each."""
    if not Method.parse(method).is_learned:
        return 0
    return steps if "paper" in method else validation_passes(steps)


def passes(method: str, steps: int) -> int:
    return TRAINING_PASSES.get(method, 2) * steps + updates(method, steps)


@pytest.fixture(scope="module")
def digits() -> Task:
    return load_task("digits", train_size=200)


def search(task: Task, method: str = "lets-sam", **options: Any) -> Run:
    return finish(start(task, method, **options)).result()


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


# Evaluation and record


@pytest.mark.parametrize("items", [False, True])
def test_evaluation_weighs_by_the_size_of_the_batches(items: bool) -> None:
    task = training_cases.task(items=items, dropout=0.9)
    # 44 of 45: a last batch of 1, which a plain mean would overrate
    run = start(dataclasses.replace(task, evaluation_batch=44), "sgd")
    run.advance()
    before = weights(run)
    inputs, targets = TEST.tensors
    run.model.eval()
    with torch.no_grad():
        outputs = run.model(inputs)
    run.model.train()
    loss, accuracy = run.evaluate(run.test)

    assert loss == pytest.approx(nn.functional.cross_entropy(outputs, targets).item(), rel=1e-6)
    assert accuracy == pytest.approx((outputs.argmax(1) == targets).double().mean().item(), rel=1e-6)
    assert run.model.training
    assert torch.equal(weights(run), before)


@pytest.mark.parametrize("epochs", [1, 2, 10, 11, 25, 60])
def test_the_history_ends_with_the_last_epoch(epochs: int) -> None:
    record = search(training_cases.task(train=training_cases.blobs(20, 1), epochs=epochs, batch_size=16))
    points = record.history["epoch"]

    assert points[-1] == epochs
    assert points == sorted(set(points))  # type: ignore[type-var]
    assert min(epochs, 5) <= len(points) <= 11
    assert {len(column) for name, column in record.history.items() if name != "rho_schedule"} == {len(points)}


@pytest.mark.parametrize("method", ["sgd", "sam", "asam:0.3", "lets-sam", "lets-asam"])
def test_the_record(method: str) -> None:
    run = finish(start(training_cases.task(), method, label_noise=0.3))
    record, history = run.result(), run.result().history
    learned = method in LEARNED

    assert (record.method, record.seed) == (method, 0)
    assert record.train_loss == run.evaluate(run.train)[0]  # on the noisy labels it was trained on
    assert (record.test_loss, record.test_accuracy) == run.evaluate(run.test)
    assert record.generalization_gap == record.test_loss - record.train_loss
    assert record.seconds > 0
    for name in ("test_loss", "train_loss", "test_accuracy", "generalization_gap", "validation_loss"):
        assert history[name][-1] == getattr(record, name)
    assert ("rho_schedule" in history) == learned
    assert (record.validation_loss is not None) == learned
    assert all((value is not None) == learned for value in history["hypergradient"])
    if method == "sgd":
        assert record.rho_initial is None
        assert record.rho_final is None
        assert history["rho"] == [None] * 3
    elif learned:
        assert history["rho"] == [history["rho_schedule"][step] for step in (5, 11, 17)]
        assert len(history["rho_schedule"]) == 18
    else:
        assert record.rho_final == pytest.approx(record.rho_initial)
        assert history["rho"] == pytest.approx([record.rho_initial] * 3)


@pytest.mark.parametrize("option", ["epochs", "batch_size"])
def test_options_come_before_the_tasks_defaults(option: str) -> None:
    run = finish(start(training_cases.task(), "sgd", **{option: 5}))
    assert run.step == {"epochs": 5 * 7, "batch_size": 3 * 12}[option]


# The refit


def begun(schedule: Any) -> Any:
    """What is replayed of a run that ends within the burn-in: at most a share of its end, from a tenth to the whole."""
    recorded = np.array(schedule, dtype=float)
    return np.minimum(recorded.T, np.multiply.outer(recorded[-1], np.linspace(0.1, 1, len(recorded)))).T


@pytest.mark.parametrize("method", ["lets-sam", "lets-asam:0.2"])
def test_a_refit_replays_the_schedule_on_everything(method: str) -> None:
    task = training_cases.task()
    searched = search(task, method)
    run = start(task, method, searched=searched)
    used: list[float] = []
    run.optimizer.register_step_post_hook(lambda optimizer, *_: used.append(float(optimizer.rho)))  # type: ignore[attr-defined]
    record = finish(run).result()

    schedule = begun(searched.history["rho_schedule"])
    stretched = np.interp(np.linspace(0, len(schedule) - 1, 21), np.arange(len(schedule)), schedule)
    assert used == pytest.approx(list(stretched), rel=1e-6)
    assert (used[0], used[-1]) == pytest.approx((schedule[0], searched.rho_final))
    assert {i for batch in run.model.seen for i in batch} == set(range(60))  # type: ignore[union-attr]
    assert record.method == f"{method}+refit"
    assert record.rho_initial == searched.rho_initial
    assert record.rho_final == pytest.approx(searched.rho_final)
    assert record.validation_loss is None
    assert record.history["hypergradient"] == [None] * 3
    assert "rho_schedule" not in record.history
    assert record.gradient_passes == searched.gradient_passes + 2 * 21 == passes(method.split(":")[0], 18) + 2 * 21
    assert record.seconds > searched.seconds


def test_many_radii_are_on_record() -> None:
    """One for each weight tensor at every step; `rho` is their mean."""
    run = start(training_cases.task(), "lets-sam-per-layer:0.2")
    used: list[list[float]] = []
    run.optimizer.register_step_post_hook(lambda optimizer, *_: used.append(optimizer.metrics["rho"].tolist()))  # type: ignore[attr-defined]
    record = finish(run).result()

    assert record.history["rho_schedule"] == used
    assert {len(radii) for radii in used} == {4}
    assert len({*used[-1]}) == 4
    means = [sum(radii) / 4 for radii in used]
    assert record.mean_radii == pytest.approx(means)
    assert record.history["rho"] == pytest.approx([means[step] for step in (5, 11, 17)])
    assert record.rho_final == record.history["rho"][-1]


def test_a_refit_replays_each_of_many_radii() -> None:
    task = training_cases.task()
    searched = search(task, "lets-sam-per-layer:0.2")
    run = start(task, "lets-sam-per-layer:0.2", searched=searched)
    used: list[list[float]] = []
    run.optimizer.register_step_post_hook(lambda optimizer, *_: used.append(optimizer.rho.tolist()))  # type: ignore[attr-defined]
    record = finish(run).result()

    schedule = begun(searched.history["rho_schedule"])
    at = np.linspace(0, len(schedule) - 1, 21)
    stretched = np.stack([np.interp(at, np.arange(len(schedule)), column) for column in schedule.T], axis=1)
    np.testing.assert_allclose(used, stretched, rtol=1e-6)
    assert record.method == "lets-sam-per-layer:0.2+refit"
    assert record.rho_initial == searched.rho_initial
    assert record.rho_final == pytest.approx(searched.rho_final)
    assert "rho_schedule" not in record.history
    assert record.gradient_passes == searched.gradient_passes + 2 * 21
    means = dataclasses.replace(searched, history={**searched.history, "rho_schedule": searched.mean_radii})
    assert not torch.equal(weights(run), weights(finish(start(task, "lets-sam:0.2", searched=means))))


def test_a_refit_is_no_run_at_the_initial_radius() -> None:
    task = training_cases.task()
    searched = search(task, "lets-sam:0.2")
    assert searched.rho_final != pytest.approx(0.2, rel=1e-3)
    refit = finish(start(task, "lets-sam:0.2", searched=searched))
    assert not torch.equal(weights(refit), weights(finish(start(task, "sam:0.2"))))


# What goes wrong


def deep(task: Task) -> Task:
    """A network that overflows when its learning rate is far too high."""
    return dataclasses.replace(
        task,
        model=lambda: nn.Sequential(*[layer for _ in range(4) for layer in (nn.Linear(5, 5), nn.ReLU())]),
        optimizer=lambda p: torch.optim.SGD(p, lr=1e18),
    )


def test_a_run_that_diverges_is_recorded(tmp_path: Path) -> None:
    record = finish(start(deep(training_cases.task()), "sgd")).result()
    assert math.isnan(record.test_loss)
    assert math.isnan(record.generalization_gap)
    assert record.diverged

    results = Results("blobs", {}, {}, (record,))
    results.save(tmp_path / "results.json")
    saved = json.loads((tmp_path / "results.json").read_text())["runs"][0]
    assert saved["test_loss"] is None
    assert saved["history"]["test_loss"][-1] is None
    assert same(vars(Results.load(tmp_path / "results.json").runs[0])["history"]["test_loss"][-1], math.nan)


@pytest.mark.parametrize("method", ["sam", *LEARNED, "lets-sam-per-layer"])
@pytest.mark.parametrize("rate", [1e18, 1e30])
def test_no_method_crashes_when_it_diverges(method: str, rate: float, tmp_path: Path) -> None:
    for task in (training_cases.task(), deep(training_cases.task())):
        wild = dataclasses.replace(task, optimizer=lambda p: torch.optim.SGD(p, lr=rate))
        record = finish(start(wild, method)).result()
        Results("blobs", {}, {}, (record,)).save(tmp_path / "results.json")
        if method != "sam":
            again = Results.load(tmp_path / "results.json").runs[0]
            assert finish(start(wild, method, searched=again)).result().method == f"{method}+refit"


def test_a_search_without_one_finite_radius_is_refitted_at_its_initial_one() -> None:
    task = training_cases.task()
    searched = search(task)
    lost = dataclasses.replace(searched, history={**searched.history, "rho_schedule": [math.nan, None]})
    assert finish(start(task, "lets-sam", searched=lost)).result().rho_final == pytest.approx(searched.rho_initial)

    steps = [[0.1, None, 0.1, 0.1], [0.3, 0.1, 0.5, 0.1], [math.nan] * 4]
    for schedule, mean in ((steps, 0.25), (steps[::2], searched.rho_initial)):
        many = dataclasses.replace(searched, history={**searched.history, "rho_schedule": schedule})
        assert finish(start(task, "lets-sam-per-layer", searched=many)).result().rho_final == pytest.approx(mean)


SHAPES: list[tuple[Callable[[Tensor, Tensor], Any], str]] = [
    (lambda outputs, targets: outputs.sum(1), r"must return a scalar tensor, got \(\d+,\)$"),
    (lambda outputs, targets: 1.0, "must return a scalar tensor, got float$"),
    (lambda outputs, targets: None, "must return a scalar tensor, got NoneType$"),
]


@pytest.mark.parametrize("method", ["sgd", "sam", "lets-sam"])
@pytest.mark.parametrize(("function", "message"), SHAPES)
@pytest.mark.parametrize("name", ["loss", "metric"])
def test_a_loss_or_metric_that_is_no_scalar(
    name: str, method: str, function: Callable[[Tensor, Tensor], Any], message: str
) -> None:
    run = start(training_cases.task(**{name: function}), method)
    with pytest.raises(ValueError, match=f"^`{name}` {message}"):
        run.advance()


@pytest.mark.parametrize("method", ["sgd", "sam", "lets-sam"])
def test_a_loss_that_leaves_no_gradients(method: str) -> None:
    run = start(training_cases.task(loss=lambda outputs, targets: outputs.detach().mean()), method)
    with pytest.raises(ValueError, match=r"^`loss` must depend on the model's outputs, got .* leaves no gradients$"):
        run.advance()


def test_a_scalar_with_an_axis_will_do() -> None:
    task = training_cases.task(loss=lambda outputs, targets: nn.functional.cross_entropy(outputs, targets).view(1))
    plain = finish(start(training_cases.task(), "lets-sam"))
    assert torch.equal(weights(finish(start(task, "lets-sam"))), weights(plain))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("model", r"^`model` must return a torch.nn.Module, got int$"),
        ("optimizer", r"^`optimizer` must return a torch.optim.Optimizer, got int$"),
    ],
)
@pytest.mark.parametrize("method", ["sgd", "lets-sam"])
def test_factories_that_make_something_else(field: str, message: str, method: str) -> None:
    with pytest.raises(ValueError, match=message):
        start(training_cases.task(**{field: lambda *_: 3}), method)


def test_too_few_samples_for_a_learned_radius_only() -> None:
    task = training_cases.task(train=training_cases.blobs(3, 1))
    with pytest.raises(ValueError, match=r"`validation_share` = 0.1 of 3 samples"):
        start(task, "lets-sam")
    assert finish(start(task, "sam")).step == 3  # one batch of 3 an epoch


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "^`device` must be one of auto, cpu, cuda, mps, got 'gpu'$"),
        ("", "^`device` must be one of auto, cpu, cuda, mps, got ''$"),
        ("cuda", "^`device` must be available on this machine, got 'cuda'$"),
    ],
)
def test_devices_that_are_not_there(device: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        make_fabric(device)


def test_auto_takes_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert make_fabric("auto").device == torch.device("cpu")


# Real data


def test_digits_are_learned(digits: Task) -> None:
    record = finish(start(digits, "lets-sam", epochs=20, batch_size=32)).result()
    assert record.test_accuracy > 0.85
    assert record.train_loss < 0.5
