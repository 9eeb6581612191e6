"""One-sided calibration: which outputs of a validation pass are found, and what becomes of their gradient."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from letsam import SAM, CalibratedLoss, Diagonal, LearnedRadius, LogAdam, SquaredGap, accumulated
from letsam.step.calibration import OutputCalibration, random_labels, without_confidence
from oracle import maths
from oracle.problems import batch, closure_on, flat, network, same_bits, weights_of
from oracle.problems import generator as seeded


def underconfident() -> nn.Sequential:
    """A network that has learned batch 20, with outputs that are too small."""
    model = network()
    descent = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(100):
        descent.zero_grad()
        nn.functional.cross_entropy(model(batch(20)[0]), batch(20)[1]).backward()
        descent.step()
    with torch.no_grad():
        for p in model[2].parameters():
            p.mul_(0.3)
    model.zero_grad()
    return model


def hypergradient(model: nn.Module, radius: LearnedRadius, **options: Any) -> float:
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), radius, **options)
    for t in range(2):
        opt.step(closure_on(model, batch(t)), closure_on(model, batch(20)))
    return opt.metrics["hypergradient"].item()


@pytest.mark.parametrize("scale", [0.3, 30.0], ids=["underconfident", "overconfident"])
def test_against_the_oracle(scale: float) -> None:
    """Underconfident: another hypergradient than that of the plain loss. Overconfident: the same."""
    model = underconfident()
    with torch.no_grad():
        for p in model[2].parameters():
            p.mul_(scale / 0.3)
    start = maths.State(model, torch.optim.SGD(model.parameters(), lr=0.1))
    direction = maths.sam_direction(start.theta, maths.gradient(model, start.theta, batch(0)))
    step = maths.OneStep(start, direction, batch(0), "calibrated_loss", batch(1), batch(20))
    plain = maths.OneStep(start, direction, batch(0), "validation_loss", batch(1), batch(20))
    expected = step.hypergradient(0.1, estimator="diagonal")
    calibrated = bool(maths.confidence(model, step.after(0.1), batch(20)).any())
    assert calibrated == (scale < 1)
    assert (abs(expected / plain.hypergradient(0.1, estimator="diagonal") - 1) > 0.01) == calibrated
    radius = LearnedRadius(0.1, objective=CalibratedLoss(), hypergradient=Diagonal(length_invariant=False), interval=1)
    assert hypergradient(model, radius) == pytest.approx(expected, rel=1e-9)


@dataclass
class Returned:
    loss: Tensor
    logits: Tensor


class Wrapped(nn.Module):
    """Returns its outputs in some other form."""

    def __init__(self, model: nn.Module, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.model, self.form = model, form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.model(x))


class InCheckpoint(nn.Module):
    """Its first part is computed again in the backward pass."""

    def __init__(self, model: nn.Sequential, reentrant: bool) -> None:
        super().__init__()
        self.model, self.reentrant = model, reentrant

    def forward(self, x: Tensor) -> Tensor:
        inner: Any = checkpoint(self.model[:2], x.requires_grad_(), use_reentrant=self.reentrant)
        return self.model[2](inner)


def cotangent_at_weights(model: nn.Module, outputs_of: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of a calibrated pass."""
    x, y = batch(20)
    model.zero_grad()
    with OutputCalibration() as calibration:
        nn.functional.cross_entropy(outputs_of(x), y).backward()
    assert calibration.found
    return torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])


