"""What `letsam.check` finds in buffers, batches, weights, schedulers and the radius."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from doctor.cases import codes, net, only, sgd, state_of
from letsam import SAM, LearnedRadius, SharpnessAware
from oracle.problems import batch, closure_on, network, same_bits

# --- buffers, batches, weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel, lambda m: nn.ModuleDict({"net": m})])
def test_buffers_without_the_model(wrap: Any) -> None:
    model = net()
    outer = wrap(model)
    closure = closure_on(model, batch(0))
    found = only(SAM(sgd(model)), closure)
    assert (found.code, found.severity) == ("buffers-move-in-each-pass", "warning")
    assert "1.running_mean`" in found.message
    assert "running_var" in found.message
    assert codes(SAM(sgd(model)), closure, model=outer) == ["buffers-move-in-each-pass"]
    assert letsam.check(SAM(sgd(model), model=outer), closure) == []
    assert codes(SAM(sgd(model), model=model[0]), closure, model=model) == ["buffers-move-in-each-pass"]
    model.eval()
    assert letsam.check(SAM(sgd(model)), closure) == []


def test_the_validation_batch_is_the_training_batch() -> None:
    model = net()
    opt = SAM(sgd(model), LearnedRadius(0.1), model=model)
    # two functions that share the loop's variable, as they do in Python
    closures = [lambda: closure_on(model, data)() for data in (batch(0), batch(1))]  # noqa: B023
    found = only(opt, *closures)
    assert (found.code, found.severity) == ("same-batch", "error")
    opt.validation_closure = closures[1]
    assert codes(opt, closures[0]) == ["same-batch"]
    assert letsam.check(opt, closure_on(model, batch(0)), closure_on(model, batch(1))) == []


def test_a_learned_radius_without_validation() -> None:
    model = network()
    closure = closure_on(model, batch(0))
    found = only(SAM(sgd(model), LearnedRadius(0.1)), closure)
    assert (found.code, found.severity) == ("no-validation-closure", "error")
    held_out = closure_on(model, batch(1))
    assert letsam.check(SAM(sgd(model), LearnedRadius(0.1), validation_closure=held_out), closure) == []
    assert letsam.check(SAM(sgd(model), 0.1), closure) == []


def test_weights_that_the_optimizer_does_not_hold() -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model[0].parameters(), lr=0.1))
    closure = closure_on(model, batch(0))
    assert letsam.check(opt, closure) == []
    found = only(opt, closure, model=model)
    assert (found.code, found.severity) == ("weights-not-held", "warning")
    assert "`2.weight`, `2.bias`" in found.message
    opt.model = model
    assert codes(opt, closure) == ["weights-not-held"]
    model[2].requires_grad_(False)
    assert letsam.check(opt, closure) == []
    model[2].requires_grad_(True)
    opt.add_param_group({"params": list(model[2].parameters())})
    assert letsam.check(opt, closure) == []


def test_weights_without_a_gradient() -> None:
    model = nn.ModuleDict({"used": network(), "head": nn.Linear(2, 2)})
    found = only(SAM(sgd(model)), closure_on(model["used"], batch(0)))
    assert (found.code, found.severity) == ("weights-without-gradient", "warning")
    assert "`head.weight`, `head.bias`" in found.message
    model["head"].requires_grad_(False)
    assert letsam.check(SAM(sgd(model)), closure_on(model["used"], batch(0))) == []
    loose = nn.Parameter(torch.zeros(3))
    opt = SAM(torch.optim.SGD([*model["used"].parameters(), loose], lr=0.1))
    assert "`parameter 4 of shape (3,)`" in only(opt, closure_on(model["used"], batch(0))).message
    # an optimizer that was made before the model was made anew
    assert codes(SAM(sgd(network())), closure_on(network(), batch(0))) == ["no-gradients"]


# --- schedulers and the radius ----------------------------------------------------------------------------------------


def test_schedulers() -> None:
    model = network()
    closure = closure_on(model, batch(0))
    stale = torch.optim.lr_scheduler.StepLR(sgd(model), 1)
    opt = SAM(sgd(model))
    found = only(opt, closure, scheduler=stale)
    assert (found.code, found.severity) == ("stale-scheduler", "error")
    assert "another SGD" in found.message

    def schedulers(target: torch.optim.Optimizer) -> Iterator[Any]:
        lr = torch.optim.lr_scheduler
        yield lr.StepLR(target, 1)
        yield lr.ReduceLROnPlateau(target)
        yield lr.SequentialLR(target, [lr.ConstantLR(target), lr.StepLR(target, 1)], [1])
        yield lr.ChainedScheduler([lr.ConstantLR(target), lr.StepLR(target, 1)])

    made = [*schedulers(opt), *schedulers(opt.base_optimizer)]
    for scheduler in made:
        assert letsam.check(opt, closure, scheduler=scheduler) == []
    opt.load_state_dict(opt.state_dict())  # torch puts new groups in the place of the old ones
    for scheduler in made:
        assert letsam.check(opt, closure, scheduler=scheduler) == []
    opt.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    opt.param_groups[-1]["params"][0].requires_grad_(False)
    found = only(opt, closure, scheduler=made[0])
    assert found.code == "stale-scheduler"
    assert "knows 1 of the optimizer's 2 param groups" in found.message
    assert codes(opt, closure, scheduler=made[2]) == ["stale-scheduler"] * 2


@pytest.mark.parametrize("radius", [lambda r: r, LearnedRadius, lambda r: letsam.LinearRadius(r, r / 2, 10)])
def test_a_radius_out_of_proportion(radius: Any) -> None:
    """SAM's perturbation is rho long, so the bound lies at rho = ||theta|| / 2."""
    model = network()
    length = torch.linalg.vector_norm(torch.cat([p.flatten() for p in model.parameters()])).item()
    closures = closure_on(model, batch(0)), closure_on(model, batch(1))
    found = only(SAM(sgd(model), radius(0.51 * length)), *closures)
    assert (found.code, found.severity) == ("radius-too-large", "warning")
    assert "moves the weights by 51% of their norm" in found.message
    assert letsam.check(SAM(sgd(model), radius(0.49 * length)), *closures) == []


