"""The preconditioned climb: SAM where there is nothing to scale by, and what the scale is where there is."""

from __future__ import annotations

import copy

import pytest
import torch

from letsam import SAM, PreconditionedSAM
from oracle.problems import BASES, batch, closure_on, flat, network, same_bits, weights_of


@pytest.mark.parametrize("base", ["sgd", "momentum"])
def test_a_preconditioned_climb_is_sam_without_a_second_moment(base: str) -> None:
    models = [network(), network()]
    for model, kind in zip(models, (SAM, PreconditionedSAM), strict=True):
        opt = kind(BASES[base](model.parameters()), rho=0.3)
        for i in range(4):
            opt.step(closure_on(model, batch(i)))
    assert same_bits(weights_of(models[0]), weights_of(models[1]))


def test_a_strong_damping_makes_a_preconditioned_climb_sam() -> None:
    ends = []
    for kind, options in ((SAM, {}), (PreconditionedSAM, {"delta": 1e6}), (PreconditionedSAM, {"delta": 1e-3})):
        model = network()
        opt = kind(BASES["adam"](model.parameters()), rho=0.3, **options)
        for i in range(4):
            opt.step(closure_on(model, batch(i)))
        ends.append(flat(model.parameters()))
    assert ends[0].allclose(ends[1], rtol=1e-4)
    assert not ends[0].allclose(ends[2], rtol=1e-2)


def test_weights_without_a_second_moment_beside_others() -> None:
    """Two base optimizers: the weights of one climb as if their roots were the root mean square."""
    model = network()
    first, *others = model.parameters()
    bases = [torch.optim.SGD([first], lr=0.1), torch.optim.Adam(others, lr=0.01)]
    opt = PreconditionedSAM(bases, rho=0.3)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def closure() -> torch.Tensor:
        at = flat(model.parameters())
        loss = closure_on(model, batch(len(seen) // 2))()
        seen.append((at, flat([p.grad for p in model.parameters()])))
        return loss

    opt.step(closure)
    v = [bases[1].state[p]["exp_avg_sq"].clone() for p in others]
    opt.step(closure)
    rms = flat(v).mean().sqrt()
    roots = torch.cat([rms.expand(first.numel()), flat(v).sqrt()])
    direction = seen[2][1] / (roots + 0.1 * rms)
    moved = seen[3][0] - seen[2][0]
    torch.testing.assert_close(moved, 0.3 * direction / direction.norm(), rtol=1e-6, atol=1e-9)


def test_a_second_moment_of_zero_and_copies() -> None:
    model = network()
    base = BASES["adam"](model.parameters())
    opt = PreconditionedSAM(base, rho=0.3)
    opt.step(closure_on(model, batch(0)))
    for state in base.state.values():
        state["exp_avg_sq"].zero_()
    opt.step(closure_on(model, batch(1)))
    assert opt.metrics["skipped_steps"] == 0
    assert not copy.deepcopy(opt.perturbation)._state  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="`delta` must be"):
        PreconditionedSAM(base, rho=0.3, delta=0.0)
