"""Lightning's tuner, batches that `training_step` skips, the outputs that hooks see, and a gradient scaler."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.tuner.tuning import Tuner
from torch import Tensor, nn
from torch.utils.data import DataLoader

import letsam
from integrations.cases import cross_entropy, data, learned, network, same
from letsam.closures.batches import EndlessBatches
from letsam.integrations.lightning import SharpnessAwareCallback

pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
SKIPPED = (1, 2, 6)  # of the 8 batches of two epochs


class Module(LightningModule):
    """Every batch begins with a random state of its own, so that a loop by hand can draw the same masks."""

    def __init__(self, dtype: torch.dtype = torch.float64, skipped: tuple[int, ...] = (), **options: Any) -> None:
        super().__init__()
        self.model = network().to(dtype)
        self.lr, self.batch_size = 0.1, 2
        self.skipped, self.options = skipped, options
        self.losses: list[float] = []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(batch_idx)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
        if self.trainer.global_step in self.skipped:
            return None
        loss = loss_on(self.model, batch)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> Any:
        self.sam = learned(self.model.parameters(), **self.options)
        self.sam.param_groups[0]["lr"] = self.lr
        return self.sam

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(data(32, 1), batch_size=self.batch_size)


def loss_on(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return cross_entropy(model, [batch[0].to(next(model.parameters()).dtype), batch[1]])


def held_out_loader() -> DataLoader[Any]:
    return DataLoader(data(12, 2), batch_size=4, shuffle=True)


def trainer_in(path: Path, *callbacks: Callback, **options: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "logger": False}
    return Trainer(
        default_root_dir=path,
        callbacks=[SharpnessAwareCallback(held_out_loader()), *callbacks],
        **{**quiet, "enable_checkpointing": False, "max_epochs": 2, **options},
    )


def by_hand(
    module: Module, scaler: torch.amp.GradScaler | None = None, skipped: tuple[int, ...] = ()
) -> tuple[nn.Module, letsam.SAM]:
    """The steps of a fit of such a module, with nothing of Lightning."""
    model = network().to(next(module.parameters()).dtype)
    opt = learned(model.parameters(), model, **module.options)
    held_out = EndlessBatches(held_out_loader())
    batches = list(DataLoader(data(32, 1), batch_size=module.batch_size))

    def closure(batch: Any, skips: bool = False) -> Tensor:
        if skips:
            raise letsam.SkipStep
        opt.zero_grad()
        with torch.autocast("cpu", torch.float16, enabled=scaler is not None, cache_enabled=False):
            loss = loss_on(model, batch)
        (loss if scaler is None else scaler.scale(loss)).backward()
        return loss

    for number in range(2 * len(batches)):
        i = number % len(batches)
        torch.manual_seed(i)
        opt.step(
            lambda i=i, number=number: closure(batches[i], number in skipped),
            lambda: closure(next(held_out)),
            grad_scaler=scaler,
        )
        if scaler is not None:
            scaler.update()
    return model, opt


# --- the tuner ------------------------------------------------------------------------------------------------------


def test_lr_find_runs_the_learned_radius_and_leaves_no_trace(tmp_path: Path) -> None:
    module, untuned = Module(), Module()
    trainer = trainer_in(tmp_path)
    found = Tuner(trainer).lr_find(module, num_training=20, early_stop_threshold=None, update_attr=False)
    assert found is not None
    assert len(found.results["loss"]) == 20
    assert module.sam.metrics["hypergradient"] != 0
    model, batch = network(), next(iter(module.train_dataloader()))
    torch.manual_seed(0)
    first = loss_on(model, batch)
    assert module.losses[0] == pytest.approx(first.item())
    # of the first pass, at the weights themselves; Lightning smoothes it, and divides by 1 - 0.98^2 in the first step
    assert found.results["loss"][0] == pytest.approx(first.item() * 0.02 / (1 - 0.98**2))
    trainer.fit(module)
    trainer_in(tmp_path).fit(untuned)
    assert same(module, untuned)
    assert module.sam.rho == untuned.sam.rho != 0.05


def test_scale_batch_size_runs_the_learned_radius(tmp_path: Path) -> None:
    module, untuned = Module(), Module()
    trainer = trainer_in(tmp_path)
    assert Tuner(trainer).scale_batch_size(module, max_trials=3, steps_per_trial=2, max_val=64) == 8
    assert module.losses
    trainer.fit(module)
    untuned.batch_size = 8
    trainer_in(tmp_path).fit(untuned)
    assert same(module, untuned)


def test_the_tuner_is_told_of_mistakes(tmp_path: Path) -> None:
    quiet: dict[str, Any] = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}
    trainer = Trainer(default_root_dir=tmp_path, callbacks=[SharpnessAwareCallback()], accelerator="cpu", **quiet)
    with pytest.raises(ValueError, match="`validation_dataloader` must be given for a learned radius, got None"):
        Tuner(trainer).lr_find(Module(), num_training=3)


# --- training_step returns None -------------------------------------------------------------------------------------


def test_a_batch_without_a_loss_is_skipped(tmp_path: Path) -> None:
    module = Module(skipped=SKIPPED)
    module.batch_size = 8
    trainer = trainer_in(tmp_path)
    trainer.fit(module)
    model, opt = by_hand(module, skipped=SKIPPED)
    assert same(module.model, model)
    assert module.sam.rho == opt.rho != 0.05
    assert trainer.global_step == 8
    batch_norm = module.model[1]
    assert isinstance(batch_norm, nn.BatchNorm1d)
    assert batch_norm.num_batches_tracked == 5


def test_a_first_batch_without_a_loss_leaves_everything(tmp_path: Path) -> None:
    module = Module(skipped=tuple(range(99)))
    trainer_in(tmp_path).fit(module)
    assert same(module.model, network())
    assert not module.sam.state


def test_a_loss_that_is_left_out_by_chance_is_not_left_out_for_ever(tmp_path: Path) -> None:
    class ByChance(Module):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            pass

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
            kept = bool(torch.rand(()) < 0.5)
            loss = super().training_step(batch, batch_idx)
            return loss if kept else None

    torch.manual_seed(0)
    module = ByChance()
    trainer_in(tmp_path, max_epochs=1).fit(module)
    assert 2 <= int(module.model[1].num_batches_tracked) <= 14  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_a_validation_batch_without_a_loss_costs_an_update_of_the_radius(tmp_path: Path) -> None:
    module = Module()
    trainer = trainer_in(tmp_path)
    trainer.callbacks[0] = SharpnessAwareCallback(held_out_loader(), lambda module, batch: None)  # pyright: ignore[reportArgumentType]
    trainer.fit(module)
    assert module.sam.rho == 0.05
    assert not same(module.model, network())


# --- outputs, and a gradient scaler -----------------------------------------------------------------------------------


class Watch(Callback):
    """What hooks see of each step."""

    def __init__(self) -> None:
        self.outputs: list[Tensor] = []
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.outputs.append(outputs["loss"])
        self.losses.append(pl_module.sam.metrics["training_loss"])

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.norms.append(torch.stack([p.grad.norm() for p in pl_module.parameters()]).norm())


def test_hooks_see_the_outputs_of_the_first_pass(tmp_path: Path) -> None:
    module, watch = Module(), Watch()
    trainer_in(tmp_path, watch).fit(module)
    assert watch.outputs == watch.losses
    assert len({loss.item() for loss in watch.losses}) == 32


def test_fp16_is_a_loop_by_hand_with_a_scaler(tmp_path: Path) -> None:
    """On the CPU; the scale grows, and shrinks after an overflow, whose step is skipped."""
    module, watch = Module(torch.float32), Watch()
    module.batch_size = 8
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=4) for _ in range(2)]
    plugin = MixedPrecision("16-mixed", "cpu", scalers[0])
    trainer_in(tmp_path, watch, plugins=[plugin]).fit(module)
    model, opt = by_hand(module, scalers[1])
    assert same(module.model, model)
    assert module.sam.rho == opt.rho != 0.05
    assert scalers[0].get_scale() == scalers[1].get_scale()
    assert 1 <= module.sam.metrics["skipped_steps"] == opt.metrics["skipped_steps"] <= 4
    assert len(watch.norms) == 8 - module.sam.metrics["skipped_steps"]  # once a step that counts, and unscaled
    assert all(value < 10 or not value.isfinite() for value in watch.norms)


def test_clipping_of_scaled_gradients_is_refused(tmp_path: Path) -> None:
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    with pytest.raises(ValueError, match=r"`gradient_clip_val` must be None with a gradient scaler .*`max_grad_norm`"):
        trainer_in(tmp_path, plugins=[plugin], gradient_clip_val=0.1).fit(Module(torch.float32))


def test_after_a_fit_the_trainer_has_its_own_step(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path)
    trainer.fit(Module())
    assert "optimizer_step" not in vars(trainer.strategy.precision_plugin)