def test_a_radius_below_the_precision() -> None:
    for dtype, rho, expected in (
        (torch.bfloat16, 1e-3, ["radius-vanishes"]),
        (torch.bfloat16, 0.5, []),
        (torch.float32, 1e-3, []),
        (torch.float32, 1e-9, ["radius-vanishes"]),
    ):
        model = network(dtype=dtype)
        data = batch(0, dtype=dtype)
        findings = letsam.check(SAM(sgd(model), rho), closure_on(model, data))
        assert [f.code for f in findings] == expected, (dtype, rho)
        for found in findings:
            assert str(dtype).removeprefix("torch.") in found.message


def test_groups_that_are_not_perturbed() -> None:
    """They are no weights that do not move: here they would be most of them."""
    model = nn.Sequential(nn.Linear(4, 30), nn.LayerNorm(30), nn.Linear(30, 3)).double()
    base = torch.optim.SGD(letsam.param_groups(model, "norm"), lr=0.1)
    closure = closure_on(model, batch(0))
    assert letsam.check(SAM(base, 0.1), closure) == []
    assert codes(SAM(base, 10.0), closure) == ["radius-too-large"]


@pytest.mark.parametrize("variant", [letsam.SAMON, functools.partial(letsam.SSAMF, sparsity=0.8)])
def test_weights_that_the_perturbation_leaves_out(variant: Any) -> None:
    """They are not to move: only of the others can the dtype be too coarse."""
    model = nn.Sequential(nn.Linear(4, 30), nn.LayerNorm(30), nn.Linear(30, 3)).float()
    nn.init.normal_(model[1].bias, std=0.1)  # 0 would move by whatever is added
    closure = closure_on(model, batch(0, dtype=torch.float32))
    assert letsam.check(variant(sgd(model), rho=0.1, model=model), closure) == []
    assert codes(variant(sgd(model), rho=1e-9, model=model), closure) == ["radius-vanishes"]


def test_a_step_that_decides_on_the_device_not_to_climb() -> None:
    class Waiting(letsam.perturbations.SAMPerturbation):
        def direction(self, weights: Any, gradients: Any, gradient_norm: Tensor) -> Tensor:
            return 0 * super().direction(weights, gradients, gradient_norm)

    model = network()
    assert letsam.check(SharpnessAware(sgd(model), Waiting(), 0.1), closure_on(model, batch(0))) == []


def test_weights_that_begin_at_zero() -> None:
    """No radius is a share of them."""
    model = nn.Linear(4, 3).double()
    for p in model.parameters():
        nn.init.zeros_(p)
    assert letsam.check(SAM(sgd(model), 0.05), closure_on(model, batch(0))) == []


def test_a_step_that_does_not_climb() -> None:
    """There is no perturbation to judge, and the base optimizer must not step instead."""

    class Plain(letsam.perturbations.SAMPerturbation):
        def ascends(self, step: int) -> bool:
            return False

    model = network()
    opt = SharpnessAware(sgd(model), Plain(), 100.0)
    before = state_of(model, opt)
    assert letsam.check(opt, closure_on(model, batch(0))) == []
    assert same_bits(state_of(model, opt), before)


# --- active steps ----------------------------------------------------------------------------------------------------


def test_active_steps_that_never_update_the_radius() -> None:
    model = network()
    closures = closure_on(model, batch(0)), closure_on(model, batch(1))
    opt = SAM(sgd(model), LearnedRadius(0.1), active=lambda step: step % 3 == 0)
    found = only(opt, *closures)
    assert (found.code, found.severity) == ("radius-never-updated", "warning")
    for active in (None, range(100, 200), range(100), lambda step: step % 3 > 0):
        opt.active = active
        assert letsam.check(opt, *closures) == []
    fine = [0.1, LearnedRadius(0.1, objective=letsam.SquaredGap(training_batch="same"))]
    for rho in fine:
        assert letsam.check(SAM(sgd(model), rho, active=lambda step: step % 3 == 0), *closures) == []


def test_the_radius_is_checked_before_a_late_start() -> None:
    model = network()
    opt = SAM(sgd(model), 1e3, active=range(100, 200))
    assert codes(opt, closure_on(model, batch(0))) == ["radius-too-large"]
    assert opt.active == range(100, 200)


@pytest.mark.parametrize("functional", [False, True])
def test_a_calibrated_objective_needs_outputs_of_a_module(functional: bool) -> None:
    model = net()
    radius = LearnedRadius(0.05, objective=letsam.CalibratedLoss())
    opt = SAM(sgd(model), radius, model=model)

    def loss_on(x: Tensor) -> Tensor:
        opt.zero_grad()
        weight, bias = model[0].weight, model[0].bias
        loss = (torch.nn.functional.linear(x, weight, bias) if functional else model(x)).square().mean()
        loss.backward()
        return loss

    one, other = torch.randn(2, 8, 4, dtype=torch.float64)
    found = codes(opt, lambda: loss_on(one), lambda: loss_on(other))
    assert ("no-outputs" in found) == functional
