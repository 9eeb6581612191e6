"""`letsam.accumulated`: micro-batches that count as one batch, the same ones in every pass of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware, accumulated
from oracle.problems import BASES, Batch, batch, closure_on, loss_on, network, same_bits, snapshot, weights_of
from page_code import blocks_of, run_code

RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.1,
    "secant": lambda: learned_radius(0.1, interval=1, burn_in=0),
    "gap": lambda: learned_radius(0.1, objective="squared_gap", interval=1, burn_in=0),
    "paper": lambda: LearnedRadius.paper(0.1),
}


def pieces(data: Batch, sizes: list[int]) -> Iterator[Batch]:
    return zip(data[0].split(sizes), data[1].split(sizes), strict=True)


def on(model: nn.Module) -> Callable[[Batch], Tensor]:
    return lambda data: loss_on(model, data)


@pytest.mark.parametrize("sizes", [[12], [4, 4, 4], [6, 5, 1]])
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_micro_batches_count_as_one_batch(variant: type[SharpnessAware], radius: str, sizes: list[int]) -> None:
    whole, split = network(), network()
    opts = [variant(BASES["momentum"](m.parameters()), rho=RADII[radius]()) for m in (whole, split)]
    weights = sizes if len(set(sizes)) > 1 else None
    for i in range(5):
        expected = opts[0].step(closure_on(whole, batch(i)), closure_on(whole, batch(50 + i)))
        closures = (
            accumulated(on(split), pieces(data, sizes), opts[1], weights=weights) for data in (batch(i), batch(50 + i))
        )
        loss = opts[1].step(*closures)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(opts[1].rho, opts[0].rho, rtol=1e-12, atol=0)

    torch.testing.assert_close(weights_of(split), weights_of(whole), rtol=1e-12, atol=1e-12)
    assert not same_bits(weights_of(split), weights_of(network()))
    if radius != "fixed":
        assert opts[1].rho != 0.1


def test_a_generator_is_read_once_and_at_once() -> None:
    model = network()
    opt = SAM(BASES["sgd"](model.parameters()), rho=0.1)
    seen: list[Batch] = []

    def loss_of(data: Batch) -> Tensor:
        seen.append(data)
        return loss_on(model, data)

    source = pieces(batch(0), [4, 4, 4])
    closure = accumulated(loss_of, source, opt)
    assert list(source) == []
    opt.step(closure)
    assert len(seen) == 6
    assert all(a is b for a, b in zip(seen[:3], seen[3:], strict=True))


def test_both_passes_draw_the_same_masks() -> None:
    """And each micro-batch masks of its own."""
    model = network()
    opt = SAM(BASES["sgd"](model.parameters()), rho=0.1)
    masks: list[Tensor] = []

    def loss_of(data: Batch) -> Tensor:
        masks.append(nn.functional.dropout(torch.ones(64), 0.5))
        return loss_on(model, data)

    for i in range(2):
        opt.step(accumulated(loss_of, pieces(batch(i), [6, 6]), opt))
    assert same_bits(masks[0:2], masks[2:4])
    assert same_bits(masks[4:6], masks[6:8])
    assert not same_bits(masks[0], masks[1])
    assert not same_bits(masks[0], masks[4])


def test_statistics_move_once_for_each_micro_batch() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).double()
    twin = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).double()
    twin.load_state_dict(model.state_dict())
    opt = SAM(BASES["sgd"](model.parameters()), rho=LearnedRadius(0.1, interval=1), model=model)
    held_out = accumulated(on(model), pieces(batch(9), [6, 6]), opt)
    opt.step(accumulated(on(model), pieces(batch(0), [4, 4, 4]), opt), held_out)
    for data in pieces(batch(0), [4, 4, 4]):
        loss_on(twin, data)
    assert model[1].num_batches_tracked == 3
    assert same_bits(list(model.buffers()), list(twin.buffers()))


def test_with_a_scaler() -> None:
    def run(scaler: torch.amp.GradScaler | None) -> Any:
        model = network(dtype=torch.float32)
        opt = SAM(BASES["adamw"](model.parameters()), rho=LearnedRadius(0.1, interval=1))
        losses = []
        for i in range(4):
            closures = [
                accumulated(on(model), pieces(batch(j, dtype=torch.float32), [8, 4]), opt, grad_scaler=scaler)
                for j in (i, 50 + i)
            ]
            losses.append(opt.step(*closures, grad_scaler=scaler))
            if scaler is not None:
                scaler.update()
        return losses, snapshot(model, opt)

    scaler = torch.amp.GradScaler("cpu", growth_interval=2)
    assert same_bits(run(scaler), run(None))
    assert scaler.get_scale() == 2.0**18
    assert same_bits(run(torch.amp.GradScaler("cpu", enabled=False)), run(None))


class Exchanging(nn.Module):
    """Like DDP: outside of `no_sync` a backward pass exchanges gradients, if the forward pass was outside, too."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.synchronises = True
        self.log: list[str] = []

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        self.synchronises = False
        try:
            yield
        finally:
            self.synchronises = True

    def forward(self, x: Tensor) -> Tensor:
        self.log.append(f"forward {self.synchronises}")
        output = self.module(x)
        output.register_hook(lambda g: self.log.append(f"backward {self.synchronises}"))
        return output


