"""Lightning: a callback for automatic optimization with a letsam optimizer from `configure_optimizers`.

Lightning's precision plugin calls `optimizer.step` with a closure that can be called repeatedly: forward, backward and
clipping on the same batch. It cannot pass a second closure, for a validation batch, and a gradient scaler would call
the closure only once. During a fit, the callback takes the place of this call. `self.log` of `training_step` is muted
in all passes but the first, and the hooks see the outputs of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from .. import checks
from ..closures.batches import EndlessBatches, endless
from ..closures.returned import SkipStep
from ..optimizer import SharpnessAware
from ..step.randomness import States, devices_of, read_states, write_states
from .logged_metrics import logged_metrics, warn_once

Loss = Callable[[LightningModule, Any], Tensor]


class SharpnessAwareCallback(Callback):
    """Passes validation batches to the letsam optimizer of a LightningModule, and logs its radius.

    - Logs `rho`, `learning_rate`, the losses, `generalization_gap` and `hypergradient` at every step.
    - `self.log` in `training_step` logs in the first pass of a step, at the unperturbed weights, and is muted in the
      others.
    - Sets the optimizer's `model` if it has none, so that running statistics are updated once per step.
    - A batch for which `training_step` returns None is skipped: weights, moments, radius and buffers stay as they were.
      A validation batch for which it does only costs the update of the radius.
    - With a gradient scaler (`"16-mixed"`), every pass is unscaled, and `on_before_optimizer_step` is called once per
      step that is not skipped.
    - Checkpoints contain the position in the validation data: `ckpt_path` continues with the next batch.
    - `gradient_clip_val` by norm clips only the gradient of the descent, as the optimizer's `max_grad_norm` does. By
      value, it clips in every training pass, which also changes the direction of the ascent.

    Args:
        validation_dataloader: for a learned radius, batches that are neither trained on nor reported; reshuffled in
            every epoch if the loader shuffles. They go through the module's transfer hooks.
        loss: `loss(pl_module, batch)`, the loss of a validation batch; None: that of `training_step`, with logs muted.
        seed: >= 0, of the order of the validation batches.

    Raises:
        TypeError: an argument of the wrong type; from `fit`, an optimizer that is not letsam's.
        ValueError: from `fit`, a learned radius without data, or a Trainer whose closure cannot be called a second
            time: manual optimization, or `accumulate_grad_batches`; or `gradient_clip_val` with a gradient scaler.

    Example:
        >>> import torch, letsam
        >>> from letsam.integrations.lightning import SharpnessAwareCallback
        >>> class Module(LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(2, 1)
        ...     def training_step(self, batch):
        ...         return self.layer(batch).square().mean()
        ...     def configure_optimizers(self):
        ...         return letsam.SAM(torch.optim.SGD(self.parameters(), lr=0.1), rho=letsam.LearnedRadius(0.05))
        >>> held_out = torch.utils.data.DataLoader(torch.eye(2))
        >>> trainer = Trainer(
        ...     max_epochs=1, callbacks=[SharpnessAwareCallback(held_out)], accelerator="cpu", logger=False,
        ...     enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        ... )
        >>> trainer.fit(Module(), torch.utils.data.DataLoader(torch.randn(16, 2), batch_size=4))
        >>> bool(trainer.callback_metrics["rho"] != 0.05)
        True
    """

    def __init__(
        self, validation_dataloader: Iterable[Any] | None = None, loss: Loss | None = None, *, seed: int = 0
    ) -> None:
        if loss is not None and not callable(loss):
            raise TypeError(f"`loss` must be a function of a module and a batch, got {checks.shown(loss)}")
        self.loss = loss
        self.seed = checks.whole("seed", seed, 0)
        self._batches: EndlessBatches[Any] | None = None
        if validation_dataloader is not None:
            self._batches = endless(validation_dataloader, seed=self.seed)
        self._optimizer: SharpnessAware | None = None
        self._plugin: Any = None

    # --- set-up and tear-down -------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take over the Trainer's call of the optimizer's step; early enough for Lightning's tuner."""
        if stage == "fit":
            self._plugin = trainer.strategy.precision_plugin
            vars(self._plugin)["optimizer_step"] = partial(self._optimizer_step, self._plugin)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the Trainer's configuration, before the first batch."""
        self._adopt(trainer, pl_module)

    def _adopt(self, trainer: Trainer, pl_module: LightningModule) -> SharpnessAware:
        """The optimizer of this fit; checked the first time."""
        if self._optimizer is not None:
            return self._optimizer
        _check_trainer(trainer, pl_module, self.loss)
        optimizer: Any = trainer.optimizers[0]
        if not isinstance(optimizer, SharpnessAware):
            raise TypeError(f"`configure_optimizers` must return a letsam optimizer, got {checks.shown(optimizer)}")
        if optimizer.radius.learns and self._batches is None:
            raise ValueError("`validation_dataloader` must be given for a learned radius, got None")
        if self._batches is not None:
            self._batches.seed = self.seed + trainer.global_rank
        if optimizer.model is None:
            optimizer.model = pl_module
        self._optimizer = optimizer
        return optimizer

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the optimizer's step back to the Trainer."""
        if self._plugin is not None:
            vars(self._plugin).pop("optimizer_step", None)
        self._plugin = self._optimizer = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the optimizer's step back to the Trainer."""
        self.teardown(trainer, pl_module, "fit")

    def state_dict(self) -> dict[str, Any]:
        """The position in the validation data."""
        return {} if self._batches is None else self._batches.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved position."""
        if self._batches is not None and state_dict:
            self._batches.load_state_dict(state_dict)

    # --- a step ---------------------------------------------------------------------------------------------------

    def _optimizer_step(
        self, plugin: Any, optimizer: Any, model: Any, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        """In place of `Precision.optimizer_step`: a whole step, with the validation closure and the gradient scaler."""
        trainer: Trainer = model.trainer
        own = self._adopt(trainer, model)
        _check_accumulation(trainer)  # a GradientAccumulationScheduler may have changed it
        scaler: torch.amp.GradScaler | None = getattr(plugin, "scaler", None)
        results: list[Any] = []  # of all passes, as Lightning keeps them
        random: States = {}

        def training() -> Any:
            with nullcontext() if not results else _muted(model):
                loss = closure()
                results.append(getattr(closure, "_result", None))
                if loss is None:
                    random.update(read_states(devices_of(model.parameters())))
                    raise SkipStep("`training_step` returned None")
                if scaler is None:
                    plugin._after_closure(model, optimizer)  # hooks, and clipping
            return loss

        if self._batches is not None:
            kwargs["validation_closure"] = lambda: self._validation_loss(trainer, model)
        own_norm, clip_by_norm = own.max_grad_norm, plugin.clip_grad_by_norm

        def clipped_by_the_step(_: Any, clip_val: float) -> None:
            """Where clipped in each pass, all gradients would have one length, and a radius would see no curvature."""
            own.max_grad_norm = float(clip_val) if own_norm is None else min(float(clip_val), own_norm)

        plugin.clip_grad_by_norm = clipped_by_the_step
        hook = None
        if scaler is not None:  # only there are the gradients unscaled
            hook = own.base_optimizer.register_step_pre_hook(lambda *_: plugin._after_closure(model, optimizer))
        try:
            loss = own.step(training, grad_scaler=scaler, **kwargs)
        finally:
            own.max_grad_norm, plugin.clip_grad_by_norm = own_norm, clip_by_norm
            if hook is not None:
                hook.remove()
        if results[0] is not None:
            vars(closure)["_result"] = results[0]  # else `outputs` of the hooks would be those of the last pass
        if scaler is not None:
            scaler.update()
        write_states(random)  # a step that decides by chance whether it returns None must not decide so for ever
        return loss

    def _validation_loss(self, trainer: Trainer, pl_module: LightningModule) -> Tensor:
        """Forward and backward on the next validation batch, as the Trainer does it for a training batch."""
        assert self._batches is not None
        strategy = trainer.strategy
        batch = strategy.precision_plugin.convert_input(next(self._batches))
        batch = pl_module._on_before_batch_transfer(batch, dataloader_idx=0)
        batch = strategy.batch_to_device(batch, dataloader_idx=0)
        pl_module.zero_grad()
        with _muted(pl_module):
            if self.loss is not None:
                with strategy.precision_plugin.train_step_context():
                    loss: Any = self.loss(pl_module, batch)
            else:
                output = strategy.training_step(batch, *_batch_idx(trainer, pl_module))
                loss = output.get("loss") if isinstance(output, dict) else output
            if loss is None:
                raise SkipStep("`training_step` returned None for a validation batch")
            if isinstance(loss, Tensor):  # otherwise the optimizer raises
                strategy.backward(loss, None)
        return loss

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log what `logged_metrics` gives."""
        assert self._optimizer is not None
        pl_module.log_dict(logged_metrics(self._optimizer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn, once, of validation data that do not fit the training data, and of a radius at its bound."""
        if trainer.is_global_zero and self._optimizer is not None:
            warn_once(self._optimizer)


def _check_trainer(trainer: Trainer, pl_module: LightningModule, loss: Loss | None) -> None:
    if not pl_module.automatic_optimization:
        raise ValueError(
            "`automatic_optimization` must be True for this callback, got False: with manual optimization, call "
            "optimizer.step(closure, validation_closure=...) in `training_step`"
        )
    _check_accumulation(trainer)
    if getattr(trainer.precision_plugin, "scaler", None) is not None and trainer.gradient_clip_val:
        raise ValueError(
            f"`gradient_clip_val` must be None with a gradient scaler ({trainer.precision!r}), got "
            f"{trainer.gradient_clip_val}: Lightning clips the gradients of a pass while they are scaled. Use the "
            "optimizer's `max_grad_norm`"
        )
    if len(trainer.optimizers) != 1:
        raise ValueError(f"`configure_optimizers` must return one optimizer, got {len(trainer.optimizers)}")
    callbacks: list[Callback] = vars(trainer)["callbacks"]
    averages = any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks)
    if averages and any(isinstance(module, _BatchNorm) for module in pl_module.modules()):
        raise ValueError(
            "`callbacks` must not contain StochasticWeightAveraging if the module has BatchNorm, got both: Lightning's "
            "last pass, which updates the statistics, runs through the optimizer's step. Use torch.optim.swa_utils"
        )
    if loss is not None and trainer.world_size > 1:
        raise ValueError(
            f"`loss` must be None with several processes (it would run outside DDP), got {checks.shown(loss)}"
        )


def _check_accumulation(trainer: Trainer) -> None:
    if trainer.accumulate_grad_batches != 1:
        raise ValueError(
            "`accumulate_grad_batches` must be 1, because the second pass would see only the last micro-batch, got "
            f"{trainer.accumulate_grad_batches}: use larger batches, or manual optimization with letsam.accumulated"
        )


def _batch_idx(trainer: Trainer, pl_module: LightningModule) -> list[int]:
    """The argument `batch_idx` of `training_step`, if it has one."""
    wanted = is_param_in_hook_signature(pl_module.training_step, "batch_idx", min_args=2)
    return [trainer.fit_loop.batch_idx] if wanted else []


@contextmanager
def _muted(pl_module: LightningModule) -> Generator[None]:
    """Make `self.log` do nothing within the context."""
    pl_module.__dict__["log"] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        del pl_module.__dict__["log"]
