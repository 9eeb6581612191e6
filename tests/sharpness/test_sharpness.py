"""Measures of flatness against closed forms and a full Hessian by double backward; and they leave no trace."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from letsam.perturbations import ASAMPerturbation
from letsam.perturbations.multistepsam import MultiStepSAMPerturbation
from letsam.perturbations.samon import SAMONPerturbation
from letsam.perturbations.subbatchsam import SubBatchSAMPerturbation
from letsam.sharpness import ascent_sharpness, hessian_spectrum, landscape_slice
from oracle import maths
from oracle.problems import batch, flat, generator, network, same_bits

cross_entropy = nn.functional.cross_entropy
needs_library = pytest.mark.skipif(
    not importlib.util.find_spec("hessian_eigenthings"), reason="hessian-eigenthings is not installed"
)

UNEVEN = [batch(0, 5), batch(1, 12), batch(2, 1)]  # means over batches must be weighted by their sizes
TOGETHER = (torch.cat([x for x, _ in UNEVEN]), torch.cat([y for _, y in UNEVEN]))


class Quadratic(nn.Module):
    """theta^T H theta / 2 with a given H; inputs play no part."""

    def __init__(self, hessian: Tensor) -> None:
        super().__init__()
        self.hessian = hessian
        self.theta = nn.Parameter(torch.arange(1.0, len(hessian) + 1, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return (self.theta @ self.hessian @ self.theta / 2).expand(len(inputs))


def mean(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.mean()


def quadratic(size: int = 8) -> Quadratic:
    root = torch.randn(size, size, generator=generator(0), dtype=torch.float64)
    return Quadratic(root @ root.T / size - 0.3 * torch.eye(size, dtype=torch.float64))


ANY = [(torch.zeros(2, 1), torch.zeros(2))]


# --- ascent sharpness ---------------------------------------------------------------------------------------------


def test_ascent_on_a_quadratic_is_the_closed_form() -> None:
    model = quadratic()
    theta, hessian = model.theta.detach(), model.hessian
    g = hessian @ theta
    e = g / g.norm()
    expected = [float(rho * e @ g + rho**2 / 2 * e @ hessian @ e) for rho in (0.1, 2.0)]
    assert ascent_sharpness(model, mean, ANY, [0.1, 2.0]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["sam", "asam"])
def test_ascent_over_uneven_batches_is_that_of_all_samples(name: str) -> None:
    model = network()
    theta = flat(model.parameters())
    e = maths.DIRECTIONS[name.upper()](theta, maths.gradient(model, theta, TOGETHER))
    expected = maths.loss(model, theta + 0.3 * e, TOGETHER) - maths.loss(model, theta, TOGETHER)
    assert ascent_sharpness(model, cross_entropy, UNEVEN, 0.3, name) == pytest.approx(expected.item(), rel=1e-10)


def test_ascent_takes_a_perturbation_that_needs_names() -> None:
    model = network()
    by_name = ascent_sharpness(model, cross_entropy, UNEVEN, 0.3, ASAMPerturbation("weights"))
    assert by_name == ascent_sharpness(model, cross_entropy, UNEVEN, 0.3, ASAMPerturbation("matrices"))
    assert by_name != ascent_sharpness(model, cross_entropy, UNEVEN, 0.3, "asam")


def test_ascent_moves_what_the_perturbation_perturbs_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)).double()
    opt = letsam.SAMON(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5, model=model)
    seen: list[float] = []

    def closure() -> Tensor:
        loss = cross_entropy(model(TOGETHER[0]), TOGETHER[1])
        loss.backward()
        seen.append(loss.item())
        return loss

    measured = ascent_sharpness(model, cross_entropy, UNEVEN, 0.5, SAMONPerturbation())
    opt.step(closure)
    assert measured == pytest.approx(seen[1] - seen[0], rel=1e-10)
    with pytest.raises(ValueError, match='`model` must have gradients in weights of perturb="norm", got none'):
        ascent_sharpness(
            model.requires_grad_(False).append(nn.Linear(3, 3).double()),
            cross_entropy,
            UNEVEN,
            0.5,
            SAMONPerturbation(),
        )


def test_ascent_where_there_is_no_slope_is_zero() -> None:
    model = quadratic()
    nn.init.zeros_(model.theta)
    assert ascent_sharpness(model, mean, ANY, 0.5) == 0


# --- landscape ----------------------------------------------------------------------------------------------------


def test_slice_of_a_quadratic_is_a_parabola_along_filters_as_long_as_the_weights() -> None:
    model = nn.Linear(3, 4, bias=True, dtype=torch.float64)
    inputs = torch.eye(3, dtype=torch.float64)
    with torch.no_grad():  # mean of squares: each row of the weight on its own, the bias left out of every direction
        lengths = model.weight.square().sum()
        model.bias.zero_()
    found = landscape_slice(model, lambda y, _: y.square().sum(1).mean() * 3, [(inputs, inputs)], points=5, radius=0.5)
    assert found.offsets.tolist() == [-0.5, -0.25, 0.0, 0.25, 0.5]
    assert found.losses[2].item() == pytest.approx(lengths.item(), rel=1e-12)
    second_difference = found.losses[0] - 2 * found.losses[2] + found.losses[4]
    assert second_difference.item() == pytest.approx(2 * 0.25 * lengths.item(), rel=1e-10)  # ||d|| = ||theta||, by rows


def test_every_filter_is_as_long_as_its_weights_and_a_zero_filter_stays() -> None:
    model = nn.Conv2d(2, 3, 3, dtype=torch.float64)
    with torch.no_grad():
        model.weight[1].zero_()
    seen: list[Tensor] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(model.weight.detach().clone())
        assert same_bits(model.bias.detach(), bias)
        return outputs.mean()

    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    landscape_slice(model, loss, [(torch.ones(1, 2, 4, 4, dtype=torch.float64), torch.zeros(1))], points=3)
    moved = (seen[2] - weight).flatten(1).norm(dim=1)
    assert moved.tolist() == pytest.approx(weight.flatten(1).norm(dim=1).tolist(), rel=1e-12)
    assert moved[1] == 0
    assert same_bits(seen[1], weight)


def test_two_dimensions_contain_the_slice_of_one_and_seeds_matter() -> None:
    model = network()
    plane = landscape_slice(model, cross_entropy, UNEVEN, dimensions=2, points=5, seed=3)
    line = landscape_slice(model, cross_entropy, UNEVEN, points=5, seed=3)
    assert plane.losses.shape == (5, 5)
    assert same_bits(plane.losses[:, 2], line.losses)
    assert not torch.equal(plane.losses[2], line.losses)
    assert same_bits(line.losses, landscape_slice(model, cross_entropy, UNEVEN, points=5, seed=3).losses)
    assert not torch.equal(line.losses, landscape_slice(model, cross_entropy, UNEVEN, points=5, seed=4).losses)


def test_the_global_generator_is_left_alone() -> None:
    model = network()
    before = torch.get_rng_state()
    landscape_slice(model, cross_entropy, UNEVEN, points=2)
    assert torch.equal(before, torch.get_rng_state())


# --- Hessian ------------------------------------------------------------------------------------------------------


@needs_library
def test_spectrum_of_a_quadratic() -> None:
    model = quadratic()
    true = torch.linalg.eigvalsh(model.hessian).flip(0)
    assert true[-1] < 0  # largest algebraically, not in magnitude
    found = hessian_spectrum(model, mean, ANY, top=3)
    assert found.eigenvalues == pytest.approx(true[:3].tolist(), abs=1e-8)
    assert max(found.residuals) < 1e-6
    assert found.trace == pytest.approx(true.sum().item(), rel=1e-8)


@needs_library
def test_spectrum_of_a_network_over_uneven_batches_is_that_of_the_full_hessian() -> None:
    model = network()
    theta = flat(model.parameters())
    full = torch.autograd.functional.hessian(lambda t: maths.loss(model, t, TOGETHER), theta)
    assert isinstance(full, Tensor)
    found = hessian_spectrum(model, cross_entropy, UNEVEN, top=4, iterations=len(theta), trace_products=200)
    assert found.eigenvalues == pytest.approx(torch.linalg.eigvalsh(full).flip(0)[:4].tolist(), rel=1e-6)
    assert found.trace == pytest.approx(full.trace().item(), rel=1e-6)


@needs_library
def test_few_products_give_an_estimate_with_an_honest_error_and_a_seed() -> None:
    model = network()
    full = torch.autograd.functional.hessian(lambda t: maths.loss(model, t, TOGETHER), flat(model.parameters()))
    assert isinstance(full, Tensor)
    found = hessian_spectrum(model, cross_entropy, UNEVEN, top=1, iterations=5, trace_products=15, seed=1)
    assert found == hessian_spectrum(model, cross_entropy, UNEVEN, top=1, iterations=5, trace_products=15, seed=1)
    assert found.trace_error > 0
    assert abs(found.trace - full.trace().item()) < 4 * found.trace_error


@needs_library
def test_frozen_and_unused_weights_do_not_count() -> None:
    model = network()
    bare = hessian_spectrum(model, cross_entropy, UNEVEN, top=1)
    model.register_parameter("unused", nn.Parameter(torch.ones(3, dtype=torch.float64)))
    assert hessian_spectrum(model, cross_entropy, UNEVEN, top=1) == bare
    for p in model[0].parameters():
        p.requires_grad_(False)
    last = nn.Sequential(model[2])
    with torch.no_grad():
        inner = [(model[:2](x), y) for x, y in UNEVEN]
    assert hessian_spectrum(model, cross_entropy, UNEVEN, top=1) == hessian_spectrum(last, cross_entropy, inner, top=1)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.inward(x.unsqueeze(1).expand(-1, 3, -1).unsqueeze(1)).chunk(3, dim=-1)
        return self.outward(nn.functional.scaled_dot_product_attention(q, k, v).mean((1, 2)))


@needs_library
def test_attention_is_differentiated_twice() -> None:
    assert hessian_spectrum(Attention(), cross_entropy, [batch(0, dtype=torch.float32)], top=1).eigenvalues[0] > 0


def test_a_missing_library_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hessian_eigenthings", None)
    with pytest.raises(ImportError, match=r'pip install "letsam\[sharpness\]"'):
        hessian_spectrum(network(), cross_entropy, UNEVEN)


# --- no trace left ------------------------------------------------------------------------------------------------


class Restless(nn.Module):
    """Batch normalization, a frozen weight, and buffers that move in every pass, one of them by assignment."""

    counter: Tensor
    latest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)).double()
        self.body[3].bias.requires_grad_(False)
        self.register_buffer("counter", torch.zeros(()))
        self.register_buffer("latest", torch.zeros(()))
        self.body[1].eval()  # a mode of its own

    def forward(self, x: Tensor) -> Tensor:
        self.counter += 1
        self.latest = self.counter.clone()
        return self.body(x)


MEASURES: dict[str, Callable[..., Any]] = {
    "ascent": lambda model, loss: ascent_sharpness(model, loss, UNEVEN, [0.1, 0.5]),
    "landscape": lambda model, loss: landscape_slice(model, loss, UNEVEN, points=3),
    "hessian": lambda model, loss: hessian_spectrum(model, loss, UNEVEN, top=1, iterations=3, trace_products=6),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[needs_library] if n == "hessian" else []) for n in MEASURES])
@pytest.mark.parametrize("fails_at", [None, 1, 5])
def test_the_model_is_put_back(name: str, fails_at: int | None) -> None:
    torch.manual_seed(0)
    model = Restless()
    cross_entropy(model(UNEVEN[1][0]), UNEVEN[1][1]).backward()
    before = [(p.detach().clone(), None if p.grad is None else p.grad.clone()) for p in model.parameters()]
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    identities = {name: id(b) for name, b in model.named_buffers()}
    modes = [m.training for m in model.modules()]
    calls = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        assert not any(m.training for m in model.modules())
        if calls == fails_at:
            raise RuntimeError("the disk is full")
        return cross_entropy(outputs, targets)

    if fails_at:
        with pytest.raises(RuntimeError, match="the disk is full"):
            MEASURES[name](model, loss)
    else:
        MEASURES[name](model, loss)
        assert calls > 5
    for (weight, gradient), p in zip(before, model.parameters(), strict=True):
        assert same_bits(p.detach(), weight)
        assert same_bits(p.grad, gradient)
    assert same_bits({name: b.clone() for name, b in model.named_buffers()}, buffers)
    assert {name: id(b) for name, b in model.named_buffers()} == identities
    assert [m.training for m in model.modules()] == modes


# --- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda m: ascent_sharpness(m, cross_entropy, UNEVEN, -1.0), ValueError, "`rho` must be > 0, got -1.0"),
        (lambda m: ascent_sharpness(m, cross_entropy, UNEVEN, []), ValueError, "`rho` must be a number > 0 or several"),
        (lambda m: ascent_sharpness(m, cross_entropy, UNEVEN, "0.1"), TypeError, "`rho` must be a number"),
        (lambda m: ascent_sharpness(m, cross_entropy, UNEVEN, 1.0, "sgd"), ValueError, "`perturbation` must be one of"),
        (
            lambda m: ascent_sharpness(m, cross_entropy, UNEVEN, 1.0, MultiStepSAMPerturbation(5)),
            ValueError,
            "`perturbation` must climb once, .*, got MultiStepSAMPerturbation with ascents = 5",
        ),
        (
            lambda m: ascent_sharpness(m, cross_entropy, UNEVEN, 1.0, SubBatchSAMPerturbation()),
            ValueError,
            "`perturbation` must climb once, .*, got SubBatchSAMPerturbation with sub_batches = 4",
        ),
        (lambda m: ascent_sharpness(m, cross_entropy, [], 1.0), ValueError, "`batches` must hold at least one sample"),
        (lambda m: ascent_sharpness(m, cross_entropy, [1, 2], 1.0), TypeError, "`batches` must hold .inputs, targets."),
        (lambda m: ascent_sharpness(m, lambda y, t: y, UNEVEN, 1.0), ValueError, "`loss_fn` must return a scalar"),
        (lambda m: ascent_sharpness(m, lambda y, t: 1.0, UNEVEN, 1.0), TypeError, "`loss_fn` must return the loss"),
        (lambda m: ascent_sharpness(nn.ReLU(), mean, UNEVEN, 1.0), ValueError, "`model` must have at least one"),
        (lambda m: landscape_slice(m, cross_entropy, UNEVEN, dimensions=3), ValueError, "`dimensions` must be 1 or 2"),
        (lambda m: landscape_slice(m, cross_entropy, UNEVEN, points=1), ValueError, "`points` must be a whole number"),
        (lambda m: landscape_slice(m, cross_entropy, UNEVEN, radius=0), ValueError, "`radius` must be > 0"),
        (lambda m: hessian_spectrum(m, cross_entropy, UNEVEN, top=0), ValueError, "`top` must be a whole number >= 1"),
        (lambda m: hessian_spectrum(m, mean, UNEVEN, top=9, iterations=5), ValueError, "`iterations` must be .* >= 9"),
        pytest.param(
            lambda m: hessian_spectrum(m, cross_entropy, UNEVEN, top=999, iterations=999),
            ValueError,
            "`top` must be at most the number of trainable weights, 51, got 999",
            marks=needs_library,
        ),
    ],
)
def test_errors_name_the_argument(call: Callable[[nn.Module], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(network())