def test_all_but_the_last_run_forward_and_backward_without_an_exchange() -> None:
    model, reference = Exchanging(network()), network()
    opt, plain = (SAM(BASES["sgd"](m.parameters()), rho=0.1) for m in (model, reference))
    opt.step(accumulated(on(model), pieces(batch(0), [4, 4, 4]), opt, model=model))
    one_pass = ["forward False", "backward False"] * 2 + ["forward True", "backward True"]
    assert model.log == one_pass * 2
    plain.step(accumulated(on(reference), pieces(batch(0), [4, 4, 4]), plain, model=reference))  # without no_sync
    assert same_bits(weights_of(model), weights_of(reference))


def test_the_closure_by_itself() -> None:
    model = network()
    opt = SAM(BASES["sgd"](model.parameters()), rho=0.1)
    closure = accumulated(on(model), pieces(batch(0), [4, 8]), opt, weights=[1, 2])
    with torch.no_grad():
        first, again = closure(), closure()  # what was there before is cleared
    assert torch.equal(first, again)
    assert not first.requires_grad
    gradients = [p.grad.clone() for p in model.parameters()]
    expected = closure_on(model, batch(0))()
    torch.testing.assert_close(first, expected.detach(), rtol=1e-14, atol=0)
    torch.testing.assert_close(gradients, [p.grad for p in model.parameters()], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"micro_batches": iter(())}, ValueError, "`micro_batches` must hold at least one micro-batch, got none"),
        ({"weights": [1.0]}, ValueError, "`weights` must be as many as the micro-batches, 2, got 1"),
        ({"weights": [1.0, 0.0]}, ValueError, "`weights` must be > 0, got 0.0"),
        ({"weights": [1.0, "2"]}, TypeError, "`weights` must be a number, got '2'"),
        ({"optimizer": None}, TypeError, "`optimizer` must be a torch.optim.Optimizer, got None"),
        ({"grad_scaler": 2.0}, TypeError, "`grad_scaler` must be a torch.amp.GradScaler or None, got 2.0"),
        ({"model": print}, TypeError, "`model` must be a torch.nn.Module, got"),
    ],
)
def test_arguments_that_do_not_fit(change: dict[str, Any], error: type[Exception], message: str) -> None:
    model = network()
    arguments = {
        "loss_on": on(model),
        "micro_batches": pieces(batch(0), [6, 6]),
        "optimizer": SAM(BASES["sgd"](model.parameters())),
    }
    with pytest.raises(error, match=message):
        accumulated(**(arguments | change))


def test_a_loss_that_is_no_scalar() -> None:
    model = network()
    opt = SAM(BASES["sgd"](model.parameters()), rho=0.1)
    before = weights_of(model)
    with pytest.raises(TypeError, match="`loss_on` must return the loss as a tensor, got None"):
        opt.step(accumulated(lambda data: None, [0], opt))  # pyright: ignore[reportArgumentType]
    inputs, _ = batch(0, 5)
    with pytest.raises(ValueError, match=r"`loss_on` must return a scalar loss, got a tensor of shape \(5, 3\)"):
        opt.step(accumulated(lambda data: model(data), [inputs], opt))
    assert same_bits(weights_of(model), before)


PAGE = "docs/how-to/accumulation-and-clipping.md"


@pytest.mark.parametrize("number", range(4))
def test_the_page_runs(number: int) -> None:
    blocks = blocks_of(PAGE)
    assert len(blocks) == 4
    torch.manual_seed(0)
    names = run_code(blocks[number], PAGE, {})
    opt = names["opt"]
    if number == 0:
        assert opt.rho != 0.05
    if number in (1, 2):
        assert opt.metrics["skipped_steps"] == 0
    if number == 1:
        assert opt.perturbation.sub_batches > 1
    if number == 3:
        assert [group["weight_decay"] for group in opt.param_groups] == [1e-4, 1e-4]