FORMS: dict[str, Callable[[nn.Sequential], Callable[[Tensor], Tensor]]] = {
    "module": lambda m: m,
    "dict": lambda m: lambda x: Wrapped(m, lambda z: {"hidden": z.detach(), "logits": z})(x)["logits"],
    "logits first": lambda m: lambda x: Wrapped(m, lambda z: {"hidden": 2 * z, "logits": z})(x)["logits"],
    "tuple": lambda m: lambda x: Wrapped(m, lambda z: (z.sum(), z))(x)[1],
    "dataclass": lambda m: lambda x: Wrapped(m, lambda z: Returned(z.sum(), z))(x).logits,
    "parts": lambda m: lambda x: m[2](m[:2](x)),  # the last module gives the outputs
    "loss module": lambda m: lambda x: nn.Identity()(m(x)),  # has no parameters
    "checkpoint": lambda m: InCheckpoint(m, False),
    "reentrant checkpoint": lambda m: InCheckpoint(m, True),
    "compiled": lambda m: torch.compile(m, backend="eager"),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_are_found_in_every_form(form: str) -> None:
    model = underconfident()
    theta = flat(model.parameters()).requires_grad_()
    removed = maths.confidence(model, theta, batch(20))
    value = maths.loss(model, theta, batch(20)) - (removed * maths.outputs(model, theta, batch(20))).sum()
    (expected,) = torch.autograd.grad(value, theta)
    torch.testing.assert_close(cotangent_at_weights(model, FORMS[form](model)), expected, rtol=1e-10, atol=1e-14)


def test_other_threads_and_later_passes_are_left_alone() -> None:
    model, other = underconfident(), underconfident()
    x, y = batch(20)
    plain = maths.gradient(other, flat(other.parameters()), (x, y))

    def gradient_of(model: nn.Module) -> Tensor:
        return torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])

    def elsewhere() -> None:
        nn.functional.cross_entropy(other(x), y).backward()

    with OutputCalibration():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    torch.testing.assert_close(gradient_of(other), plain, rtol=1e-10, atol=1e-14)
    nn.functional.cross_entropy(model(x), y).backward()
    torch.testing.assert_close(gradient_of(model), plain, rtol=1e-10, atol=1e-14)


def test_a_pass_that_raises_leaves_no_hooks() -> None:
    model = underconfident()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), LearnedRadius(0.1, objective=CalibratedLoss(), interval=1))

    def broken() -> Tensor:
        model(torch.zeros(2, 5, dtype=torch.float64))
        raise AssertionError

    opt.step(closure_on(model, batch(0)), closure_on(model, batch(20)))
    with pytest.raises(RuntimeError):
        opt.step(closure_on(model, batch(1)), broken)
    assert not nn.modules.module._global_forward_hooks  # pyright: ignore[reportPrivateUsage]
    assert not nn.modules.module._global_forward_pre_hooks  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("outputs", [1, 2])
