"""Schedule-free base optimizers, whose own `train()` and `eval()` move the weights, in every kind of loop."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

import letsam
from integrations.cases import cross_entropy, data
from learned_radius import learned_radius
from letsam.integrations import EndlessBatches
from letsam.integrations.accelerate import step
from letsam.integrations.transformers import SharpnessAwareTrainer
from oracle import maths
from oracle.problems import batch, closure_on, network, same_bits, weights_of

schedulefree: Any = pytest.importorskip("schedulefree")
LETS = functools.partial(letsam.SAM, rho=learned_radius(0.05, interval=2, burn_in=3))


def base_of(model: nn.Module, lr: float = 0.05) -> Any:
    return schedulefree.AdamWScheduleFree(model.parameters(), lr=lr, warmup_steps=3)


def train(model: nn.Module, opt: letsam.SharpnessAware, first: int, last: int) -> None:
    for i in range(first, last):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))


def test_a_plain_loop_is_that_by_hand() -> None:
    """Perturb y, the point at which gradients are taken; `eval()` gives the average x, and `train()` y again."""
    model, reference = network(), network()
    opt, base = letsam.SAM(base_of(model), rho=0.1), base_of(reference)
    for epoch in range(3):
        opt.train()
        base.train()
        for i in range(4 * epoch, 4 * epoch + 4):
            opt.step(closure_on(model, batch(i)))
            theta = torch.cat([w.reshape(-1) for w in weights_of(reference)])
            g = maths.gradient(reference, theta, batch(i))
            g = maths.gradient(reference, theta + 0.1 * g / g.norm(), batch(i))
            params = list(reference.parameters())
            for p, part in zip(params, g.split([p.numel() for p in params]), strict=True):
                p.grad = part.view_as(p).clone()
            base.step()
        y = weights_of(model)
        opt.eval()
        base.eval()
        torch.testing.assert_close(weights_of(model), weights_of(reference), rtol=1e-11, atol=1e-13)
        assert not same_bits(weights_of(model), y)


def test_a_learned_radius_and_a_checkpoint() -> None:
    model = network()
    opt = LETS(base_of(model))
    opt.train()
    train(model, opt, 0, 5)
    opt.eval()
    fresh = network()
    fresh.load_state_dict(model.state_dict())
    again = LETS(base_of(fresh))
    again.load_state_dict(copy.deepcopy(opt.state_dict()))
    for m, o in ((model, opt), (fresh, again)):
        o.train()
        train(m, o, 5, 9)
        o.eval()
    assert same_bits((weights_of(fresh), again.state_dict()), (weights_of(model), opt.state_dict()))
    assert opt.rho != 0.05


def test_a_step_in_evaluation_mode_leaves_the_weights() -> None:
    """The base optimizer's own error; the wrapper puts the weights back first."""
    model = network()
    opt = letsam.SAM(base_of(model), rho=0.1)
    before = weights_of(model)
    with pytest.raises(Exception, match="not in train mode"):
        opt.step(closure_on(model, batch(0)))
    assert same_bits(weights_of(model), before)


def test_with_another_optimizer() -> None:
    model = network()
    matrices, rest = ([p for p in model.parameters() if p.ndim == n] for n in (2, 1))
    bases = [torch.optim.SGD(matrices, lr=0.1), schedulefree.AdamWScheduleFree(rest, lr=0.05)]
    opt = letsam.SAM(bases, rho=0.1)
    opt.train()
    train(model, opt, 0, 3)
    before = weights_of(model)
    opt.eval()
    moved = [not torch.equal(*pair) for pair in zip(weights_of(model), before, strict=True)]
    assert moved == [False, True, False, True]


@pytest.mark.usefixtures("_fresh_state")
def test_accelerate() -> None:
    """Equal to the same loop without the accelerator."""
    ends = []
    for prepares in (True, False):
        accelerator = Accelerator(cpu=True)
        torch.manual_seed(0)
        model: Any = network()
        opt: Any = LETS(base_of(model))
        loader: Any = torch.utils.data.DataLoader(data(24, 1), 8)
        held_out: Any = torch.utils.data.DataLoader(data(8, 2), 4)
        if prepares:
            model, opt, loader, held_out = accelerator.prepare(model, opt, loader, held_out)
        validation = EndlessBatches(held_out)
        for _ in range(2):
            opt.train()
            for rows in loader:
                step(accelerator, opt, functools.partial(cross_entropy, model), [rows], validation)
            opt.eval()
        ends.append((weights_of(model), opt.state_dict()["sharpness_aware"]))
    assert same_bits(*ends)


def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    small: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 3}
    return BertForSequenceClassification(
        BertConfig(vocab_size=20, max_position_embeddings=8, intermediate_size=16, **small)
    )


def examples(count: int, seed: int) -> list[dict[str, Tensor]]:
    inputs = torch.randint(20, (count, 8), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": row, "labels": row[0] % 3} for row in inputs]


@pytest.mark.filterwarnings("ignore")
def test_the_trainer(tmp_path: Path) -> None:
    """`optim="schedule_free_adamw"`: trained in training mode, evaluated and saved at the average."""
    options: dict[str, Any] = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "learning_rate": 0.01}
    args = TrainingArguments(
        str(tmp_path),
        optim="schedule_free_adamw",
        lr_scheduler_type="constant",
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **options,
    )
    modes: list[bool] = []

    class Recorder(SharpnessAwareTrainer):
        def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
            modes.append(self.optimizer.param_groups[0]["train_mode"])  # pyright: ignore[reportOptionalMemberAccess]
            return super().prediction_step(*args, **kwargs)

    model = bert()
    start = weights_of(model)
    trainer = Recorder(
        model,
        args,
        train_dataset=examples(12, 1),
        eval_dataset=examples(4, 3),
        radius_dataset=examples(8, 2),
        sharpness_aware=LETS,
    )
    trainer.train()
    assert trainer.optimizer is not None
    opt = trainer.optimizer.optimizer
    assert type(opt.base_optimizer).__name__ == "AdamWScheduleFree"
    assert modes == [False, False]
    assert opt.param_groups[0]["k"] == 6  # steps of the base optimizer
    assert opt.metrics["skipped_steps"] == 0
    assert opt.rho != 0.05
    assert any(not torch.equal(*pair) for pair in zip(weights_of(model), start, strict=True))
