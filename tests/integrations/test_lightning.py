"""Real fits of the real Trainer: equal to a loop by hand, exact after a restart, and clear about mistakes."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

import letsam
from integrations.cases import cross_entropy, data, learned, network, same
from learned_radius import learned_radius
from letsam.integrations import EndlessBatches
from letsam.integrations.lightning import SharpnessAwareCallback
from letsam.integrations.logged_metrics import LOGGED

pytestmark = pytest.mark.filterwarnings("ignore")


class Seen(list[tuple[Tensor, Tensor, Tensor]]):
    """What all passes have seen. A plain list of a module is put back after all passes but the first."""


class Module(LightningModule):
    """Every batch begins with a random state of its own, so that a loop by hand can draw the same masks."""

    def __init__(self, rho: Any = None, **options: Any) -> None:
        super().__init__()
        self.model = network()
        self.rho = learned_radius(0.05, interval=2, burn_in=5) if rho is None else rho
        self.options = options
        self.seen = Seen()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(batch_idx)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = cross_entropy(self.model, batch)
        self.seen.append((batch[0], torch.get_rng_state(), loss.detach()))
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        base = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        self.sam = letsam.SAM(base, rho=self.rho, **self.options)
        return {"optimizer": self.sam, "lr_scheduler": torch.optim.lr_scheduler.ExponentialLR(self.sam, 0.9)}


def train_loader() -> DataLoader[Any]:
    return DataLoader(data(32, 1), batch_size=8)


def held_out_loader() -> DataLoader[Any]:
    return DataLoader(data(12, 2), batch_size=4, shuffle=True)


def fit(
    module: LightningModule,
    path: Path,
    *callbacks: Callback,
    epochs: int = 3,
    ckpt_path: str | None = None,
    **options: Any,
) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "logger": False}
    trainer = Trainer(
        default_root_dir=path,
        max_epochs=epochs,
        callbacks=list(callbacks),
        **{**quiet, "enable_checkpointing": False, **options},
    )
    trainer.fit(module, train_loader(), ckpt_path=ckpt_path)
    return trainer


def by_hand(epochs: int = 3, **options: Any) -> tuple[nn.Module, letsam.SAM]:
    model = network()
    opt = learned(model.parameters(), model, **options)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, 0.9)
    held_out = EndlessBatches(held_out_loader())

    def closure_on(batch: list[Tensor]) -> Tensor:
        opt.zero_grad()
        loss = cross_entropy(model, batch)
        loss.backward()
        return loss

    for _ in range(epochs):
        for i, batch in enumerate(train_loader()):
            torch.manual_seed(i)
            opt.step(lambda batch=batch: closure_on(batch), lambda: closure_on(next(held_out)))
        scheduler.step()
    return model, opt


def test_equals_a_loop_by_hand_bit_for_bit(tmp_path: Path) -> None:
    module = Module()
    trainer = fit(module, tmp_path, SharpnessAwareCallback(held_out_loader()))
    model, opt = by_hand()
    assert same(model, module.model)
    assert module.sam.rho == opt.rho != 0.05
    assert module.sam.metrics["hypergradient"] == opt.metrics["hypergradient"] != 0
    assert trainer.global_step == 12
    assert module.sam.model is module


def test_clipping_by_the_trainer_is_clipping_of_the_descent(tmp_path: Path) -> None:
    module = Module()
    fit(module, tmp_path, SharpnessAwareCallback(held_out_loader()), gradient_clip_val=0.1)
    unclipped = Module()
    fit(unclipped, tmp_path, SharpnessAwareCallback(held_out_loader()))
    clipped, _ = by_hand(max_grad_norm=0.1)
    assert not same(unclipped, module)
    assert same(clipped, module.model)
    assert module.sam.max_grad_norm is None


def test_clipping_by_value_is_that_of_all_passes(tmp_path: Path) -> None:
    module, plain = Module(), Module()
    options: dict[str, Any] = {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"}
    fit(module, tmp_path, SharpnessAwareCallback(held_out_loader()), **options)
    fit(plain, tmp_path, SharpnessAwareCallback(held_out_loader()))
    assert not same(plain, module)
    assert module.sam.metrics["gradient_norm"] < 0.1 < plain.sam.metrics["gradient_norm"]


def test_the_passes_of_a_step_see_one_batch_and_one_mask(tmp_path: Path) -> None:
    module = Module(rho=0.05)
    fit(module, tmp_path, SharpnessAwareCallback(), epochs=1)
    assert len(module.seen) == 8
    for first, second in zip(module.seen[::2], module.seen[1::2], strict=True):
        assert first[0] is second[0]
        assert torch.equal(first[1], second[1])
        assert first[2] != second[2]
    batch_norm = module.model[1]
    assert isinstance(batch_norm, nn.BatchNorm1d)
    assert batch_norm.num_batches_tracked == 4


def test_logs_the_radius_and_the_loss_of_the_first_pass(tmp_path: Path) -> None:
    module, logger = Module(), CSVLogger(tmp_path)
    fit(module, tmp_path, SharpnessAwareCallback(held_out_loader()), logger=logger, log_every_n_steps=1, epochs=1)
    with open(Path(logger.log_dir) / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    rhos, losses = [float(row["rho"]) for row in rows], [float(row["loss"]) for row in rows]
    assert len(rhos) == len(losses) == 4
    assert rhos[0] == pytest.approx(0.05)
    assert rhos[-1] == pytest.approx(module.sam.metrics["rho"].item())
    assert set(LOGGED) <= rows[0].keys()
    training = [index for index, (inputs, *_) in enumerate(module.seen) if len(inputs) == 8]
    first_passes = [module.seen[index][2].item() for index in training[::2]]
    assert losses == pytest.approx(first_passes)


def test_a_loss_of_ones_own_for_validation(tmp_path: Path) -> None:
    calls = []

    def loss(module: Any, batch: list[Tensor]) -> Tensor:
        calls.append(len(batch[0]))
        return cross_entropy(module.model, batch)

    module = Module()
    fit(module, tmp_path, SharpnessAwareCallback(held_out_loader(), loss))
    assert calls == [4] * 6
    assert module.sam.rho == by_hand()[1].rho


def test_goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    whole = Module()
    fit(whole, tmp_path, SharpnessAwareCallback(held_out_loader()), epochs=4)
    begun = fit(Module(), tmp_path, SharpnessAwareCallback(held_out_loader()), epochs=2)
    begun.save_checkpoint(tmp_path / "half.ckpt")
    resumed = Module()
    fit(resumed, tmp_path, SharpnessAwareCallback(held_out_loader()), epochs=4, ckpt_path=str(tmp_path / "half.ckpt"))
    assert same(whole, resumed)
    assert resumed.sam.rho == whole.sam.rho
    assert resumed.global_step == 16


def test_bf16(tmp_path: Path) -> None:
    module = Module().float()

    class Half(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            batch[0] = batch[0].float()

    def loss(module: Any, batch: list[Tensor]) -> Tensor:
        assert torch.is_autocast_enabled("cpu")
        return cross_entropy(module.model, [batch[0].float(), batch[1]])

    fit(module, tmp_path, Half(), SharpnessAwareCallback(held_out_loader(), loss), precision="bf16-mixed")
    assert module.sam.rho != 0.05
    assert all(param.isfinite().all() for param in module.parameters())


def test_a_fixed_radius_needs_no_data(tmp_path: Path) -> None:
    trainer = fit(Module(rho=0.05), tmp_path, SharpnessAwareCallback(), epochs=1)
    assert trainer.callback_metrics["rho"].item() == pytest.approx(0.05)


class Plain(Module):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class ByHand(Module):
    """Accumulation with manual optimization, as the errors advise."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.held_out = EndlessBatches(held_out_loader())

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        opt: Any = self.optimizers()
        micro_batches = list(zip(batch[0].chunk(2), batch[1].chunk(2), strict=True))
        opt.step(
            letsam.accumulated(self.loss_on, micro_batches, opt),
            validation_closure=lambda: letsam.accumulated(self.loss_on, [next(self.held_out)], opt)(),
        )

    def loss_on(self, batch: Any) -> Tensor:
        return cross_entropy(self.model, batch)


