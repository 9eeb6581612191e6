"""`letsam.check` finds nothing in training loops that are right."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import letsam

SetUp = tuple[nn.Module, letsam.SharpnessAware, Callable[[], Any], Callable[[], Any]]
HEALTHY: dict[str, Callable[[], SetUp]] = {}


def healthy(make: Callable[[], SetUp]) -> Callable[[], SetUp]:
    HEALTHY[make.__name__] = make
    return make


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)


def vectors(seed: int, count: int = 24) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 8, generator=generator), torch.randint(0, 3, (count,), generator=generator)


def images(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 3, 8, 8, generator=generator), torch.randint(0, 3, (16,), generator=generator)


def tokens(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 20, (8, 6), generator=generator), torch.randint(0, 3, (8,), generator=generator)


def assembled(
    model: nn.Module,
    base: Callable[[nn.Module], Any] = sgd,
    data: Callable[[int], tuple[Tensor, Tensor]] = vectors,
    loss_of: Callable[[Any, Tensor], Tensor] = F.cross_entropy,
    rho: Any = None,
    make: Callable[..., letsam.SharpnessAware] = letsam.SAM,
    forward: Callable[[Tensor], Any] | None = None,
    **options: Any,
) -> SetUp:
    """The usual loop: two closures over two batches, a learned radius, `model=`."""
    opt = make(base(model), rho=letsam.LearnedRadius(0.05) if rho is None else rho, model=model, **options)

    def closure_on(seed: int) -> Callable[[], Tensor]:
        x, y = data(seed)

        def closure() -> Tensor:
            opt.zero_grad()
            loss = loss_of((forward or model)(x), y)
            loss.backward()
            return loss

        return closure

    return model, opt, closure_on(0), closure_on(1)


def perceptron(*between: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), *between, nn.ReLU(), nn.Linear(16, 3))


@healthy
def plain() -> SetUp:
    return assembled(perceptron())


@healthy
def batch_norm_and_dropout() -> SetUp:
    return assembled(perceptron(nn.BatchNorm1d(16), nn.Dropout(0.3)))


@healthy
def convolutions() -> SetUp:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    return assembled(nn.Sequential(*layers), data=images)


@healthy
def group_norm_with_samon() -> SetUp:
    return assembled(perceptron(nn.GroupNorm(4, 16)), make=letsam.SAMON)


@healthy
def asam_with_adamw() -> SetUp:
    return assembled(perceptron(nn.LayerNorm(16)), adamw, make=letsam.ASAM, rho=letsam.LearnedRadius(0.5))


@healthy
def the_paper() -> SetUp:
    return assembled(perceptron(), rho=letsam.LearnedRadius.paper(0.05))


@healthy
def a_radius_per_layer() -> SetUp:
    return assembled(perceptron(), rho=letsam.LearnedRadius(0.05, per="layer"))


@healthy
def a_schedule_that_starts_late() -> SetUp:
    return assembled(perceptron(), rho=letsam.CosineRadius(0.1, 0.01, steps=100), active=range(50, 1000))


@healthy
def spectral_norm() -> SetUp:
    model = perceptron()
    nn.utils.parametrizations.spectral_norm(model[0])
    return assembled(model)


@healthy
def weight_norm() -> SetUp:
    model = perceptron()
    nn.utils.parametrizations.weight_norm(model[0])
    return assembled(model)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.lstm, self.head = nn.Embedding(20, 8), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 3)
        self.hidden: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        out, hidden = self.lstm(self.embed(x), self.hidden)
        self.hidden = (hidden[0].detach(), hidden[1].detach())
        return self.head(out[:, -1])


@healthy
def recurrent_state() -> SetUp:
    return assembled(Recurrent(), adamw, tokens)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.embed(x).mean(1))


@healthy
def tied_weights() -> SetUp:
    return assembled(Tied(), adamw, tokens)


@healthy
def attention() -> SetUp:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    model = nn.Sequential(nn.Embedding(20, 8), layer, nn.Flatten(), nn.Linear(48, 3))
    return assembled(model, adamw, tokens)


@healthy
def hugging_face() -> SetUp:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    size = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 3}
    model = BertForSequenceClassification(BertConfig(**size, intermediate_size=16))
    return assembled(model, adamw, tokens, lambda output, y: F.cross_entropy(output.logits, y))


class Teacher(nn.Module):
    """A student that is drawn to a teacher, which is its moving average."""

    def __init__(self) -> None:
        super().__init__()
        self.student = perceptron()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            for mine, theirs in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                mine.lerp_(theirs, 0.01)
        return self.student(x) + 0.1 * self.teacher(x)


@healthy
def a_momentum_teacher() -> SetUp:
    return assembled(Teacher())


@healthy
def frozen_layers() -> SetUp:
    model = perceptron()
    model[0].requires_grad_(False)
    return assembled(model)


@healthy
def lora() -> SetUp:
    from peft import LoraConfig, get_peft_model

    return assembled(get_peft_model(perceptron(), LoraConfig(r=2, target_modules=["0", "2"])), adamw)  # pyright: ignore[reportArgumentType]


@healthy
def regression() -> SetUp:
    return assembled(perceptron(), loss_of=lambda z, y: F.huber_loss(z[:, 0], y.float()))


@healthy
def noise_as_augmentation() -> SetUp:
    model = perceptron()
    return assembled(model, forward=lambda x: model(x + 0.1 * torch.randn_like(x)))


@healthy
def two_views() -> SetUp:
    model = perceptron()

    def loss_of(z: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        return F.cross_entropy(z[0], y) + 0.1 * (1 - F.cosine_similarity(*z)).mean()

    return assembled(model, forward=lambda x: (model(x), model(x.flip(0))), loss_of=loss_of)


@healthy
def gradient_checkpoints() -> SetUp:
    model = perceptron(nn.Dropout(0.2))

    def forward(x: Tensor) -> Any:
        return model[2:](checkpoint(model[:2], x, use_reentrant=False))  # pyright: ignore[reportOptionalCall]

    return assembled(model, forward=forward)


@healthy
def compiled() -> SetUp:
    model = perceptron()
    return assembled(model, forward=torch.compile(model, backend="eager"))


@healthy
def bfloat16_autocast() -> SetUp:
    model = perceptron()

    def forward(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(x).float()

    return assembled(model, forward=forward)


@healthy
def muon_and_adamw() -> SetUp:
    def both(model: nn.Module) -> list[torch.optim.Optimizer]:
        matrices = [p for p in model.parameters() if p.ndim == 2]
        return [torch.optim.Muon(matrices), torch.optim.AdamW([p for p in model.parameters() if p.ndim != 2])]

    return assembled(perceptron(), both)


@healthy
def schedule_free() -> SetUp:
    from schedulefree import AdamWScheduleFree

    def base(model: nn.Module) -> torch.optim.Optimizer:
        optimizer = AdamWScheduleFree(model.parameters(), lr=1e-3)
        optimizer.train()
        return optimizer

    return assembled(perceptron(), base)


@healthy
def calibrated() -> SetUp:
    return assembled(perceptron(), rho=letsam.LearnedRadius(0.05, objective=letsam.CalibratedLoss()))


@healthy
def accumulated() -> SetUp:
    model, opt, _, held_out = assembled(perceptron(nn.BatchNorm1d(16)))
    x, y = vectors(0)
    parts = list(zip(x.chunk(3), y.chunk(3), strict=True))
    return model, opt, letsam.accumulated(lambda part: F.cross_entropy(model(part[0]), part[1]), parts, opt), held_out


@healthy
def selected_samples() -> SetUp:
    radius = letsam.LearnedRadius(
        0.05,
        hypergradient=letsam.FiniteDifference(),
        rule=letsam.LogAdam(prior=letsam.Prior(rise=None)),
    )
    model, opt, _, held_out = assembled(perceptron(), make=letsam.ESAM, rho=radius)
    x, y = vectors(0)

    def losses_on(indices: Tensor | None) -> Tensor:
        chosen = slice(None) if indices is None else indices
        return F.cross_entropy(model(x[chosen]), y[chosen], reduction="none")

    return model, opt, letsam.selected(losses_on, opt), held_out


@healthy
def outputs_for_metrics() -> SetUp:
    model, opt, _, held_out = assembled(perceptron())
    x, y = vectors(0)

    def closure() -> tuple[Tensor, Tensor]:
        opt.zero_grad()
        z = model(x)
        loss = F.cross_entropy(z, y)
        loss.backward()
        return loss, z

    return model, opt, closure, held_out


def steps(set_up: SetUp) -> Iterator[Tensor]:
    """A few steps of the loop."""
    _, opt, closure, held_out = set_up
    for _ in range(3):
        yield opt.step(closure, held_out if opt.radius.learns else None)


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_found(name: str) -> None:
    """Neither in new objects nor after a few steps; and the loop trains."""
    set_up = HEALTHY[name]()
    model, opt, closure, held_out = set_up
    validation = held_out if opt.radius.learns else None
    assert letsam.check(opt, closure, validation, model) == []
    losses = list(steps(set_up))
    assert all(loss.isfinite() for loss in losses)
    assert opt.metrics["skipped_steps"] == 0
    assert letsam.check(opt, closure, validation, model) == []


def test_there_are_twenty() -> None:
    assert len(HEALTHY) >= 20
