"""Where a run takes place: precision, micro-batches, strategies. Several ranks: tests/ranks/test_torchrun.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch.utils.data import TensorDataset

import training_cases
from letsam.training.devices import make_fabric, scattered
from letsam.training.loop import Training
from letsam.training.methods import Method
from training_cases import finish, weights


def run(fabric: Fabric, method: str = "lets-sam", **options: Any) -> Training:
    train = TensorDataset(training_cases.TRAIN.tensors[0].double(), training_cases.TRAIN.tensors[1])
    task = training_cases.task(train=train if options.pop("double", False) else training_cases.TRAIN)
    return finish(Training(task, Method.parse(method), 0, training_cases.config(**options), fabric))


@pytest.mark.parametrize("method", ["sgd", "sam", "lets-asam"])
def test_micro_batches_make_the_same_step(method: str) -> None:
    fabric = make_fabric("cpu", precision="64-true")
    whole, parts = run(fabric, method), run(fabric, method, accumulate=4)
    # Fabric gives outputs back in float32, and so is the loss, which limits the prior of a learned radius
    close = 1e-7 if method.startswith("lets") else 1e-12
    torch.testing.assert_close(weights(parts), weights(whole), rtol=close, atol=close)
    assert parts.passes == whole.passes
    assert parts.rho_schedule == pytest.approx(whole.rho_schedule, rel=close)
    seen = [len(ids) for ids in parts.model.module.seen]
    assert seen.count(2) == 4 * seen_by_training(whole)


def seen_by_training(whole: Training) -> int:
    """Batches of 8 that were trained on; validation batches have 6 samples."""
    return [len(ids) for ids in whole.model.module.seen].count(8)


def test_a_batch_that_cannot_be_split_evenly_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^`batch_size` must be a multiple of ranks x accumulate \(1 x 3\), got 8$"):
        run(make_fabric("cpu"), accumulate=3)
    with pytest.raises(ValueError, match=r"^`accumulate` must be a whole number >= 1, got 0$"):
        training_cases.config(accumulate=0)


@pytest.mark.parametrize("method", ["sgd", "sam", "lets-asam"])
@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_are_clipped(method: str, scaled: bool) -> None:
    """What the base optimizer descends with is at most so long; a limit that is never reached changes no bit."""

    def lengths(most: float | None) -> tuple[list[float], Training]:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=10**6)
        fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("bf16-mixed", "cpu"))
        if scaled:
            fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
        training = Training(
            training_cases.task(), Method.parse(method), 0, training_cases.config(max_grad_norm=most), fabric
        )
        found: list[float] = []

        def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            params = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            found.append(float(torch.nn.utils.get_total_norm(params)))

        getattr(training.optimizer, "base_optimizer", training.optimizer).register_step_pre_hook(look)
        return found, finish(training)

    free, plain = lengths(None)
    limit = sorted(free)[len(free) // 2]
    clipped, other = lengths(limit)
    far, same = lengths(1e6)
    assert max(clipped) == pytest.approx(limit, rel=1e-4)
    assert max(free) > 1.1 * limit
    assert not torch.equal(weights(other), weights(plain))
    assert scaled or (torch.equal(weights(same), weights(plain)) and far == free)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precision_is_what_was_asked_for(precision: str) -> None:
    plain, other = run(make_fabric("cpu")), run(make_fabric("cpu", precision=precision))
    dtype = {"bf16-true": torch.bfloat16, "64-true": torch.float64}.get(precision, torch.float32)
    assert {p.dtype for p in other.model.parameters()} == {dtype}
    assert not torch.equal(weights(other).float(), weights(plain))
    torch.testing.assert_close(weights(other).float(), weights(plain), rtol=0.2, atol=0.2)
    assert other.rho_schedule[-1] != 0.05


def test_fp16_goes_through_a_scaler() -> None:
    """The CPU has no fp16 command, but torch has the scaler: the loop unscales, and an overflow skips the step."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=10**6)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
    for method in ("sgd", "sam", "lets-sam"):
        other = run(fabric, method)
        torch.testing.assert_close(weights(other), weights(run(make_fabric("cpu"), method)), rtol=0.1, atol=0.1)
    assert scaler.get_scale() == 2.0**8
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, growth_interval=10**6)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
    other = run(fabric, "lets-sam")
    assert 1.0 <= scaler.get_scale() < 2.0**120
    assert torch.isfinite(weights(other)).all()
    assert other.optimizer.metrics["skipped_steps"] > 0  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "ddp"}, "^`strategy` needs several ranks .*torchrun.*, got 'ddp'$"),
        ({"strategy": "zero"}, "^`strategy` must be one of ddp, fsdp, got 'zero'$"),
        ({"precision": "8"}, "^`precision` must be one of 32-true, .*, got '8'$"),
        ({"precision": "16-mixed"}, "^`precision` must be one that the CPU has .*, got '16-mixed'$"),
    ],
)
def test_what_cannot_be_had_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_fabric("cpu", **options)


def test_whole_tensors_stay_whole_without_shards() -> None:
    state = {"0": {"exp_avg": torch.ones(2)}}
    assert scattered(state, {"0": torch.zeros(2)})["0"]["exp_avg"] is state["0"]["exp_avg"]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", r"^`device` must be one of auto, cpu, cuda, mps, got 'gpu', did you mean 'cpu'\?$"),
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