def test_manual_optimization_accumulates(tmp_path: Path) -> None:
    module = ByHand()
    trainer = fit(module, tmp_path)
    assert module.sam.rho != 0.05
    assert trainer.global_step == 12


@pytest.mark.parametrize(
    ("module", "callbacks", "options", "error", "message"),
    [
        (Module, [SharpnessAwareCallback()], {}, ValueError, "`validation_dataloader` must be given for a learned"),
        (Module, [], {}, ValueError, "`validation_closure` must be given for a learned radius"),
        (Plain, [SharpnessAwareCallback()], {}, TypeError, "`configure_optimizers` must return a letsam .* got SGD"),
        (ByHand, [SharpnessAwareCallback()], {}, ValueError, "`automatic_optimization` must be True"),
        (
            Module,
            [SharpnessAwareCallback(held_out_loader())],
            {"accumulate_grad_batches": 2},
            ValueError,
            "`accumulate_grad_batches` must be 1, .* got 2: .* letsam.accumulated",
        ),
        (
            Module,
            [SharpnessAwareCallback(held_out_loader()), GradientAccumulationScheduler({1: 2})],
            {},
            ValueError,
            "`accumulate_grad_batches` must be 1, .* got 2",
        ),
        (
            Module,
            [SharpnessAwareCallback(held_out_loader()), StochasticWeightAveraging(0.05)],
            {},
            ValueError,
            "`callbacks` must not contain StochasticWeightAveraging if the module has BatchNorm",
        ),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path,
    module: Any,
    callbacks: list[Callback],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        fit(module(), tmp_path, *callbacks, **options)


def test_an_argument_of_the_wrong_type_is_named() -> None:
    with pytest.raises(TypeError, match="`loss` must be a function of a module and a batch, got 3"):
        SharpnessAwareCallback(loss=3)  # pyright: ignore[reportArgumentType]


def test_after_a_fit_the_optimizer_is_free(tmp_path: Path) -> None:
    module = Module()
    fit(module, tmp_path, SharpnessAwareCallback(held_out_loader()), epochs=1)
    assert not module.sam._optimizer_step_pre_hooks
    with pytest.raises(ValueError, match="`validation_closure` must be given"):
        module.sam.step(lambda: torch.zeros(()))
