"""The real Accelerator: equal to a loop by hand, exact after a restart, and clear about mistakes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.utils.data import DataLoader

import letsam
from integrations.cases import cross_entropy, data, learned, network, same
from letsam.integrations import EndlessBatches
from letsam.integrations.accelerate import log_step, step
from letsam.integrations.logged_metrics import LOGGED

pytestmark = pytest.mark.usefixtures("_fresh_state")


class Run:
    """A small loop, all of it prepared."""

    def __init__(self, **options: Any) -> None:
        self.accelerator = Accelerator(cpu=True, **options)
        torch.manual_seed(0)
        model = network()
        opt = learned(model.parameters(), model)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, 0.99)
        train, held_out = DataLoader(data(32, 1), 8), DataLoader(data(12, 2), 4, shuffle=True)
        prepared: Any = self.accelerator.prepare(model, opt, train, held_out, scheduler)
        self.model, self.optimizer, self.loader, held_out, self.scheduler = prepared
        self.held_out = EndlessBatches(held_out)
        self.accelerator.register_for_checkpointing(self.held_out)

    @property
    def rho(self) -> Tensor:
        return self.optimizer.optimizer.rho

    def loss_on(self, batch: list[Tensor]) -> Tensor:
        return cross_entropy(self.model, batch)

    def epochs(self, count: int, micro_batches: int = 1, weights: Any = None) -> None:
        for _ in range(count):
            for batch in self.loader:
                parts = list(zip(batch[0].chunk(micro_batches), batch[1].chunk(micro_batches), strict=True))
                step(
                    self.accelerator,
                    self.optimizer,
                    self.loss_on,
                    parts,
                    self.held_out,
                    model=self.model,
                    weights=weights,
                )
                self.scheduler.step()


def by_hand(epochs: int, micro_batches: int = 1) -> tuple[nn.Module, letsam.SAM]:
    torch.manual_seed(0)
    model = network()
    opt = learned(model.parameters(), model)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, 0.99)
    held_out = EndlessBatches(DataLoader(data(12, 2), 4, shuffle=True))
    for _ in range(epochs):
        for batch in DataLoader(data(32, 1), 8):

            def closure(batches: Any) -> Tensor:
                opt.zero_grad()
                total = torch.zeros(())
                for part in batches:
                    loss = cross_entropy(model, part) / len(batches)
                    loss.backward()
                    total = total + loss.detach()
                return total

            parts = list(zip(batch[0].chunk(micro_batches), batch[1].chunk(micro_batches), strict=True))
            opt.step(lambda parts=parts: closure(parts), lambda: closure([next(held_out)]))
            scheduler.step()
    return model, opt


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}], ids=["one", "accumulated"])
def test_equals_a_loop_by_hand_bit_for_bit(options: dict[str, int]) -> None:
    micro_batches = options.get("gradient_accumulation_steps", 1)
    run = Run(**options)
    run.epochs(3, micro_batches)
    model, opt = by_hand(3, micro_batches)
    assert same(model, run.model)
    assert run.rho == opt.rho != 0.05
    assert opt.param_groups[0]["lr"] == run.optimizer.param_groups[0]["lr"]


def test_weights_are_checked_with_a_single_batch_as_well() -> None:
    run = Run()
    for share in (1.0, 0.5):
        with pytest.raises((ValueError, TypeError), match="`weights` must be"):
            step(
                run.accelerator,
                run.optimizer,
                run.loss_on,
                [data(8, 1)[:]],
                run.held_out,
                weights=[-3.0],
                ascent_share=share,
            )


def test_weights_make_micro_batches_one_batch() -> None:
    run = Run()
    run.model.eval()
    inputs, targets = data(8, 1)[:]
    parts = [(inputs[:2], targets[:2]), (inputs[2:], targets[2:])]
    step(run.accelerator, run.optimizer, run.loss_on, parts, run.held_out, weights=[2, 6])
    whole = Run()
    whole.model.eval()
    step(whole.accelerator, whole.optimizer, whole.loss_on, [(inputs, targets)], whole.held_out)
    for left, right in zip(run.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def test_goes_on_from_a_saved_state_bit_for_bit(tmp_path: Path) -> None:
    whole = Run()
    whole.epochs(4)
    begun = Run()
    begun.epochs(2)
    begun.accelerator.save_state(str(tmp_path))
    resumed = Run()
    resumed.accelerator.load_state(str(tmp_path))
    resumed.epochs(2)
    assert same(whole.model, resumed.model)
    assert resumed.rho == whole.rho
    assert resumed.held_out.state_dict() == whole.held_out.state_dict() != Run().held_out.state_dict()


def test_bf16() -> None:
    run = Run(mixed_precision="bf16")
    run.model.float()
    inputs, targets = data(8, 1)[:]
    dtypes = set()

    def loss_on(batch: Any) -> Tensor:
        run.model[0].register_forward_hook(lambda *_: dtypes.add(_[2].dtype))
        return cross_entropy(run.model, [batch[0].float(), batch[1]])

    for _ in range(4):
        step(run.accelerator, run.optimizer, loss_on, [(inputs, targets)], run.held_out)
    assert dtypes == {torch.bfloat16}
    assert run.rho != 0.05
    assert all(param.isfinite().all() for param in run.model.parameters())


def test_a_scaler_is_given_to_every_pass() -> None:
    """What float16 does; on the CPU, Accelerate makes no scaler, so this one is put in."""
    plain, scaled = Run(), Run()
    scaled.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=4)
    for run in (plain, scaled):
        torch.manual_seed(0)
        run.epochs(1)
    assert same(plain.model, scaled.model)
    assert scaled.accelerator.scaler.get_scale() == 16.0


def test_a_fixed_radius_needs_no_validation_batches() -> None:
    accelerator, model = Accelerator(cpu=True), network()
    opt: Any = accelerator.prepare(letsam.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05))
    before = network()
    loss = step(accelerator, opt, lambda batch: cross_entropy(model, batch), [list(data(8, 1)[:])])
    assert loss > 0
    assert not same(before, model)


def test_outputs_of_the_first_pass_and_batches_to_skip() -> None:
    run = Run()
    batch = next(iter(run.loader))

    def loss_on(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
        if batch[1].min() < 0:
            raise letsam.SkipStep
        logits = run.model(batch[0])
        return nn.functional.cross_entropy(logits, batch[1]), logits

    loss = step(run.accelerator, run.optimizer, loss_on, [batch], run.held_out)
    (logits,) = run.optimizer.optimizer.outputs
    assert torch.equal(nn.functional.cross_entropy(logits, batch[1]), loss)
    before = [p.detach().clone() for p in run.model.parameters()]
    assert step(run.accelerator, run.optimizer, loss_on, [[batch[0], -batch[1] - 1]], run.held_out).isnan()
    assert all(torch.equal(p, old) for p, old in zip(run.model.parameters(), before, strict=True))


def test_mistakes_are_named() -> None:
    run = Run()
    before = network()
    with pytest.raises(ValueError, match="`validation_closure` must be given for a learned radius"):
        step(run.accelerator, run.optimizer, run.loss_on, [list(data(8, 1)[:])])
    with pytest.raises(ValueError, match="`micro_batches` must hold at least one micro-batch"):
        step(run.accelerator, run.optimizer, run.loss_on, [], run.held_out)
    sgd = torch.optim.SGD(run.model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match="`optimizer` must be a letsam optimizer, got SGD"):
        step(run.accelerator, run.accelerator.prepare(sgd), run.loss_on, [list(data(8, 1)[:])], run.held_out)
    run.accelerator.state.distributed_type = DistributedType.DEEPSPEED
    with pytest.raises(ValueError, match="`accelerator` must leave the step to the optimizer, got DEEPSPEED"):
        step(run.accelerator, run.optimizer, run.loss_on, [list(data(8, 1)[:])], run.held_out)
    assert same(before, run.model)


def test_a_call_for_each_micro_batch_is_an_error() -> None:
    """Inside `accumulate`, every micro-batch would be a step of its own."""
    run = Run(gradient_accumulation_steps=2)
    before = network()
    with (
        run.accelerator.accumulate(run.model),
        pytest.raises(ValueError, match=r"`micro_batches` must hold all .* one of 2 inside accelerator.accumulate"),
    ):
        step(run.accelerator, run.optimizer, run.loss_on, [list(data(8, 1)[:])], run.held_out)
    assert same(before, run.model)
    whole = Run()
    with whole.accelerator.accumulate(whole.model):  # of one
        step(whole.accelerator, whole.optimizer, whole.loss_on, [list(data(8, 1)[:])], whole.held_out)
    assert not same(before, whole.model)


def test_gradients_of_the_accelerators_own_accumulation_are_not_dropped() -> None:
    """`accelerator.backward` before the prepared optimizer's `step(closure)`: an error instead of one micro-batch."""
    run = Run(gradient_accumulation_steps=2)
    before = network()

    def loop() -> None:
        for batch in run.loader:
            with run.accelerator.accumulate(run.model):
                run.accelerator.backward(run.loss_on(batch))
                run.optimizer.step(lambda batch=batch: run.loss_on(batch))
                run.optimizer.zero_grad()

    run.optimizer.optimizer.validation_closure = lambda: run.loss_on(next(run.held_out))
    with pytest.raises(ValueError, match="`step` must begin without gradients other than those of the last step"):
        loop()
    assert same_weights(before, run.model)


def same_weights(left: nn.Module, right: nn.Module) -> bool:
    return all(map(torch.equal, left.parameters(), right.parameters()))


def test_the_trackers_get_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    run, logged = Run(), list[Any]()
    monkeypatch.setattr(run.accelerator, "log", lambda values, step: logged.append((step, values)))
    run.epochs(1)
    log_step(run.accelerator, run.optimizer, 4)
    ((number, values),) = logged
    opt = run.optimizer.optimizer
    assert (number, set(values)) == (4, set(LOGGED))
    assert values["rho"] == pytest.approx(opt.rho.item())
    assert values["learning_rate"] == pytest.approx(opt.param_groups[0]["lr"])
    assert values["generalization_gap"] == pytest.approx(values["validation_loss"] - values["training_loss"], abs=1e-6)
    with pytest.raises(TypeError, match="`optimizer` must be a letsam optimizer"):
        log_step(run.accelerator, torch.optim.SGD(run.model.parameters(), lr=0.1))
