"""`perturb=False`: weights that descend but are not perturbed; and the groups that `letsam.param_groups` makes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import letsam
from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, LossBudgetRadius, Radius, SharpnessAware
from letsam.perturbations import SAMPerturbation
from letsam.radius import Ascent
from oracle import maths
from oracle.problems import BASES, batch, closure_on, descend, flat, network, same_bits, snapshot, weights_of

RHO = 0.1
NOW, NEXT, HELD_OUT = batch(10), batch(11), batch(20)


def grouped(model: nn.Sequential) -> list[dict[str, Any]]:
    """The first layer is perturbed, the last is not."""
    return [{"params": list(model[0].parameters())}, {"params": list(model[2].parameters()), "perturb": False}]


def mask(model: nn.Sequential) -> Tensor:
    """1 for the entries that are perturbed."""
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in (model[0], model[2])]
    return torch.cat([torch.ones(sizes[0]), torch.zeros(sizes[1])]).double()


def masked_direction(variant: str, model: nn.Sequential, theta: Tensor, g: Tensor) -> Tensor:
    return maths.DIRECTIONS[variant](theta, g * mask(model))


# --- the step -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("variant", ["SAM", "ASAM"])
@pytest.mark.parametrize("base", ["sgd", "nesterov", "adamw"])
def test_steps_against_the_reference(base: str, variant: str, by_hand: bool) -> None:
    """The real base optimizer fed with grad L(theta + rho eps_hat), eps_hat 0 on what is excluded; without letsam."""
    reference, model = network(), network()
    state = maths.State(reference, BASES[base](reference.parameters()))
    opt = getattr(letsam, variant)(BASES[base](grouped(model)), rho=0.3)
    for i in range(6):
        g = maths.gradient(reference, state.theta, batch(i))
        eps = 0.3 * masked_direction(variant, reference, state.theta, g)
        perturbed = maths.gradient(reference, state.theta + eps, batch(i))
        after = maths.base_step(state, perturbed)
        position = 0
        for p in reference.parameters():
            p.grad = perturbed[position : position + p.numel()].view_as(p).clone()
            position += p.numel()
        state.base.step()
        torch.testing.assert_close(state.theta, after, rtol=0, atol=0)
        closure = closure_on(model, batch(i))
        if by_hand:
            closure()
            opt.ascent_step()
            closure()
            opt.descent_step()
        else:
            opt.step(closure)
        assert opt.metrics["gradient_norm"].item() == pytest.approx(g.norm().item(), rel=1e-10)

    torch.testing.assert_close(flat(model.parameters()), state.theta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("estimator", [None, "secant", "finite_difference", "diagonal"])
@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_what_is_excluded_stays_in_all_passes_and_descends(
    variant: type[SharpnessAware], estimator: str | None
) -> None:
    model = network()
    rho = 0.5 if estimator is None else learned_radius(0.5, hypergradient=estimator, interval=1)
    opt = variant(BASES["momentum"](grouped(model)), rho=rho)
    for i in range(3):
        before, seen = weights_of(model), []

        def watched(i: int = i, seen: list[Any] = seen) -> Tensor:
            seen.append(weights_of(model))
            return closure_on(model, batch(i))()

        opt.step(watched, closure_on(model, HELD_OUT))
        assert len(seen) == (3 if estimator == "finite_difference" else 2)
        assert all(same_bits(weights[2:], before[2:]) for weights in seen)
        assert all(not same_bits(weights[:2], before[:2]) for weights in seen[1:])
        assert all(not torch.equal(a, b) for a, b in zip(weights_of(model), before, strict=True))


def test_an_excluded_gradient_that_is_not_finite_skips_the_step() -> None:
    model = network()
    opt = SAM(BASES["momentum"](grouped(model)), rho=0.1)
    before = weights_of(model)
    calls = [0]

    def closure() -> Tensor:
        loss = closure_on(model, NOW)()
        calls[0] += 1
        if calls[0] == 1:
            model[2].bias.grad[0] = float("nan")
        return loss

    opt.step(closure)
    assert same_bits(weights_of(model), before)
    assert opt.metrics["skipped_steps"] == 1


def test_the_descent_still_has_the_whole_ascent_gradient() -> None:
    """For perturbations that descend with g_0 as well, that of excluded weights included."""
    seen: list[list[Tensor]] = []

    class Watching(SAMPerturbation):
        keeps_ascent_gradient = True

        def descent(self, weights: Any, gradients: Any, ascent_gradients: Any) -> None:
            seen.append([g.clone() for g in ascent_gradients])

    model = network()
    closure_on(model, NOW)()
    expected = [p.grad.clone() for p in model.parameters()]
    SharpnessAware(BASES["sgd"](grouped(model)), Watching(), 0.1).step(closure_on(model, NOW))
    assert same_bits(seen, [expected])


def test_a_radius_for_each_weight() -> None:
    class PerWeight(Radius):
        def at(self, ascent: Ascent) -> Tensor:
            return self.rho * torch.arange(1, ascent.weights + 1).to(self.rho)

    model = network()
    groups = [{"params": [model[0].weight, model[2].bias]}, {"params": [model[0].bias], "perturb": False}]
    opt = SAM(torch.optim.SGD(groups, lr=0.1), rho=PerWeight(0.1))
    before = weights_of(model)
    closure_on(model, NOW)()
    g = torch.cat([model[0].weight.grad.reshape(-1), model[2].bias.grad]).clone()
    opt.ascent_step()
    after = weights_of(model)
    assert (after[0] - before[0]).norm().item() == pytest.approx(0.1 * (g[:24].norm() / g.norm()).item(), rel=1e-10)
    assert (after[3] - before[3]).norm().item() == pytest.approx(0.2 * (g[24:].norm() / g.norm()).item(), rel=1e-10)
    assert same_bits(after[1:3], before[1:3])


def test_a_loss_budget_is_spent_on_what_is_perturbed() -> None:
    model = network()
    theta, g = flat(model.parameters()), maths.gradient(model, flat(model.parameters()), NOW)
    opt = SAM(torch.optim.SGD(grouped(model), lr=0.1), rho=LossBudgetRadius(1e-4))
    closure_on(model, NOW)()
    opt.ascent_step()
    rise = (g @ (flat(model.parameters()) - theta)).item()
    assert rise == pytest.approx(1e-4, rel=1e-9)


class Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_what_exclusion_costs() -> None:
    """Nothing where nothing is excluded; else a norm, and zeros for the excluded tensors."""

    def operators(groups: Callable[[nn.Sequential], Any]) -> list[str]:
        model = network()
        opt = SAM(torch.optim.SGD(groups(model), lr=0.1), rho=0.1)
        closure_on(model, NOW)()
        with Operators() as operators:
            opt.ascent_step()
        return operators.seen

    plain = operators(lambda model: model.parameters())
    named = operators(lambda model: letsam.param_groups(model, "all"))
    excluding = operators(grouped)
    assert plain == named
    assert sum("norm" in name for name in plain) == 2  # of the tensors, and of their norms
    assert sum("norm" in name for name in excluding) == 4
    assert sum("zero_" in name for name in excluding) == 1


# --- groups that come and go ----------------------------------------------------------------------------------------


def test_add_param_group() -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model[0].parameters(), lr=0.1), rho=0.5)
    opt.step(closure_on(model, batch(0)))
    opt.add_param_group({"params": list(model[2].parameters()), "perturb": False})
    before = weights_of(model)
    closure_on(model, batch(1))()
    opt.ascent_step()
    assert same_bits(weights_of(model)[2:], before[2:])
    assert not same_bits(weights_of(model)[:2], before[:2])


def test_a_group_that_does_not_fit_is_not_added() -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model[0].parameters(), lr=0.1), rho=0.5)
    with pytest.raises(ValueError, match="`perturb` of a param group must be True or False, got 'no'"):
        opt.add_param_group({"params": list(model[2].parameters()), "perturb": "no"})
    assert len(opt.param_groups) == 1
    opt.add_param_group({"params": list(model[2].parameters())})
    opt.step(closure_on(model, batch(0)))


@pytest.mark.parametrize("value", ["no", 0, None, torch.tensor(False)])
def test_bad_values(value: Any) -> None:
    model = network()
    with pytest.raises(ValueError, match="`perturb` of a param group must be True or False, got"):
        SAM(torch.optim.SGD([{"params": model.parameters(), "perturb": value}], lr=0.1))
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    opt.param_groups[0]["perturb"] = value
    before = weights_of(model)
    with pytest.raises(ValueError, match="`perturb` of a param group must be True or False, got"):
        opt.step(closure_on(model, NOW))
    assert same_bits(weights_of(model), before)


def test_nothing_left_to_perturb() -> None:
    model = network()
    with pytest.raises(ValueError, match="`perturb` must be True in at least one param group, got False in all"):
        SAM(torch.optim.SGD([{"params": model.parameters(), "perturb": False}], lr=0.1))
    model[0].requires_grad_(False)
    opt = SAM(torch.optim.SGD(grouped(model), lr=0.1))
    before = weights_of(model)
    with pytest.raises(ValueError, match="gradients in weights that are perturbed, got them in"):
        opt.step(closure_on(model, NOW))
    assert same_bits(weights_of(model), before)


def test_it_is_saved_with_the_groups() -> None:
    model = network()
    opt = ASAM(BASES["adamw"](grouped(model)), rho=LearnedRadius(0.1, interval=1))
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, HELD_OUT))
    twin = copy.deepcopy(model)
    fresh = ASAM(BASES["adamw"](grouped(twin)), rho=LearnedRadius(0.1, interval=1))
    fresh.load_state_dict(copy.deepcopy(opt.state_dict()))
    for m, o in ((model, opt), (twin, fresh)):
        for i in range(3, 6):
            o.step(closure_on(m, batch(i)), closure_on(m, HELD_OUT))
    assert same_bits(snapshot(twin, fresh), snapshot(model, opt))
    assert [group.get("perturb", True) for group in fresh.param_groups] == [True, False]


# --- the hypergradient ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training_batch", ["next", "same"])
@pytest.mark.parametrize("objective", ["squared_gap", "validation_loss"])
@pytest.mark.parametrize("variant", ["SAM", "ASAM"])
@pytest.mark.parametrize("base", ["momentum", "adamw"])
def test_the_hypergradient_is_that_of_the_real_step(
    base: str, variant: str, objective: str, training_batch: str
) -> None:
    """Against central differences; the secant and the diagonal against their formulas."""
    model = network()
    optimizer = BASES[base](model.parameters())
    descend(model, optimizer, 4)
    start = maths.State(model, optimizer)
    direction = masked_direction(variant, model, start.theta, maths.gradient(model, start.theta, NOW))
    training = NOW if training_batch == "same" else NEXT
    step = maths.OneStep(start, direction, NOW, objective, training, HELD_OUT)

    def measured(estimator: str) -> float:
        state = start.copy()
        moments = state.base.state_dict()
        base_optimizer = BASES[base](grouped(state.model))
        for group, saved in zip(base_optimizer.param_groups, ([0, 1], [2, 3]), strict=True):
            for p, index in zip(group["params"], saved, strict=True):
                base_optimizer.state[p] = moments["state"][index]
        radius = learned_radius(
            RHO, hypergradient=estimator, objective=objective, training_batch=training_batch, length_invariant=False
        )
        opt = getattr(letsam, variant)(base_optimizer, rho=radius)
        held_out = closure_on(state.model, HELD_OUT)
        opt.step(closure_on(state.model, NOW), held_out)
        if training_batch == "next":
            opt.step(closure_on(state.model, NEXT), held_out)
        return opt.metrics["hypergradient"].item()

    assert measured("finite_difference") == pytest.approx(step.central_difference(RHO), rel=3e-6)
    for estimator in ("secant", "diagonal"):
        expected = step.hypergradient(RHO, estimator=estimator)
        assert measured(estimator) == pytest.approx(expected, rel=1e-9), estimator


def test_secant_is_exact_on_a_quadratic() -> None:
    """L = theta' A theta / 2 with the second weight excluded: Z = -lr A eps_hat has entries for both."""
    a = torch.tensor([[2.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
    theta, lr, rho = torch.tensor([0.7, -1.1], dtype=torch.float64), 0.1, 0.8
    first, second = (nn.Parameter(theta[i : i + 1].clone()) for i in (0, 1))
    groups = [{"params": [first]}, {"params": [second], "perturb": False}]
    opt = SAM(torch.optim.SGD(groups, lr=lr), rho=learned_radius(rho, length_invariant=False, interval=1))

    def run(function: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            opt.zero_grad()
            value = function(torch.cat([first, second]))
            value.backward()
            return value

        return closure

    closures = run(lambda w: w @ a @ w / 2), run(lambda w: 1.5 * w.square().sum())
    opt.step(*closures)
    e = torch.tensor([1.0, 0.0], dtype=torch.float64) * (a @ theta)[0].sign()
    after = theta - lr * a @ (theta + rho * e)
    torch.testing.assert_close(torch.cat([first, second]).detach(), after, rtol=1e-14, atol=0)
    opt.step(*closures)
    assert opt.metrics["hypergradient"].item() == pytest.approx((3 * after @ (-lr * a @ e)).item(), rel=1e-13)


# --- groups from a model's layers -------------------------------------------------------------------------------------


class TinyRMSNorm(nn.Module):
    """As in language models: known by its name alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))


class TinyRMSNormGated(TinyRMSNorm):
    pass


class PreNorm(nn.Module):
    """A block that only sounds like a layer: a norm and what comes after it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.fn = nn.Linear(4, 4)


def zoo() -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "conv": nn.Conv2d(2, 4, 3),
            "batch": nn.BatchNorm2d(4),
            "sync": nn.SyncBatchNorm(4),
            "group": nn.GroupNorm(2, 4),
            "instance": nn.InstanceNorm1d(4, affine=True),
            "layer": nn.LayerNorm(4),
            "rms": nn.RMSNorm(4),
            "own": TinyRMSNorm(),
            "gated": TinyRMSNormGated(),
            "block": PreNorm(),
            "attention": nn.MultiheadAttention(4, 2),
            "lstm": nn.LSTM(4, 4),
        }
    )


NORMALISING = {
    *("batch.weight", "batch.bias", "sync.weight", "sync.bias", "group.weight", "group.bias"),
    *("instance.weight", "instance.bias", "layer.weight", "layer.bias", "rms.weight", "own.weight", "gated.weight"),
    *("block.norm.weight", "block.norm.bias"),
}
WEIGHTS = {
    *("conv.weight", "block.fn.weight", "attention.in_proj_weight", "attention.out_proj.weight"),
    *("lstm.weight_ih_l0", "lstm.weight_hh_l0"),
}


def names(groups: list[dict[str, Any]]) -> list[set[str]]:
    return [{name for name, _ in group["params"]} for group in groups]


def test_which_weights_are_perturbed() -> None:
    model = zoo()
    everything = {name for name, _ in model.named_parameters()}
    assert names(letsam.param_groups(model)) == [everything]
    for perturb, expected in (("norm", NORMALISING), ("weights", WEIGHTS)):
        groups = letsam.param_groups(model, perturb, weight_decay=0.1)
        assert names(groups) == [expected, everything - expected]
        assert [group["perturb"] for group in groups] == [True, False]
        assert all(group["weight_decay"] == 0.1 for group in groups)


def test_shared_weights_appear_once_and_empty_groups_not_at_all() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    groups = letsam.param_groups(model, "weights")
    assert names(groups) == [{"0.weight"}]
    torch.optim.SGD(groups, lr=0.1)


def test_asam_by_names() -> None:
    """The groups have names, so that ASAM knows the weights from the biases."""
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    opt = ASAM(torch.optim.AdamW(letsam.param_groups(model, "norm", lr=0.1)), rho=0.5, scale="weights", eta=0.01)
    assert [group["param_names"] for group in opt.param_groups] == [["1.weight", "1.bias"], ["0.weight", "0.bias"]]
    before = weights_of(model)
    model(batch(0)[0].float()).pow(3).sum().backward()
    g = [p.grad.clone() for p in model[1].parameters()]
    opt.ascent_step()
    after = weights_of(model)
    t = before[2].abs() + 0.01
    length = torch.cat([t * g[0], g[1]]).norm()
    torch.testing.assert_close(after[2] - before[2], 0.5 * t**2 * g[0] / length, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(after[3] - before[3], 0.5 * g[1] / length, rtol=1e-4, atol=1e-6)
    assert same_bits(after[:2], before[:2])


@pytest.mark.parametrize(
    ("model", "perturb", "error", "message"),
    [
        (nn.Linear(2, 2), "norm", ValueError, '`model` must have normalisation layers with weights for perturb="norm"'),
        (nn.BatchNorm1d(2, affine=False), "norm", ValueError, "got none in BatchNorm1d"),
        (nn.DataParallel(nn.Linear(2, 2)), "norm", ValueError, "got none in Linear"),
        (nn.LayerNorm(2), "weights", ValueError, '`model` must have parameters to perturb for perturb="weights", got'),
        (nn.Linear(2, 2), "biases", ValueError, "`perturb` must be one of weights, norm, all, got 'biases'"),
        (nn.Linear(2, 2), True, TypeError, "`perturb` must be one of weights, norm, all, got True"),
        ([], "all", TypeError, "`model` must be a torch.nn.Module"),
    ],
)
def test_models_and_choices_that_do_not_fit(model: Any, perturb: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        letsam.param_groups(model, perturb)
