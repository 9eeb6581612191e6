"""The real Trainer on a tiny BERT: equal to a loop by hand, exact after a restart, and clear about mistakes."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_scheduler,
)

import letsam
from learned_radius import learned_radius
from letsam.closures.closure import InParts
from letsam.integrations import EndlessBatches
from letsam.integrations.logged_metrics import LOGGED
from letsam.integrations.transformers import STATE_KEY, SharpnessAwareTrainer

pytestmark = pytest.mark.filterwarnings("ignore")
LETS = functools.partial(letsam.SAM, rho=learned_radius(0.05, interval=2, burn_in=3))
M_SAM = functools.partial(letsam.SubBatchSAM, rho=learned_radius(0.05, interval=2, burn_in=3))


class Bert(BertForSequenceClassification):
    """Its loss is a mean over the micro-batch, and says so."""

    accepts_loss_kwargs = False


def bert(dropout: float = 0.1) -> Bert:
    torch.manual_seed(0)
    size: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    drop: dict[str, Any] = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return Bert(BertConfig(vocab_size=20, max_position_embeddings=8, num_labels=3, **size, **drop))


def examples(count: int, seed: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(20, (count, 8), generator=generator)
    return [{"input_ids": row, "labels": row[0] % 3} for row in inputs]


TRAIN, HELD_OUT, REPORTED = examples(20, 1), examples(10, 2), examples(6, 3)


def arguments(path: Path, **options: Any) -> TrainingArguments:
    quiet: dict[str, Any] = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "save_strategy": "no"}
    small: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "learning_rate": 0.01,
        "logging_steps": 1,
    }
    return TrainingArguments(str(path), optim="adamw_torch", **{**quiet, **small, **options})


class Recorder(SharpnessAwareTrainer):
    """Remembers the batches of every step and the random state that it began with."""

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        if not hasattr(self, "steps"):
            self.steps: list[tuple[list[Any], Tensor]] = []
        if self.accelerator.sync_gradients:
            self.steps.append((self._micro_batches, torch.get_rng_state()))
        return super().training_step(model, inputs, num_items_in_batch)


def trained(path: Path, *, resume: str | None = None, model: Any = None, **options: Any) -> Recorder:
    own = {
        name: options.pop(name)
        for name in ("sharpness_aware", "callbacks", "optimizers", "compute_loss_func")
        if name in options
    }
    own = {"sharpness_aware": LETS, **own} if "optimizers" not in own else own
    trainer = Recorder(
        bert() if model is None else model,
        arguments(path, **options),
        train_dataset=TRAIN,
        radius_dataset=HELD_OUT,
        eval_dataset=REPORTED,
        **own,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def optimizer_of(trainer: SharpnessAwareTrainer) -> letsam.SharpnessAware:
    assert trainer.optimizer is not None
    return trainer.optimizer.optimizer


def same(left: nn.Module, right: nn.Module) -> bool:
    return all(map(torch.equal, left.parameters(), right.parameters()))


def by_hand(trainer: Recorder, make: Any = LETS) -> tuple[nn.Module, letsam.SharpnessAware]:
    """The steps of a run once more, with nothing of the Trainer but its batches."""
    model = bert().train()
    torch.manual_seed(trainer.args.seed)
    base = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    opt = make(base, max_grad_norm=trainer.args.max_grad_norm)
    scheduler = get_scheduler("linear", opt, 0, len(trainer.steps))
    held_out = EndlessBatches(trainer.get_radius_dataloader(), seed=trainer.args.seed)
    smoothing = trainer.args.label_smoothing_factor

    per_item = trainer.compute_loss_func is not None

    def closure(batches: list[Any], chosen: list[Any] | None = None) -> Tensor:
        opt.zero_grad()
        total, count = torch.zeros(()), sum(len(batch["labels"]) for batch in batches)
        for batch in chosen or batches:
            logits, labels = model(input_ids=batch["input_ids"]).logits, batch["labels"]
            loss = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
            loss = loss * len(labels) / count if per_item else loss / len(batches)
            loss.backward()
            total = total + loss.detach()
        return total

    for batches, random in trainer.steps:
        torch.set_rng_state(random)
        parts = [lambda b=batches, one=one: closure(b, [one]) for one in batches]
        training = InParts(lambda b=batches: closure(b), parts)
        opt.step(training, lambda b=batches: closure([next(held_out) for _ in b]))
        scheduler.step()
    return model, opt


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 2, "max_grad_norm": 0.05},
        {"gradient_accumulation_steps": 2, "sharpness_aware": M_SAM},
    ],
    ids=["plain", "accumulated and clipped", "m-SAM"],
)
def test_equals_a_loop_by_hand(tmp_path: Path, options: dict[str, Any]) -> None:
    trainer = trained(tmp_path, **options)
    model, opt = by_hand(trainer, options.get("sharpness_aware", LETS))
    own = optimizer_of(trainer)
    assert len(trainer.steps) == trainer.state.global_step == (10 if not options else 6)
    assert own.rho != 0.05
    torch.testing.assert_close(own.rho, opt.rho)
    torch.testing.assert_close(own.metrics["hypergradient"], opt.metrics["hypergradient"], rtol=1e-3, atol=1e-6)
    for left, right in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_label_smoothing_is_in_every_pass(tmp_path: Path) -> None:
    trainer = trained(tmp_path, label_smoothing_factor=0.2)
    torch.testing.assert_close(optimizer_of(trainer).rho, by_hand(trainer)[1].rho)


def test_a_loss_per_item_is_one_over_all_micro_batches(tmp_path: Path) -> None:
    counts = []

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Any) -> Tensor:
        counts.append(int(num_items_in_batch))
        return nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch

    trainer = trained(tmp_path, compute_loss_func=loss, gradient_accumulation_steps=2)
    assert set(counts) == {8, 6, 4}  # two micro-batches; held out, the epoch ends with 4 + 2; the last one of an epoch
    torch.testing.assert_close(optimizer_of(trainer).rho, by_hand(trainer)[1].rho)


def test_logs_the_radius_and_the_loss_of_the_first_pass(tmp_path: Path) -> None:
    trainer = trained(tmp_path, gradient_accumulation_steps=2)
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert rows[0]["rho"] == pytest.approx(0.05)
    assert rows[-1]["rho"] == pytest.approx(optimizer_of(trainer).metrics["rho"].item())
    assert {*LOGGED, "grad_norm"} <= rows[-1].keys()
    metrics = optimizer_of(trainer).metrics
    assert rows[-1]["loss"] == pytest.approx(metrics["training_loss"].item(), abs=1e-4)
    assert rows[-1]["grad_norm"] == pytest.approx(metrics["gradient_norm"].item(), rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}], ids=["plain", "accumulated"])
def test_goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    whole = trained(tmp_path / "whole", **options)
    saving = {"save_strategy": "steps", "save_steps": 4, **options}
    trained(tmp_path / "begun", **saving)
    resumed = trained(tmp_path / "resumed", resume=str(tmp_path / "begun" / "checkpoint-4"), **options)
    assert len(resumed.steps) == len(whole.steps) - 4
    assert same(whole.model, resumed.model)
    assert optimizer_of(resumed).rho == optimizer_of(whole).rho


def test_a_checkpoint_of_a_plain_trainer_is_named(tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    Trainer(bert(), arguments(tmp_path, **options), train_dataset=TRAIN).train()
    folder = str(tmp_path / "checkpoint-1")
    fixed = functools.partial(letsam.SAM, rho=0.1)
    for held_out, make, missing in ((HELD_OUT, LETS, "radius_batches"), (None, fixed, "sharpness_aware")):
        trainer = SharpnessAwareTrainer(
            bert(), arguments(tmp_path, **options), train_dataset=TRAIN, radius_dataset=held_out, sharpness_aware=make
        )
        with pytest.raises(ValueError, match=f"`resume_from_checkpoint` must hold .*{folder}.*{missing}"):
            trainer.train(resume_from_checkpoint=folder)


def test_bf16(tmp_path: Path) -> None:
    in_float32 = trained(tmp_path).model  # first: older versions keep the precision in the environment
    trainer = trained(tmp_path, bf16=True)
    assert optimizer_of(trainer).rho != 0.05
    assert not same(in_float32, trainer.model)
    assert all(param.isfinite().all() for param in trainer.model.parameters())


def test_a_scaler_is_given_to_every_pass(tmp_path: Path) -> None:
    """What fp16 does; on the CPU, Accelerate makes no scaler, so this one is put in."""
    trainer = Recorder(bert(), arguments(tmp_path), train_dataset=TRAIN, radius_dataset=HELD_OUT, sharpness_aware=LETS)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=10)
    trainer.train()
    assert trainer.accelerator.scaler.get_scale() == 16.0
    assert same(trained(tmp_path).model, trainer.model)


def test_a_state_that_is_refused_moves_nothing(tmp_path: Path) -> None:
    trainer = trained(tmp_path)
    own = optimizer_of(trainer)
    before, weight = own.state_dict()[STATE_KEY], torch.nn.Parameter(torch.ones(2))
    other = letsam.SAM(torch.optim.SGD([weight], lr=0.1), rho=0.05)
    with pytest.raises(ValueError):  # of another radius and other weights
        own.load_state_dict({**other.state_dict(), STATE_KEY: {"epoch": 7, "position": 0}})
    assert own.state_dict()[STATE_KEY] == before
    own.load_state_dict({**own.state_dict(), STATE_KEY: {"epoch": 7, "position": 0}})
    assert own.state_dict()[STATE_KEY] == {"epoch": 7, "position": 0}


def test_a_second_call_of_train_goes_on_with_the_radius(tmp_path: Path) -> None:
    trainer = trained(tmp_path)
    own, rho = optimizer_of(trainer), optimizer_of(trainer).rho
    trainer.train()
    optimizer: Any = trainer.optimizer
    while not isinstance(optimizer, letsam.SharpnessAware):
        optimizer = optimizer.optimizer
    assert optimizer is own
    assert own.rho != rho
    assert len(own._optimizer_state_dict_post_hooks) == 1


def test_evaluation_and_callbacks_see_the_new_weights(tmp_path: Path) -> None:
    class Watch(TrainerCallback):
        def __init__(self) -> None:
            self.weights: list[Tensor] = []
            self.losses: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.weights.append(next(kwargs["model"].parameters()).detach().clone())

        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.losses.append(kwargs["metrics"]["eval_loss"])

    watch = Watch()
    trainer = trained(tmp_path, callbacks=[watch], eval_strategy="epoch")
    assert len(watch.weights) == 10
    assert not any(map(torch.equal, watch.weights, watch.weights[1:]))
    assert torch.equal(watch.weights[-1], next(trainer.model.parameters()))
    assert len(watch.losses) == 2
    assert watch.losses[-1] == pytest.approx(trainer.evaluate()["eval_loss"])


def test_the_defaults_learn_the_radius(tmp_path: Path) -> None:
    trainer = trained(tmp_path, sharpness_aware=None)
    own = optimizer_of(trainer)
    assert isinstance(own, letsam.SAM)
    assert isinstance(own.radius, letsam.LearnedRadius)
    assert own.rho != 0.05
    assert own.model is trainer.model
    assert own.max_grad_norm == 1.0
    assert trainer.accelerator.sync_gradients


def test_an_optimizer_of_ones_own(tmp_path: Path) -> None:
    model = bert()
    own = letsam.ASAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5, max_grad_norm=2.0)
    trainer = trained(tmp_path, model=model, optimizers=(own, None))
    assert optimizer_of(trainer) is own
    assert own.max_grad_norm == 2.0
    assert not same(bert(), trainer.model)


def test_a_fixed_radius_needs_no_data(tmp_path: Path) -> None:
    fixed = functools.partial(letsam.SAM, rho=0.1)
    trainer = SharpnessAwareTrainer(bert(), arguments(tmp_path), train_dataset=TRAIN, sharpness_aware=fixed)
    trainer.train()
    assert trainer.state.log_history[0]["rho"] == pytest.approx(0.1)
    assert not same(bert(), trainer.model)


def test_mistakes_are_named(tmp_path: Path) -> None:
    model, args = bert(), arguments(tmp_path)
    with pytest.raises(ValueError, match="`radius_dataset` must be given for a learned radius, got None"):
        SharpnessAwareTrainer(model, args, train_dataset=TRAIN).train()
    with pytest.raises(ValueError, match=r"`radius_dataset` must be a separate data set, .* got `train_dataset`"):
        SharpnessAwareTrainer(model, args, train_dataset=TRAIN, radius_dataset=TRAIN)
    with pytest.raises(ValueError, match=r"`radius_dataset` must be a separate data set, .* got `eval_dataset`"):
        SharpnessAwareTrainer(model, args, train_dataset=TRAIN, radius_dataset=HELD_OUT, eval_dataset={"a": HELD_OUT})
    with pytest.raises(TypeError, match="`sharpness_aware` must return a letsam optimizer, got SGD"):
        SharpnessAwareTrainer(
            model,
            args,
            train_dataset=TRAIN,
            radius_dataset=HELD_OUT,
            sharpness_aware=lambda base: torch.optim.SGD(model.parameters(), 0.1),  # pyright: ignore[reportArgumentType]
        ).train()
    assert same(bert(), model)


def test_a_loop_of_ones_own_logs_and_counts_once_a_step(tmp_path: Path) -> None:
    class Counting(Recorder):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self.rows = getattr(self, "rows", 0) + len(inputs["labels"])
            self.by_kind.setdefault("train", []).append(len(inputs["labels"]))
            self.log({"own": self.rows})
            return super().compute_loss(model, inputs, *args, **kwargs)

    trainer = Counting(
        bert(),
        arguments(tmp_path, gradient_accumulation_steps=2),
        train_dataset=TRAIN,
        radius_dataset=HELD_OUT,
        sharpness_aware=LETS,
    )
    trainer.by_kind = {}  # pyright: ignore[reportAttributeAccessIssue]
    trainer.train()
    assert trainer.rows == 40  # two epochs of 20
    assert trainer.by_kind["train"] == [4] * 10
    assert [row["own"] for row in trainer.state.log_history if "own" in row] == list(range(4, 41, 4))


def test_a_loader_of_ones_own_must_read_the_data_of_the_trainer(tmp_path: Path) -> None:
    class Fixed(SharpnessAwareTrainer):
        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(TRAIN, 4, collate_fn=self.data_collator)  # pyright: ignore

    class Mended(Fixed):
        def get_radius_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(HELD_OUT, 4, collate_fn=self.data_collator)  # pyright: ignore

    options: dict[str, Any] = {"train_dataset": TRAIN, "radius_dataset": HELD_OUT, "sharpness_aware": LETS}
    with pytest.raises(ValueError, match="`get_radius_dataloader` must be overridden if `get_train_dataloader`"):
        Fixed(bert(), arguments(tmp_path), **options).train()
    Mended(bert(), arguments(tmp_path, max_steps=2), **options).train()
