"""Functional SAM: the gradient at the outputs is that of the weights, in every pass at perturbed weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import letsam
from letsam import SAM, FiniteDifference, FunctionalSAM, LearnedRadius
from oracle import maths
from oracle.problems import batch, closure_on, flat, network, same_bits, weights_of


def test_a_loss_that_is_linear_in_the_outputs_is_sam() -> None:
    ends = []
    for kind in (SAM, FunctionalSAM):
        model = network()
        opt = kind(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.4)
        for i in range(3):
            inputs = batch(i)[0]

            def closure(model: nn.Module = model, opt: SAM = opt, inputs: torch.Tensor = inputs) -> torch.Tensor:
                opt.zero_grad()
                loss = (model(inputs) * torch.arange(3.0)).mean()
                loss.backward()
                return loss

            opt.step(closure)
        ends.append(weights_of(model))
    assert same_bits(*ends)


def test_micro_batches_have_their_own_gradients_at_the_outputs() -> None:
    model, whole = network(), network()
    data = batch(0)
    half = len(data[1]) // 2
    micro = [(data[0][:half], data[1][:half]), (data[0][half : 2 * half], data[1][half : 2 * half])]
    opt = FunctionalSAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.4)
    opt.step(letsam.accumulated(lambda part: nn.functional.cross_entropy(model(part[0]), part[1]), micro, opt))
    together = (data[0][: 2 * half], data[1][: 2 * half])
    one = FunctionalSAM(torch.optim.SGD(whole.parameters(), lr=0.1), rho=0.4)
    one.step(closure_on(whole, together))
    torch.testing.assert_close(flat(model.parameters()), flat(whole.parameters()), rtol=1e-9, atol=1e-12)
    theta = flat(network().parameters())
    g = maths.gradient(network(), theta, together)
    functional = maths.functional_gradient(network(), theta, theta + 0.4 * g / g.norm(), together)
    torch.testing.assert_close(flat(whole.parameters()), theta - 0.1 * functional, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("estimator", [None, FiniteDifference()])
def test_the_radius_is_learned(estimator: FiniteDifference | None) -> None:
    model = network()
    radius = LearnedRadius(0.1, hypergradient=estimator, interval=1)
    opt = FunctionalSAM(torch.optim.SGD(model.parameters(), lr=0.1), radius)
    for i in range(5):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
    assert opt.rho != 0.1
    assert opt.metrics["skipped_steps"] == 0


def test_what_it_cannot_do() -> None:
    weight = nn.Parameter(torch.ones(3))
    opt = FunctionalSAM(torch.optim.SGD([weight], lr=0.1), rho=0.1)

    def without_module() -> torch.Tensor:
        opt.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    with pytest.raises(ValueError, match=r"^`closure` must call a module with parameters, whose outputs"):
        opt.step(without_module)
    assert weight.equal(torch.ones(3))

    with pytest.raises(ValueError, match=r"`perturbation` is FunctionalSAM.* needs step\(closure\)"):
        opt.ascent_step()

    model = nn.Linear(2, 2)
    before = copy.deepcopy(model.state_dict())
    opt = FunctionalSAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.1)
    sizes = iter((4, 3))

    def other_shape() -> torch.Tensor:
        opt.zero_grad()
        loss = model(torch.randn(next(sizes), 2)).square().mean()
        loss.backward()
        return loss

    with pytest.raises(ValueError, match=r"the same outputs of the network in all passes.*\(3, 2\).*\(4, 2\)"):
        opt.step(other_shape)
    assert all(model.state_dict()[name].equal(value) for name, value in before.items())
