"""letsam.selected: which samples the second pass descends on, against a reference by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import letsam
from learned_radius import learned_radius
from oracle import maths
from oracle.problems import batch, closure_on, descend, flat, network

RHO, LR = 0.3, 0.1


def losses_of(model: nn.Module, seed: int, log: list[int] | None = None):
    inputs, targets = batch(seed)

    def losses_on(chosen: Tensor | None) -> Tensor:
        at = slice(None) if chosen is None else chosen
        if log is not None:
            log.append(len(inputs[at]))
        return nn.functional.cross_entropy(model(inputs[at]), targets[at], reduction="none")

    return losses_on


def part_of(seed: int, model: nn.Module, theta: Tensor, eps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The samples whose losses rise most from theta to theta + eps."""
    inputs, targets = batch(seed)
    rise = [
        maths.loss(model, theta + eps, (inputs[i : i + 1], targets[i : i + 1]))
        - maths.loss(model, theta, (inputs[i : i + 1], targets[i : i + 1]))
        for i in range(len(targets))
    ]
    worst = sorted(range(len(rise)), key=lambda i: -rise[i].item())[:count]
    return inputs[worst], targets[worst]


def test_the_second_pass_has_the_samples_that_the_perturbation_hurts() -> None:
    """arXiv:2110.03141, section 3.2, 12 samples, a quarter of them; all samples would go elsewhere."""
    model, reference = network(), network()
    opt = letsam.SAM(torch.optim.SGD(model.parameters(), lr=LR), RHO)
    theta = whole = flat(reference.parameters())
    for t in range(5):
        log: list[int] = []
        opt.step(letsam.selected(losses_of(model, t, log), opt, share=0.25))
        assert log == [12, 12, 3]
        g = maths.gradient(reference, theta, batch(t))
        eps = RHO * g / g.norm()
        theta = theta - LR * maths.gradient(reference, theta + eps, part_of(t, reference, theta, eps, 3))
        g = maths.gradient(reference, whole, batch(t))
        whole = whole - LR * maths.gradient(reference, whole + RHO * g / g.norm(), batch(t))
    torch.testing.assert_close(flat(model.parameters()), theta, rtol=1e-10, atol=1e-12)
    assert (theta - whole).norm() > 1e-2


def test_all_of_the_samples_are_the_batch() -> None:
    models = network(), network()
    opts = [letsam.SAM(torch.optim.SGD(model.parameters(), lr=LR), RHO) for model in models]
    for t in range(3):
        opts[0].step(letsam.selected(losses_of(models[0], t), opts[0], share=1.0))
        opts[1].step(closure_on(models[1], batch(t)))
    torch.testing.assert_close(flat(models[0].parameters()), flat(models[1].parameters()), rtol=1e-12, atol=1e-14)


def test_the_hypergradient_of_the_chosen_samples() -> None:
    """The choice is held fixed, as eps_hat is: central differences of the one-step objective on the same samples."""
    model = network()
    base = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    descend(model, base, 3)
    start = maths.State(model, base).copy()
    radius = learned_radius(RHO, hypergradient="finite_difference", interval=1, length_invariant=False)
    opt = letsam.SAM(base, radius)
    g = maths.gradient(start.model, start.theta, batch(3))
    chosen = part_of(3, start.model, start.theta, RHO * g / g.norm(), 6)
    step = maths.OneStep(start, g / g.norm(), chosen, "validation_loss", chosen, batch(20))
    for t in (3, 4):
        opt.step(letsam.selected(losses_of(model, t), opt), closure_on(model, batch(20)))
    assert opt.metrics["hypergradient"].item() == pytest.approx(step.central_difference(RHO), rel=1e-6)


def test_arguments() -> None:
    model = network()
    opt = letsam.SAM(torch.optim.SGD(model.parameters(), lr=LR), RHO)
    for share in (0, -1.0, 1.5):
        with pytest.raises(ValueError, match=r"^`share` must be > 0"):
            letsam.selected(losses_of(model, 0), opt, share=share)
    with pytest.raises(TypeError, match=r"^`optimizer` must be a torch.optim.Optimizer, got 'opt'$"):
        letsam.selected(losses_of(model, 0), "opt")  # pyright: ignore
    closure = letsam.selected(lambda chosen: losses_of(model, 0)(chosen).mean(), opt)
    with pytest.raises(ValueError, match=r"^`losses_on` must return one loss for each sample, got shape \(\)$"):
        closure()


def test_a_check_leaves_the_closure_as_new() -> None:
    model, log = network(), list[int]()
    opt = letsam.SAM(torch.optim.SGD(model.parameters(), lr=LR), RHO)
    closure = letsam.selected(losses_of(model, 0, log), opt, share=0.25)
    assert letsam.check(opt, closure) == []
    assert set(log) == {12}
    log.clear()
    opt.step(closure)
    assert log == [12, 12, 3]
