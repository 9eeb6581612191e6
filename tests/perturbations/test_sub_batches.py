"""m-SAM in one process: micro-batches that climb apart (`tests/contract/test_variants.py` has the mathematics)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from learned_radius import learned_radius
from letsam import (
    AESAM,
    ASAM,
    FSAM,
    GSAM,
    SAM,
    LearnedRadius,
    LookSAM,
    LossBudgetRadius,
    MultiStepSAM,
    SubBatchSAM,
    accumulated,
)
from letsam.results import Run
from letsam.tasks import load_task
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import Method
from oracle import maths
from oracle.by_hand import perturbed_gradient, pieces
from oracle.problems import BASES, Batch, batch, closure_on, flat, loss_on, network, same_bits, snapshot, weights_of
from oracle.variants import Row


def sub_batches(data: Batch, count: int = 3) -> tuple[list[Batch], list[float]]:
    """Of unequal sizes, and their weights."""
    return [piece for _, piece in pieces(data, count)], [share for share, _ in pieces(data, count)]


def in_parts(model: nn.Module, data: Batch, opt: torch.optim.Optimizer, seen: list[int] | None = None) -> Any:
    def loss_of(piece: Batch) -> Tensor:
        if seen is not None:
            seen.append(len(piece[1]))
        return loss_on(model, piece)

    batches, weights = sub_batches(data)
    return accumulated(loss_of, batches, opt, weights=weights)


DIRECTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"SAM": maths.sam_direction, "ASAM": maths.asam_direction}


@pytest.mark.parametrize("variant", [SAM, ASAM, GSAM])
def test_m_sharpness_of_any_perturbation(variant: Any) -> None:
    """GSAM descends with the sum of the g_0, too."""
    model = network()
    opt = variant(torch.optim.SGD(model.parameters(), lr=0.1), 0.2, m_sharpness=True)
    theta = flat(model.parameters())
    for t in range(4):
        opt.step(in_parts(model, batch(t), opt))
        gradients = [maths.gradient(model, theta, piece) for _, piece in pieces(batch(t), 3)]
        directions = [DIRECTIONS.get(variant.__name__, maths.sam_direction)(theta, g) for g in gradients]
        g = perturbed_gradient(Row(), model, theta, 0.2, directions, batch(t))
        if variant is GSAM:
            g0 = maths.gradient(model, theta, batch(t))
            g = g - 0.4 * (g0 - g * (g0 @ g) / (g @ g))
        theta = theta - 0.1 * g
        torch.testing.assert_close(flat(model.parameters()), theta, rtol=1e-10, atol=1e-12)


def test_the_diagonal_hypergradient_uses_the_mean_direction() -> None:
    """Z = -lr g_rho^2 (sum of w_i eps_hat_i), with w_i = 1 / number of parts."""
    model = network()
    radius = learned_radius(0.2, hypergradient="diagonal", length_invariant=False, training_batch="same", interval=1)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), radius, m_sharpness=True)
    theta = flat(model.parameters())
    opt.step(in_parts(model, batch(0), opt), closure_on(model, batch(50)))
    directions = [maths.sam_direction(theta, maths.gradient(model, theta, piece)) for _, piece in pieces(batch(0), 3)]
    g = perturbed_gradient(Row(), model, theta, 0.2, directions, batch(0))
    z = -0.1 * g.square() * torch.stack(directions).mean(0)
    slope = maths.gradient(model, theta - 0.1 * g, batch(50)) @ z
    torch.testing.assert_close(opt.metrics["hypergradient"], slope, rtol=1e-10, atol=0)


def test_several_ascents_in_each_part() -> None:
    model = network()
    opt = MultiStepSAM(torch.optim.SGD(model.parameters(), lr=0.1), 0.2, k=2, m_sharpness=True)
    theta, seen = flat(model.parameters()), list[int]()
    opt.step(in_parts(model, batch(0), opt, seen))
    directions = []
    for _, piece in pieces(batch(0), 3):
        at = theta
        for _ in range(2):
            g = maths.gradient(model, at, piece)
            at = at + 0.1 * g / g.norm()
        directions.append((at - theta) / 0.2)
    g = perturbed_gradient(Row(), model, theta, 0.2, directions, batch(0))
    torch.testing.assert_close(flat(model.parameters()), theta - 0.1 * g, rtol=1e-10, atol=1e-12)
    assert seen == [2, 2, 2, 4, 4, 4, 6, 6, 6]


@pytest.mark.parametrize(
    ("radius", "looks"),
    [
        (lambda: 0.1, [0, 0, 0, 0, 0, 0]),
        (lambda: LossBudgetRadius(0.1), [1, 1, 1, 1, 1, 1]),
        (
            lambda: learned_radius(0.1, interval=4, burn_in=0),
            [0, 0, 1, 1, 0, 0],
        ),  # Z is made, and used
    ],
    ids=["fixed", "budget", "learned"],
)
def test_the_whole_batch_is_looked_at_where_the_radius_asks(radius: Callable[[], Any], looks: list[int]) -> None:
    model = network()
    opt = SubBatchSAM(BASES["momentum"](model.parameters()), radius())
    for t, further in enumerate(looks):
        seen: list[int] = []
        opt.step(in_parts(model, batch(t), opt, seen), closure_on(model, batch(50)))
        assert seen == [2, 4, 6] * further + [2, 2, 4, 4, 6, 6]


def test_what_a_step_reports() -> None:
    """The loss of the whole batch at the weights, the mean length of the gradients; with and without a look."""
    for radius in (0.1, LossBudgetRadius(0.1)):
        model = network()
        opt = SubBatchSAM(torch.optim.SGD(model.parameters(), lr=0.1), radius)
        theta = flat(model.parameters())
        loss = opt.step(in_parts(model, batch(0), opt))
        torch.testing.assert_close(loss, maths.loss(model, theta, batch(0)).detach(), rtol=1e-12, atol=0)
        assert opt.metrics["training_loss"] == loss
        lengths = [w * maths.gradient(model, theta, piece).norm() for w, piece in pieces(batch(0), 3)]
        torch.testing.assert_close(opt.metrics["gradient_norm"], torch.stack(lengths).sum(), rtol=1e-12, atol=0)


def test_a_closure_without_parts_is_sam() -> None:
    ends = []
    for variant in (SAM, SubBatchSAM):
        model = network()
        opt = variant(BASES["momentum"](model.parameters()), LearnedRadius(0.1, interval=1))
        for t in range(4):
            opt.step(closure_on(model, batch(t)), closure_on(model, batch(50)))
        ends.append((weights_of(model), opt.rho))
    assert same_bits(ends[0], ends[1])


def test_without_m_sharpness_parts_make_no_difference() -> None:
    model, twin = network(), network()
    opt, twin_opt = (SAM(torch.optim.SGD(m.parameters(), lr=0.1), 0.1) for m in (model, twin))
    seen: list[int] = []
    opt.step(in_parts(model, batch(0), opt, seen))
    twin_opt.step(closure_on(twin, batch(0)))
    assert seen == [2, 4, 6] * 2
    torch.testing.assert_close(weights_of(model), weights_of(twin), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("radius", ["fixed", "learned", "budget"])
def test_masks_statistics_and_generator(radius: str) -> None:
    """Each part sees the mask of its first pass in all of its passes, and the step leaves what one pass would."""
    makers: dict[str, Callable[[], Any]] = {
        "fixed": lambda: 0.1,
        "learned": lambda: learned_radius(0.1, interval=1, hypergradient="finite_difference", training_batch="same"),
        "budget": lambda: LossBudgetRadius(0.1),
    }
    masks: list[tuple[int, Tensor]] = []

    class Noted(nn.Dropout):
        def forward(self, input: Tensor) -> Tensor:
            mask = super().forward(torch.ones_like(input))
            masks.append((len(input), mask.detach()))
            return input * mask

    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), Noted(), nn.Linear(8, 3)).double()
    plain = copy.deepcopy(model)
    opt = SubBatchSAM(torch.optim.SGD(model.parameters(), lr=0.1), makers[radius](), model=model)
    start = torch.get_rng_state()
    opt.step(in_parts(model, batch(0), opt), closure_on(model, batch(50)))
    end = torch.get_rng_state()
    by_size = {size: [m for n, m in masks if n == size] for size in (2, 4, 6)}
    assert all(torch.equal(mask, found[0]) for found in by_size.values() for mask in found)
    assert not torch.equal(by_size[2][0], by_size[4][0][:2])

    torch.set_rng_state(start)
    in_parts(plain, batch(0), torch.optim.SGD(plain.parameters(), lr=0.1))()
    assert torch.equal(torch.get_rng_state(), end)
    torch.testing.assert_close(list(model.buffers()), list(plain.buffers()), rtol=1e-12, atol=0)


def test_weights_that_some_parts_do_not_use() -> None:
    """Each descends with the gradients there are; in the last part, too."""
    weights = [nn.Parameter(torch.tensor([float(i + 1)])) for i in range(3)]
    opt = SubBatchSAM(torch.optim.SGD(weights, lr=0.1), 0.5)
    opt.step(accumulated(lambda i: weights[i].square().sum() + weights[2].square().sum(), [0, 1, 0], opt))
    assert all(w.grad is not None for w in weights)
    expected = [1.0, 2.0, 3.0]
    total = torch.zeros(3)
    for used in ((0, 2), (1, 2), (0, 2)):
        g = torch.zeros(3)
        for i in used:
            g[i] = 2 * expected[i]
        at = torch.tensor(expected) + 0.5 * g / g.norm()
        for i in used:
            total[i] += 2 * at[i] / 3
    found = torch.cat([w.detach() for w in weights])
    torch.testing.assert_close(found, torch.tensor(expected) - 0.1 * total)


@pytest.mark.parametrize("variant", [FSAM, LookSAM, AESAM])
def test_a_perturbation_that_remembers(variant: Any) -> None:
    model = network()
    opt = variant(BASES["momentum"](model.parameters()), 0.1, m_sharpness=True)
    before = snapshot(model, opt)
    with pytest.raises(
        ValueError, match="`m_sharpness` over micro-batches needs a perturbation that remembers nothing"
    ):
        opt.step(in_parts(model, batch(0), opt))
    assert same_bits(snapshot(model, opt), before)


@pytest.mark.parametrize("parts", [[], "two", [1, 2], 3])
def test_parts_that_are_none(parts: Any) -> None:
    model = network()
    opt = SubBatchSAM(torch.optim.SGD(model.parameters(), lr=0.1), 0.1)
    closure = closure_on(model, batch(0))
    closure.parts = parts  # pyright: ignore
    with pytest.raises(ValueError, match="`parts` of `closure` must hold at least one closure, got"):
        opt.step(closure)


def run(method: str, batch_size: int = 32, accumulate: int = 1) -> tuple[Training, Run]:
    task = load_task("digits", train_size=160)
    parsed = Method.parse(method)
    config = TrialConfig(
        task="digits", methods=(parsed,), seeds=(0,), epochs=2, batch_size=batch_size, accumulate=accumulate
    )
    training = Training(task, parsed, 0, config, make_fabric("cpu"))
    while not training.finished:
        training.advance()
    return training, training.result()


def test_in_a_trial() -> None:
    """Another method than SAM, as many samples a step; smaller sub-batches are another method again."""
    results = [run(name)[1] for name in ("sam:0.2", "subbatchsam:0.2", "lets-subbatchsam:0.2")]
    assert results[1].gradient_passes == results[0].gradient_passes
    assert results[2].gradient_passes > results[1].gradient_passes
    losses = {r.train_loss for r in results} | {run("subbatchsam:0.2", accumulate=2)[1].train_loss}
    assert len(losses) == 4
    assert run("sam:0.2", accumulate=2)[1].train_loss == pytest.approx(results[0].train_loss, rel=1e-3)


def test_a_batch_that_cannot_be_split() -> None:
    message = (
        r"`batch_size` must be a multiple of ranks x accumulate x the sub-batches of subbatchsam \(1 x 1 x 4\), got 30"
    )
    with pytest.raises(ValueError, match=message):
        run("subbatchsam", batch_size=30)
    with pytest.raises(ValueError, match=r"`batch_size` must be a multiple of ranks x accumulate \(1 x 4\), got 30"):
        run("sam", batch_size=30, accumulate=4)
