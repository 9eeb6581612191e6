"""`LearnedRadius(until=)`: the radius is learned for some steps, and then stays without validation passes."""

from __future__ import annotations

import pytest
import torch

from letsam import SAM, Diagonal, LearnedRadius, LookSAM, SquaredGap
from oracle.problems import batch, closure_on, network, same_bits, weights_of


def run(radius: LearnedRadius, steps: int, optimizer: type = SAM, **options: object) -> tuple[list[float], list[int]]:
    """The radii of the steps, and the steps with a validation pass."""
    model = network()
    opt = optimizer(torch.optim.SGD(model.parameters(), lr=0.1), rho=radius, **options)
    radii, validated = [], []
    for i in range(steps):

        def validation(i: int = i) -> torch.Tensor:
            validated.append(i)
            return closure_on(model, batch(100 + i))()

        opt.step(closure_on(model, batch(i)), validation)
        radii.append(opt.metrics["rho"].item())
    return radii, validated


def test_the_radius_is_learned_and_then_stays() -> None:
    endless, every = run(LearnedRadius(0.05, interval=1), 20)
    until, validated = run(LearnedRadius(0.05, interval=1, until=10), 20)
    assert until[:10] == endless[:10]
    assert until[10:] == [until[9]] * 10
    assert endless[10:] != until[10:]
    assert validated == list(range(10))
    assert every == list(range(20))


def test_the_same_batch_and_another_estimator() -> None:
    def radius(until: int | None) -> LearnedRadius:
        return LearnedRadius.paper(0.05, until=until)

    until, validated = run(radius(7), 14)
    assert validated == list(range(7))
    assert until[:8] == run(radius(None), 14)[0][:8]  # what step 6 has learned is used from step 7 on
    assert len(set(until[7:])) == 1
    assert radius(7).until == 7
    assert isinstance(radius(7).objective, SquaredGap)
    assert isinstance(radius(7).hypergradient, Diagonal)


def test_steps_after_it_are_those_of_the_fixed_radius() -> None:
    model, other = network(), network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LearnedRadius(0.05, until=5))
    for i in range(5):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(100 + i)))
    other.load_state_dict(model.state_dict())
    fixed = SAM(torch.optim.SGD(other.parameters(), lr=0.1), rho=opt.rho.item())
    calls: list[int] = []
    for i in range(5, 110):
        opt.step(closure_on(model, batch(i)), lambda: calls.append(1))
        fixed.step(closure_on(other, batch(i)))
        if i > 99:
            assert opt.rho == fixed.rho
    assert not calls
    assert same_bits(weights_of(model), weights_of(other))


def test_a_variant_with_waiting_steps() -> None:
    radii, validated = run(LearnedRadius(0.05, interval=1, until=8), 20, LookSAM)
    assert validated
    assert max(validated) < 8
    assert len(set(radii[8:])) == 1


def test_it_is_resumed_where_it_was() -> None:
    model, other = network(), network()
    opts = [
        SAM(torch.optim.SGD(m.parameters(), lr=0.1), rho=LearnedRadius(0.05, until=6, interval=1))
        for m in (model, other)
    ]
    for i in range(12):
        if i == 4:
            other.load_state_dict(model.state_dict())
            opts[1].load_state_dict(opts[0].state_dict())
        opts[0].step(closure_on(model, batch(i)), closure_on(model, batch(100 + i)))
        if i >= 4:
            opts[1].step(closure_on(other, batch(i)), closure_on(other, batch(100 + i)))
            assert opts[0].rho == opts[1].rho


@pytest.mark.parametrize("until", [0, -1, 1.5, True, "3"])
def test_bad_values(until: object) -> None:
    with pytest.raises((ValueError, TypeError), match="`until` must be"):
        LearnedRadius(0.05, until=until)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="`until` is fixed"):
        LearnedRadius(0.05, until=3).until = 4