def test_few_outputs_are_calibrated_together(outputs: int) -> None:
    z = torch.randn(6, outputs, generator=seeded(0), dtype=torch.float64)
    c = torch.randn(6, outputs, generator=seeded(1), dtype=torch.float64)
    c = c * -(c * z).sum().sign()
    expected = c - z * (c * z).sum() / (z * z).sum()
    torch.testing.assert_close(without_confidence(c, z), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(without_confidence(-c, z), -c, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_and_zeros(dtype: torch.dtype) -> None:
    z, c = torch.zeros(3, 4, dtype=dtype), torch.full((3, 4), 5e4, dtype=dtype)
    assert torch.equal(without_confidence(c, z), c)
    z[0] = 300.0
    changed = without_confidence(-c, z)
    assert changed.dtype == dtype
    assert changed[0].tolist() == [0.0] * 4
    assert torch.equal(changed[1:], -c[1:])


def test_weights_and_state_are_those_of_the_plain_objective_at_a_fixed_radius() -> None:
    """Only the slopes differ: with a rule that never moves, both runs end with the same weights."""
    ends = []
    for objective in (CalibratedLoss(), SquaredGap()):
        model = underconfident()
        rule = LogAdam(lr=1e-30, prior=None, burn_in=0)
        opt = SAM(
            torch.optim.SGD(model.parameters(), lr=0.1),
            LearnedRadius(0.1, objective=objective, rule=rule, interval=1),
            model=model,
        )
        for t in range(3):
            opt.step(closure_on(model, batch(t)), closure_on(model, batch(20)))
        ends.append(weights_of(model))
    assert same_bits(*ends)


LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], bool]] = {  # and whether it is a cross-entropy of classes
    "mean": (nn.functional.cross_entropy, True),
    "sum": (lambda z, y: 64 * nn.functional.cross_entropy(z, y, reduction="sum"), True),
    "weighted": (lambda z, y: nn.functional.cross_entropy(z, y, weight=torch.arange(1.0, 6.0, dtype=z.dtype)), True),
    "plus a constant": (lambda z, y: nn.functional.cross_entropy(z, y) + 3, True),
    "nll": (lambda z, y: nn.functional.nll_loss(z.log_softmax(-1), y), True),
    "smoothed": (lambda z, y: nn.functional.cross_entropy(z, y, label_smoothing=0.2), False),
    "squares": (lambda z, y: (z - nn.functional.one_hot(y, 5)).square().mean(), False),
    "each class": (
        lambda z, y: nn.functional.binary_cross_entropy_with_logits(z, nn.functional.one_hot(y, 5).to(z.dtype)),
        False,
    ),
    "constant": (lambda z, y: 0 * z.sum(), False),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_random_labels(name: str, dtype: torch.dtype) -> None:
    """The gradient of the mean over all labels minus that of the given ones; 0 for losses of another form."""
    loss, known = LOSSES[name]
    z = (3 * torch.randn(12, 5, generator=seeded(4))).to(dtype)
    y = torch.arange(12) % 5

    def cotangent(y: Tensor) -> Tensor:
        outputs = z.clone().requires_grad_()
        with torch.autocast("cpu", enabled=False):
            loss(outputs.to(torch.promote_types(dtype, torch.float32)), y).backward()
        assert outputs.grad is not None
        return outputs.grad

    given = cotangent(y)
    found = random_labels(given, z)
    if not known:
        assert not found.any()
        return
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    if name == "weighted":  # the weights of the labels are those of the samples here
        assert not found.isnan().any()
        return
    every = torch.stack([cotangent(torch.full_like(y, k)) for k in range(5)]).to(found.dtype).mean(0)
    torch.testing.assert_close(found, every - given.to(found.dtype), rtol=0.02, atol=0.01 * float(found.abs().max()))


def test_confident_samples_have_a_weight_too() -> None:
    z = torch.tensor([[30.0, 0.0, -5.0], [0.0, 40.0, 0.0]], requires_grad=True)  # p = 1 but for 1e-13
    nn.functional.cross_entropy(z, torch.tensor([0, 0])).backward()
    assert z.grad is not None
    expected = torch.tensor([[1 / 3, -1 / 6, -1 / 6]]).repeat(2, 1)
    torch.testing.assert_close(random_labels(z.grad, z), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("scale", [None, 1024.0])
def test_the_gain_is_that_of_the_loss(parts: int, scale: float | None) -> None:
    """Of all micro-batches together, and without the scale of a gradient scaler."""
    model = network()
    x, y = batch(20)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), LearnedRadius(0.1, interval=1))
    scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
    pairs = list(zip(x.chunk(parts), y.chunk(parts), strict=True))
    held_out = accumulated(
        lambda pair: nn.functional.cross_entropy(model(pair[0]), pair[1]), pairs, opt, grad_scaler=scaler
    )
    given: list[Any] = []
    update = opt.radius.update
    opt.radius.update = lambda evidence: (given.append(evidence), update(evidence))  # type: ignore[method-assign, return-value, assignment]
    with torch.no_grad():
        z = model(x)
        rise = z.logsumexp(-1).mean() - z.mean() - nn.functional.cross_entropy(z, y)

    def closure() -> Tensor:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        (loss if scaler is None else scaler.scale(loss)).backward()
        return loss

    opt.step(closure, held_out, grad_scaler=scaler)
    found = next(evidence.gain for evidence in given if evidence.gain is not None)
    assert float(found) == pytest.approx(float(rise), rel=1e-6)
