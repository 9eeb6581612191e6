"""The Hugging Face Trainer with a sharpness-aware step.

The Trainer reads the micro-batches of a step in advance, calls `training_step` for each and then `optimizer.step()`.
Here the whole step runs in the `training_step` call of its last micro-batch: each pass of the optimizer runs the
Trainer's own `training_step` on all micro-batches, with the Trainer's precision, losses and scaling. The following
`optimizer.step()` does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from .. import checks
from ..closures.batches import EndlessBatches, endless
from ..closures.closure import InParts
from ..optimizer import SharpnessAware
from ..radius import LearnedRadius
from ..variants import SAM
from .accelerate import unwrapped
from .logged_metrics import logged_metrics, warn_once
from .uncounted import uncounted

STATE_KEY = "radius_batches"
GENERATING = ("_generate", "generate_on_policy_outputs")  # methods of TRL's online trainers (GRPO, RLOO, GKD, ...)
DATA = ("train_dataset", "eval_dataset", "radius_dataset", "_micro_batches")


def _lets_sam(base_optimizer: Optimizer) -> SharpnessAware:
    return SAM(base_optimizer, rho=LearnedRadius(0.05))


class SharpnessAwareTrainer(Trainer):
    """A `transformers.Trainer` with the step theta <- base(theta, g_rho) and, by default, a learned radius.

    All features of the Trainer work: gradient accumulation (every pass runs all micro-batches of a step), losses per
    token, label smoothing, bf16, schedulers, callbacks, checkpoints. As a mixin, list it before another subclass:
    `class Mine(SharpnessAwareTrainer, SFTTrainer)`.

    - `radius_dataset` is prepared as `train_dataset` is (TRL's `SFTTrainer`: tokenized and packed).
    - Tokens and metrics that `compute_loss` counts or logs are those of the first training pass of a step.
    - `max_grad_norm` clips the gradient of the descent, unless the optimizer has its own `max_grad_norm`.
    - The logs contain `rho`, `generalization_gap` and `hypergradient`; `grad_norm` is the gradient norm at the
      unperturbed weights.
    - `on_pre_optimizer_step` and `on_optimizer_step` are both called after the step.
    - DeepSpeed is not supported.

    Args:
        *args: as for `Trainer`.
        radius_dataset: the validation split from which the radius is learned: examples that are neither trained on nor
            reported, in the form of `train_dataset`. A validation pass has as many micro-batches as a training pass, of
            the same size.
        sharpness_aware: function that makes the letsam optimizer from the Trainer's; None:
            `letsam.SAM(base, rho=letsam.LearnedRadius(0.05))`.
        **kwargs: as for `Trainer`.

    Raises:
        ValueError: `radius_dataset` is one of the other data sets; from `train`, it is missing for a learned radius, or
            a checkpoint lacks the state of the optimizer or the radius, as that of a plain Trainer does.
        TypeError: a trainer that generates its batches within a pass, such as TRL's `GRPOTrainer`; from `train`, if
            `sharpness_aware` returns no letsam optimizer.

    Example:
        >>> import functools, tempfile, torch, letsam
        >>> from transformers import BertConfig, BertForSequenceClassification, TrainingArguments
        >>> from letsam.integrations.transformers import SharpnessAwareTrainer
        >>> config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
        >>> rows = [{"input_ids": row, "labels": row[0] % 2} for row in torch.randint(9, (16, 4))]
        >>> args = TrainingArguments(tempfile.mkdtemp(), max_steps=3, report_to=[], use_cpu=True, save_strategy="no")
        >>> trainer = SharpnessAwareTrainer(
        ...     BertForSequenceClassification(config), args, train_dataset=rows[:8], radius_dataset=rows[8:],
        ...     sharpness_aware=functools.partial(letsam.ASAM, rho=letsam.LearnedRadius(0.5))
        ... )
        >>> trainer.train().global_step
        {'train_runtime': ...}
        3
        >>> bool(trainer.optimizer.optimizer.rho != 0.5)
        True
    """

    def __init__(
        self,
        *args: Any,
        radius_dataset: Any = None,
        sharpness_aware: Callable[[Optimizer], SharpnessAware] | None = None,
        **kwargs: Any,
    ) -> None:
        for name in ("train_dataset", "eval_dataset"):  # before they are prepared, which makes others of them
            if radius_dataset is not None and kwargs.get(name) is radius_dataset:
                raise _not_separate(name)
        if any(hasattr(type(self), name) for name in GENERATING):
            raise TypeError(
                "`SharpnessAwareTrainer` needs a trainer whose batches are there before a pass, got a "
                f"{type(self).__name__}, which generates them: the passes of a step would run on different batches"
            )
        self.radius_dataset = radius_dataset
        self.sharpness_aware = sharpness_aware
        super().__init__(*args, **kwargs)
        self.add_callback(_StepIsDone(self))
        self._sharpness_aware: SharpnessAware | None = None
        self._radius_batches: EndlessBatches[Any] | None = None
        self._micro_batches: list[Any] = []
        self._check_datasets()

    def _check_datasets(self) -> None:
        evaluated = self.eval_dataset.values() if isinstance(self.eval_dataset, dict) else [self.eval_dataset]
        taken = [("train_dataset", self.train_dataset), *(("eval_dataset", dataset) for dataset in evaluated)]
        for name, dataset in taken:
            if self.radius_dataset is not None and self.radius_dataset is dataset:
                raise _not_separate(name)

    # --- data -----------------------------------------------------------------------------------------------------

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """TRL's: tokenizes and packs a data set."""
        return self._prepare_both(super()._prepare_dataset, dataset, *args, **kwargs)  # pyright: ignore

    def preprocess_dataset(self, dataset: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Sentence Transformers': names the parts of a data set, for prompts and losses."""
        return self._prepare_both(super().preprocess_dataset, dataset, *args, **kwargs)  # pyright: ignore

    def _prepare_both(self, prepare: Callable[..., Any], dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Prepare a data set, and with the training data also the data for the radius, in the same way."""
        names = [value for value in (*args, *kwargs.values()) if isinstance(value, str)]
        if "train" in names and self.radius_dataset is not None:
            held_out = self.radius_dataset
            if isinstance(dataset, dict) and isinstance(held_out, dict):  # a DatasetDict
                held_out = type(dataset)(held_out)
            self.radius_dataset = prepare(held_out, *args, **kwargs)
        return prepare(dataset, *args, **kwargs)

    def get_radius_dataloader(self) -> DataLoader[Any]:
        """The loader of `radius_dataset`, made by `get_train_dataloader`: collated, shuffled and sharded as it does.

        Override it if your own `get_train_dataloader` does not read `self.train_dataset`.

        Raises:
            ValueError: `get_train_dataloader` returned the training data.
        """
        before = dict(vars(self))
        self.train_dataset = self.radius_dataset
        try:
            loader = self.get_train_dataloader()
        finally:
            vars(self).update(before)
        if getattr(loader, "dataset", None) is self.train_dataset:
            raise ValueError(
                "`get_radius_dataloader` must be overridden if `get_train_dataloader` does not read "
                "`self.train_dataset`, got a loader of the training data"
            )
        return loader

    # --- setting up -----------------------------------------------------------------------------------------------

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """Create the Trainer's optimizer, and wrap it unless it is a letsam optimizer already."""
        if self.is_deepspeed_enabled:
            raise ValueError("`args` must not use DeepSpeed, which does not leave the step to the optimizer")
        optimizer = super().create_optimizer(*([] if model is None else [model]))
        own = unwrapped(optimizer)
        if not isinstance(own, SharpnessAware):
            own = (self.sharpness_aware or _lets_sam)(optimizer)
            if not isinstance(own, SharpnessAware):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"`sharpness_aware` must return a letsam optimizer, got {checks.shown(own)}")
            self.optimizer = own
        if own is not self._sharpness_aware:
            self._adopt(own)
        return self.optimizer

    def _adopt(self, optimizer: SharpnessAware) -> None:
        if optimizer.radius.learns and self.radius_dataset is None:
            raise ValueError("`radius_dataset` must be given for a learned radius, got None")
        if optimizer.model is None:
            optimizer.model = self.model
        if optimizer.max_grad_norm is None and self.args.max_grad_norm:
            optimizer.max_grad_norm = self.args.max_grad_norm
        self._sharpness_aware = optimizer
        if not hasattr(Trainer, "_clip_grad_norm"):  # older versions clip by their accelerator, after the step
            self.accelerator.clip_grad_norm_ = lambda *_, **__: optimizer.metrics["gradient_norm"]
        if self.radius_dataset is not None:
            batches = self._radius_batches = endless(self.get_radius_dataloader(), seed=self.args.seed)
            # The Trainer saves the optimizer's state in every checkpoint, so the position in the data is stored there.
            optimizer.register_state_dict_post_hook(lambda _, state: {**state, STATE_KEY: batches.state_dict()})
            position = _Position(batches)
            optimizer.register_load_state_dict_pre_hook(position.taken)
            optimizer.register_load_state_dict_post_hook(position.moved)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except ValueError as error:
            raise ValueError(
                "`resume_from_checkpoint` must hold the state of the same optimizer in a SharpnessAwareTrainer, got "
                f"{checkpoint!r}: {error}"
            ) from error

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as `Trainer.train` does."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self.accelerator.sync_gradients = True  # all accelerators of the process share this flag

    # --- a step ---------------------------------------------------------------------------------------------------

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """Read the micro-batches of the next step and store them."""
        self._micro_batches, items = super().get_batch_samples(*args, **kwargs)
        return self._micro_batches, items

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Run the whole step if this is the last micro-batch; otherwise do nothing.

        Returns:
            For the last micro-batch, the loss of the first pass over all of them (0-dim, detached); otherwise 0.
        """
        optimizer = self._sharpness_aware
        assert optimizer is not None
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)
        fresh = set(map(id, self._micro_batches))
        whole, *parts = (
            self._closure(model, batches, num_items_in_batch, fresh)
            for batches in (self._micro_batches, *([batch] for batch in self._micro_batches))
        )
        closure = InParts(whole, parts)  # for m-sharpness
        scaler = self.accelerator.scaler
        loss = optimizer.step(closure, lambda: self._validation_loss(model), grad_scaler=scaler)
        if scaler is not None:
            scaler.update()
        self.accelerator.sync_gradients = False  # makes the prepared optimizer's step() do nothing
        return loss

    def _closure(self, model: nn.Module, batches: Sequence[Any], items: Any, fresh: set[int]) -> Callable[[], Tensor]:
        """A closure on micro-batches; `fresh` has those that no pass has run yet, whose tokens and metrics count."""

        def closure() -> Tensor:
            assert self._sharpness_aware is not None
            self._sharpness_aware.zero_grad()
            losses: list[Tensor] = []
            for position, batch in enumerate(batches, start=1):
                counted = nullcontext() if id(batch) in fresh else uncounted(self, DATA)
                fresh.discard(id(batch))
                with counted, nullcontext() if position == len(batches) else self.accelerator.no_sync(model):
                    losses.append(self._micro_step(model, batch, items))
            return torch.stack(losses).sum()

        return closure

    def _validation_loss(self, model: nn.Module) -> Tensor:
        """Run a pass on as many validation batches as the step has micro-batches, so that losses scale the same way."""
        assert self._radius_batches is not None
        count = len(self._micro_batches)
        batches, items = super().get_batch_samples(self._radius_batches, count, self.args.device)
        return self._closure(model, batches, items, set())()

    def _micro_step(self, model: nn.Module, batch: Any, items: Any) -> Tensor:
        return super().training_step(model, batch, items)

    # --- what the Trainer logs ------------------------------------------------------------------------------------

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        return self._get_grad_norm(model)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Tensor:
        assert self._sharpness_aware is not None
        return self._sharpness_aware.metrics["gradient_norm"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log as `Trainer.log` does, and add the radius' metrics to the entries with a training loss."""
        if "loss" in logs and self._sharpness_aware is not None:
            own = {name: value.item() for name, value in logged_metrics(self._sharpness_aware).items()}
            logs |= own | logs  # the Trainer has a learning rate of its own
            if self.is_world_process_zero():
                warn_once(self._sharpness_aware)
        super().log(logs, *args, **kwargs)


class _StepIsDone(TrainerCallback):
    """Keeps the prepared optimizer from a second step: older versions of the Trainer ask for one whatever was run."""

    def __init__(self, trainer: SharpnessAwareTrainer) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """After the passes of a step, before the optimizer's own."""
        self._trainer.accelerator.sync_gradients = False


def _not_separate(name: str) -> ValueError:
    return ValueError(f"`radius_dataset` must be a separate data set, neither trained on nor reported, got `{name}`")


class _Position:
    """The position in the validation data, in the state of an optimizer: it moves if the optimizer takes that state."""

    def __init__(self, batches: EndlessBatches[Any]) -> None:
        self._batches, self._next = batches, dict[str, Any]()

    def taken(self, _: Any, state: dict[str, Any]) -> dict[str, Any]:
        """Before the optimizer loads the state: without the position, which is checked."""
        if STATE_KEY not in state:
            raise ValueError(f"the optimizer's state must have the key {STATE_KEY!r}, got {sorted(state)}")
        state, before = dict(state), self._batches.state_dict()
        self._next = state.pop(STATE_KEY)
        self._batches.load_state_dict(self._next)  # raises where it is none
        self._batches.load_state_dict(before)
        return state

    def moved(self, _: Any) -> None:
        """After it."""
        self._batches.load_state_dict(self._next)
