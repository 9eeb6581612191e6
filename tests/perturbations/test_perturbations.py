"""Where the second pass looks: length and direction of the perturbation, observed from inside the closure."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from letsam import ASAM, SAM, CosineRadius, LearnedRadius, SharpnessAware
from letsam.perturbations import ASAMPerturbation, SAMPerturbation
from oracle.problems import batch, closure_on, flat, network, normalised_network


def climb(model: nn.Module, opt: SharpnessAware, data: Any) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Weights, gradients there, and the perturbation of one step."""
    seen: list[list[Tensor]] = []
    gradients: list[list[Tensor]] = []

    def closure() -> Tensor:
        seen.append([p.detach().clone() for p in model.parameters()])
        loss = closure_on(model, data)()
        gradients.append([p.grad.clone() for p in model.parameters()])
        return loss

    opt.step(closure)
    assert len(seen) == 2
    return seen[0], gradients[0], [after - before for after, before in zip(seen[1], seen[0], strict=True)]


@pytest.mark.parametrize("rho", [1e-3, 0.05, 2.0])
def test_sam_climbs_rho_along_the_gradient(rho: float) -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=rho)
    for i in range(3):
        _, gradients, eps = climb(model, opt, batch(i))
        g = flat(gradients)
        assert flat(eps).norm().item() == pytest.approx(rho, rel=1e-10)
        torch.testing.assert_close(flat(eps), rho * g / g.norm(), rtol=1e-8, atol=1e-13)


SCALED = {
    "all": lambda name, p: True,
    "weights": lambda name, p: "weight" in name,
    "matrices": lambda name, p: p.ndim >= 2,
}


@pytest.mark.parametrize("eta", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("scale", SCALED)
def test_asam_climbs_in_units_of_the_weights(scale: str, eta: float) -> None:
    """eps = rho T^2 g / ||T g||, so ||T^-1 eps|| = rho, for every published T."""
    model = normalised_network()
    rho = 0.4
    opt = ASAM(torch.optim.SGD(model.named_parameters(), lr=0.1), rho=rho, scale=scale, eta=eta)
    for i in range(3):
        weights, gradients, eps = climb(model, opt, batch(i))
        names = [name for name, _ in model.named_parameters()]
        t = flat(
            w.abs() + eta if SCALED[scale](name, w) else torch.ones_like(w)
            for name, w in zip(names, weights, strict=True)
        )
        g = flat(gradients)
        assert (flat(eps) / t).norm().item() == pytest.approx(rho, rel=1e-10)
        torch.testing.assert_close(flat(eps), rho * t**2 * g / (t * g).norm(), rtol=1e-8, atol=1e-13)


def test_the_conventions_differ() -> None:
    def eps(scale: str) -> Tensor:
        model = normalised_network()
        opt = ASAM(torch.optim.SGD(model.named_parameters(), lr=0.1), rho=0.4, scale=scale)
        return flat(climb(model, opt, batch(0))[2])

    everything, named, matrices = (eps(scale) for scale in SCALED)
    assert (everything - named).norm() > 1e-3
    assert (named - matrices).norm() > 1e-3


def test_asam_without_a_scaled_tensor_is_sam() -> None:
    bias = nn.Parameter(torch.tensor([3.0, 4.0]))
    for opt in (
        ASAM(torch.optim.SGD([("bias", bias)], lr=0.0), rho=0.5, scale="weights"),
        ASAM(torch.optim.SGD([bias], lr=0.0), rho=0.5, scale="matrices"),
    ):
        seen = []

        def closure(opt: SharpnessAware = opt, seen: list[Tensor] = seen) -> Tensor:
            opt.zero_grad()
            seen.append(bias.detach().clone())
            loss = bias.square().sum()
            loss.backward()
            return loss

        opt.step(closure)
        torch.testing.assert_close(seen[1], bias.detach() * 1.1)


def test_a_group_added_later_is_scaled_by_name_too() -> None:
    model = normalised_network()
    late = [(n, p) for n, p in model.named_parameters() if n.startswith("3.")]
    early = [(n, p) for n, p in model.named_parameters() if not n.startswith("3.")]
    opt = ASAM(torch.optim.SGD(early, lr=0.1), rho=0.4, scale="weights")
    opt.add_param_group({"params": late})
    whole = normalised_network()
    reference = ASAM(torch.optim.SGD(whole.named_parameters(), lr=0.1), rho=0.4, scale="weights")
    torch.testing.assert_close(
        flat(climb(model, opt, batch(0))[2]), flat(climb(whole, reference, batch(0))[2]), rtol=1e-12, atol=0
    )


def test_asam_is_invariant_to_the_scale_of_the_weights() -> None:
    """Its reason to exist (arXiv:2102.11600, theorem 2): L(theta) = f(theta_1 theta_2) and (c theta_1, theta_2 / c)."""

    def values(variant: type[SharpnessAware], c: float) -> float:
        w = nn.Parameter(torch.tensor([0.7 * c, 1.1 / c], dtype=torch.float64))
        opt = variant(torch.optim.SGD([w], lr=0.0), rho=0.2)
        losses = []

        def closure() -> Tensor:
            opt.zero_grad()
            loss = (w.prod() - 3).square()
            loss.backward()
            losses.append(loss.item())
            return loss

        opt.step(closure)
        return losses[1]

    assert values(ASAM, 5.0) == pytest.approx(values(ASAM, 1.0), rel=1e-12)
    assert values(SAM, 5.0) != pytest.approx(values(SAM, 1.0), rel=1e-2)


@pytest.mark.parametrize("radius", [CosineRadius(0.3, 0.1, 4), LearnedRadius(0.3)])
def test_the_perturbation_is_as_long_as_the_radius_of_its_step(radius: Any) -> None:
    """metrics["rho"] is the radius that this step has used, not the next one."""
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=radius, validation_closure=closure_on(model, batch(9)))
    lengths = []
    for i in range(5):
        seen: list[Tensor] = []

        def closure(i: int = i, seen: list[Tensor] = seen) -> Tensor:
            seen.append(flat(model.parameters()))
            return closure_on(model, batch(i))()

        opt.step(closure)
        lengths.append((seen[1] - seen[0]).norm().item())
        assert lengths[-1] == pytest.approx(opt.metrics["rho"].item(), rel=1e-10)
    assert len(set(lengths)) >= 4


def test_directions_alone() -> None:
    """Up to the returned factor; the gradients are changed in place and the weights are not."""
    weights, gradients = (
        [torch.tensor([2.0, -1.0]), torch.tensor([0.5])],
        [torch.tensor([3.0, 0.0]), torch.tensor([4.0])],
    )
    for perturbation, expected in (
        (SAMPerturbation(), [[0.6, 0.0], [0.8]]),
        (ASAMPerturbation(), [[12 / 40**0.5, 0.0], [1 / 40**0.5]]),
        (ASAMPerturbation(eta=1.0), [[27 / 117**0.5, 0.0], [9 / 117**0.5]]),
    ):
        g = [t.clone() for t in gradients]
        w = [t.clone() for t in weights]
        factor = perturbation.direction(w, g, torch.tensor(5.0))
        torch.testing.assert_close([factor * t for t in g], [torch.tensor(t) for t in expected])
        assert all(torch.equal(a, b) for a, b in zip(w, weights, strict=True))
