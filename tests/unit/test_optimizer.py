"""SharpnessAware: exactness, the order and number of passes, torch's contract."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import letsam
from learned_radius import learned_radius
from letsam import ASAM, SAM, CosineRadius, LearnedRadius, SharpnessAware
from oracle import maths
from oracle.problems import BASES, WITHOUT_RULE, batch, closure_on, flat, loss_on, network, same_bits, weights_of

ESTIMATORS = ("secant", "finite_difference", "diagonal")


def momentum(model: torch.nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


# --- exactness ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("variant", [SAM, ASAM])
@pytest.mark.parametrize("base", BASES | WITHOUT_RULE)
def test_radius_zero_is_the_base_optimizer(base: str, variant: type[SharpnessAware], dtype: torch.dtype) -> None:
    make = (BASES | WITHOUT_RULE)[base]
    plain, wrapped = network(dtype=dtype), network(dtype=dtype)
    optimizer = make(plain.parameters())
    opt = variant(make(wrapped.parameters()), rho=0)
    for i in range(20):
        closure_on(plain, batch(i, dtype=dtype))()
        optimizer.step()
        opt.step(closure_on(wrapped, batch(i, dtype=dtype)))

    assert same_bits(weights_of(wrapped), weights_of(plain))
    assert same_bits(opt.base_optimizer.state_dict(), optimizer.state_dict())
    assert not same_bits(weights_of(wrapped), weights_of(network(dtype=dtype)))


def test_sam_on_a_quadratic() -> None:
    """L = theta' A theta / 2 with SGD: theta <- theta - lr A (theta + rho A theta / |A theta|)."""
    a = torch.diag(torch.tensor([3.0, 1.0, 0.2], dtype=torch.float64))
    theta = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)
    w = torch.nn.Parameter(theta.clone())
    opt = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)

    def closure() -> Tensor:
        opt.zero_grad()
        loss = w @ a @ w / 2
        loss.backward()
        return loss

    for _ in range(30):
        loss = opt.step(closure)
        assert loss.item() == pytest.approx((theta @ a @ theta / 2).item(), rel=1e-13)
        g = a @ theta
        theta = theta - 0.1 * a @ (theta + 0.5 * g / g.norm())
        torch.testing.assert_close(w.detach(), theta, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("variant", ["SAM", "ASAM"])
@pytest.mark.parametrize("base", ["sgd", "nesterov", "adamw", "rmsprop-centered", "adagrad"])
def test_steps_against_the_reference(base: str, variant: str) -> None:
    """The real base optimizer fed with grad L(theta + rho eps_hat), step after step, without letsam."""
    make = (BASES | WITHOUT_RULE)[base]
    reference, model = network(), network()
    state = maths.State(reference, make(reference.parameters()))
    opt = getattr(letsam, variant)(make(model.parameters()), rho=0.3)
    for i in range(6):
        g = maths.gradient(reference, state.theta, batch(i))
        eps = 0.3 * maths.DIRECTIONS[variant](state.theta, g)
        perturbed = maths.gradient(reference, state.theta + eps, batch(i))
        torch.nn.utils.vector_to_parameters(state.theta, reference.parameters())
        position = 0
        for p in reference.parameters():
            p.grad = perturbed[position : position + p.numel()].view_as(p).clone()
            position += p.numel()
        state.base.step()
        opt.step(closure_on(model, batch(i)))

    torch.testing.assert_close(flat(model.parameters()), state.theta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("estimator", [None, *ESTIMATORS])
@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_weights_come_back_bit_for_bit(
    variant: type[SharpnessAware], estimator: str | None, dtype: torch.dtype
) -> None:
    """200 cycles with a base optimizer that does not move."""
    model = network(dtype=dtype)
    before = weights_of(model)
    rho = 0.1 if estimator is None else learned_radius(0.1, hypergradient=estimator, interval=1)
    opt = variant(torch.optim.SGD(model.parameters(), lr=0.0), rho=rho)
    seen = []
    for i in range(200):
        closure = closure_on(model, batch(i % 4, dtype=dtype))

        def watched(closure: Callable[[], Tensor] = closure) -> Tensor:
            seen.append(weights_of(model))
            return closure()

        opt.step(watched, closure)

    assert same_bits(weights_of(model), before)
    assert any(not same_bits(weights, before) for weights in seen), "it must have moved in between"
    assert opt.metrics["skipped_steps"] == 0


def _passes(opt: SharpnessAware, model: torch.nn.Module, fail_at: int) -> tuple[Callable[[], Tensor], ...]:
    """A training and a validation closure of which the `fail_at`-th call, counted over both, raises."""
    calls = [0]

    def counted(data: tuple[Tensor, Tensor]) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            calls[0] += 1
            loss = closure_on(model, data)()
            if calls[0] == fail_at:
                raise KeyboardInterrupt
            return loss

        return closure

    return counted(batch(0)), counted(batch(9))


@pytest.mark.parametrize("fail_at", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("training_batch", ["next", "same"])
@pytest.mark.parametrize("estimator", ["secant", "finite_difference"])
def test_a_closure_that_raises_changes_nothing(estimator: str, training_batch: str, fail_at: int) -> None:
    """In validation, either training pass, the probe or the passes after the base step; a retry goes on normally."""
    model = network()
    opt = SAM(
        momentum(model),
        rho=learned_radius(0.1, hypergradient=estimator, training_batch=training_batch, interval=1),
    )
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    passes = 3 + (estimator == "finite_difference") + (training_batch == "same")
    weights, rho = weights_of(model), opt.rho.clone()
    state = copy.deepcopy(opt.state_dict())
    closures = _passes(opt, model, fail_at)

    if fail_at > passes:
        opt.step(*closures)
        assert not same_bits(weights_of(model), weights)
        return
    with pytest.raises(KeyboardInterrupt):
        opt.step(*closures)

    assert same_bits(weights_of(model), weights)
    assert same_bits(opt.rho, rho)
    after = opt.state_dict()
    for part in (state, after):
        part["sharpness_aware"]["radius"].pop("Z", None)
        part["sharpness_aware"]["radius"].pop("usable", None)
    assert same_bits(after, state)
    opt.step(*closures)
    assert not same_bits(weights_of(model), weights)
    assert opt.metrics["skipped_steps"] == 0


@pytest.mark.parametrize("fail_at", [1, 2])
def test_a_step_tried_again_is_the_step(fail_at: int) -> None:
    """What raised before the ascent has not cost the radius its Z."""

    def run(interrupted: bool) -> tuple[list[Tensor], Tensor]:
        model = network()
        opt = SAM(momentum(model), rho=LearnedRadius(0.1, interval=1))
        for i in range(5):
            if interrupted and i == 3:
                with pytest.raises(KeyboardInterrupt):
                    opt.step(*_passes(opt, model, fail_at))
            opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
        return weights_of(model), opt.rho

    assert same_bits(run(True), run(False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("estimator", [None, *ESTIMATORS])
@pytest.mark.parametrize("missing_in", [0, 1])
def test_a_gradient_in_one_pass_only(missing_in: int, estimator: str | None, dtype: torch.dtype) -> None:
    """A head that only one of the two passes uses comes back too, and counts for nothing in the other."""
    body = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.3], dtype=dtype))
    head = torch.nn.Parameter(torch.tensor([0.7, 0.1, -1.3], dtype=dtype))
    rho = 0.1 if estimator is None else learned_radius(0.1, hypergradient=estimator, interval=1)
    opt = SAM(torch.optim.SGD([body, head], lr=0.0), rho=rho)
    before = [body.detach().clone(), head.detach().clone()]
    calls = [0]

    def closure() -> Tensor:
        opt.zero_grad()
        loss = body.pow(4).sum()
        if calls[0] != missing_in:
            loss = loss + head.pow(4).sum()
        calls[0] += 1
        loss.backward()
        return loss

    def held_out() -> Tensor:
        opt.zero_grad()
        loss = (body.square().sum() + head.square().sum()).sqrt()
        loss.backward()
        return loss

    for _ in range(5):
        calls[0] = 0
        opt.step(closure, held_out)
        assert same_bits([body.detach(), head.detach()], before)
    assert opt.rho.isfinite()
    assert opt.metrics["skipped_steps"] == 0


@pytest.mark.parametrize("estimator", ["secant", "finite_difference", "diagonal"])
def test_a_weight_that_is_not_moved_has_no_share_in_z(estimator: str) -> None:
    """A head with a gradient in the first pass only: the base optimizer leaves it alone, so d head' / d rho = 0."""
    lr, rho = 0.01, 0.1
    body = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.3], dtype=torch.float64))
    head = torch.nn.Parameter(torch.tensor([0.7, 0.1, -1.3], dtype=torch.float64))
    radius = learned_radius(rho, hypergradient=estimator, length_invariant=False, interval=1)
    opt = SAM(torch.optim.SGD([body, head], lr=lr), rho=radius)
    calls = [0]

    def closure() -> Tensor:
        opt.zero_grad()
        calls[0] += 1
        loss = body.pow(4).sum() + (head.pow(4).sum() if calls[0] == 1 else 0)
        loss.backward()
        return loss

    def held_out() -> Tensor:
        opt.zero_grad()
        loss = body.square().sum() + head.square().sum()
        loss.backward()
        return loss

    start, still = body.detach().clone(), head.detach().clone()
    g = 4 * start**3
    e = g / torch.cat([g, 4 * still**3]).norm()
    g_rho = 4 * (start + rho * e) ** 3
    curvature = {
        "secant": (g_rho - g) / rho,
        "finite_difference": 12 * (start + rho * e) ** 2 * e,
        "diagonal": g_rho**2 * e,
    }[estimator]
    opt.step(closure, held_out)
    assert torch.equal(head.detach(), still)
    after = body.detach().clone()
    opt.step(closure, held_out)

    expected = (2 * after @ (-lr * curvature)).item()
    assert opt.metrics["hypergradient"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rho", [0.05, 10.0, 1e3])
@pytest.mark.parametrize("size", [0.0, 1e-25, 1e-40])
@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_vanishing_gradients_do_not_explode(variant: type[SharpnessAware], size: float, rho: float) -> None:
    """||g|| = 0, also because the squares of tiny entries underflow: the step stays finite and small."""
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    opt = variant(torch.optim.SGD([w], lr=0.1), rho=rho)
    seen = []

    def closure() -> Tensor:
        opt.zero_grad()
        seen.append(w.detach().clone())
        loss = (w * size).sum()
        loss.backward()
        return loss

    opt.step(closure)

    assert opt.metrics["skipped_steps"] == 0
    assert (seen[1] - seen[0]).norm() <= rho * 1.01
    assert torch.equal(w.detach(), seen[0])


# --- passes ---------------------------------------------------------------------------------------------------------


def log_of_steps(radius: letsam.Radius | float, steps: int) -> list[list[str]]:
    model = network()
    opt = SAM(momentum(model), rho=radius)
    logs: list[list[str]] = []
    for i in range(steps):
        log: list[str] = []
        opt.step(closure_on(model, batch(i), log), closure_on(model, batch(9), log, "validation"))
        logs.append(log)
    return logs


V, T = "validation", "training"


@pytest.mark.parametrize(
    ("radius", "learned_step", "step_between"),
    [
        (0.1, [T, T], [T, T]),
        (CosineRadius(0.2, 0.1, 3), [T, T], [T, T]),
        (LearnedRadius(0.1, interval=1), [V, T, T], None),
        (learned_radius(0.1, hypergradient="diagonal", interval=1), [V, T, T], None),
        (learned_radius(0.1, hypergradient="finite_difference", interval=1), [V, T, T, T], None),
        (learned_radius(0.1, training_batch="same", interval=1), [T, T, T, V], None),
        (learned_radius(0.1, training_batch="same", hypergradient="diagonal", interval=1), [T, T, T, V], None),
        (
            learned_radius(0.1, training_batch="same", hypergradient="finite_difference", interval=1),
            [T, T, T, T, V],
            None,
        ),
        (LearnedRadius(0.1, interval=3), [V, T, T], [T, T]),
        (learned_radius(0.1, interval=3, training_batch="same"), [T, T, T, V], [T, T]),
        (LearnedRadius.paper(0.1), [T, T, T, V], None),
        (LearnedRadius.paper(0.1, interval=4), [T, T, T, V], [T, T]),
    ],
)
def test_passes_of_a_step(
    radius: letsam.Radius | float, learned_step: list[str], step_between: list[str] | None
) -> None:
    interval = getattr(radius, "interval", 1)
    for step, log in enumerate(log_of_steps(radius, 12)):
        learns = (step + 1) % interval == 0
        assert log == (learned_step if learns or step_between is None else step_between), step


def test_finite_difference_probes_only_where_its_curvature_is_used() -> None:
    logs = log_of_steps(learned_radius(0.1, hypergradient="finite_difference", interval=3), 9)
    assert logs == [[T, T], [T, T, T], [V, T, T]] * 3


@pytest.mark.parametrize("interval", [1, 3])
def test_the_radius_moves_at_every_upper_level_update_only(interval: int) -> None:
    model = network()
    opt = SAM(momentum(model), rho=LearnedRadius(0.1, interval=interval))
    moved = []
    for i in range(9):
        before = opt.rho.clone()
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
        moved.append(bool(opt.rho != before))
    expected = [step > 0 and (step + 1) % interval == 0 for step in range(9)]
    assert moved == expected


@pytest.mark.parametrize("training_batch", ["next", "same"])
def test_validation_runs_unperturbed(training_batch: str) -> None:
    """At the weights that the step before has made ("next"), or that this one makes ("same")."""
    model = network()
    opt = SAM(momentum(model), rho=learned_radius(0.5, training_batch=training_batch, interval=1))
    for i in range(4):
        before = weights_of(model)
        training, validation = [], []

        def watched(data: Any, seen: list[list[Tensor]]) -> Callable[[], Tensor]:
            def closure() -> Tensor:
                seen.append(weights_of(model))
                return closure_on(model, data)()

            return closure

        opt.step(watched(batch(i), training), watched(batch(9), validation))
        after = weights_of(model)
        assert same_bits(validation, [before if training_batch == "next" else after])
        assert same_bits(training[0], before)
        assert not same_bits(training[1], before)
        assert training_batch == "next" or same_bits(training[2], after)


def test_validation_closure_as_an_attribute() -> None:
    def run(as_attribute: bool) -> list[Tensor]:
        model = network()
        held_out = closure_on(model, batch(9))
        opt = SAM(
            momentum(model), LearnedRadius(0.1, interval=1), validation_closure=held_out if as_attribute else None
        )
        for i in range(5):
            closure = closure_on(model, batch(i))
            opt.step(closure) if as_attribute else opt.step(closure, held_out)
        return [*weights_of(model), opt.rho]

    assert same_bits(run(True), run(False))


def test_step_returns_the_first_loss() -> None:
    model = network()
    opt = ASAM(momentum(model), rho=1.0)
    expected = loss_on(model, batch(0)).item()
    loss = opt.step(closure_on(model, batch(0)))
    assert loss.item() == expected
    assert not loss.requires_grad
    assert loss.shape == ()


def test_stale_gradients_do_not_enter() -> None:
    """A closure that accumulates into what is there would double the gradients if the step did not clear them."""
    plain, other = network(), network()
    opts = [SAM(momentum(m), rho=0.1) for m in (plain, other)]
    for i in range(3):
        opts[0].step(closure_on(plain, batch(i)))

        def lazy(i: int = i) -> Tensor:
            loss = loss_on(other, batch(i))
            loss.backward()
            return loss

        opts[1].step(lazy)
    assert same_bits(weights_of(plain), weights_of(other))


# --- no host synchronisation --------------------------------------------------------------------------------------


class Synchronisations(TorchDispatchMode):
    """Counts the operators that make the host wait for the device."""

    names = (
        *("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "unique", "_unique2"),
        *("allclose", "argwhere", "bincount", "_assert_async", "_linalg_check_errors"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.total += 1
        name = func.overloadpacket.__name__
        mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in self.names or mask:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t.item(),
        float,
        bool,
        lambda t: torch.equal(t, t),
        lambda t: t.reshape(1).nonzero(),
        lambda t: t.reshape(1)[t.reshape(1) > 0],
    ],
)
def test_the_counter_sees_synchronisations(read: Callable[[Tensor], Any]) -> None:
    with Synchronisations() as counter:
        read(torch.ones(()))
    assert counter.seen


RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.1,
    "cosine": lambda: CosineRadius(0.2, 0.1, 3),
    "linear": lambda: letsam.LinearRadius(0.2, 0.1, 3),
    "proportional": lambda: letsam.ProportionalRadius(0.2, 0.1),
    "replayed": lambda: letsam.ReplayedRadius([0.1, 0.3], 5),
    "replayed per layer": lambda: letsam.ReplayedRadius([[0.1, 0.2, 0.3, 0.1], [0.3] * 4], 5, per="layer"),
    "relative": lambda: letsam.relative(0.05),
    "layerwise": lambda: letsam.layerwise(LearnedRadius(0.05)),
    "per layer": lambda: LearnedRadius(0.1, per="layer"),
    "per group": lambda: learned_radius(0.1, per="group", hypergradient="finite_difference"),
    "paper": lambda: LearnedRadius.paper(0.1),
} | {
    f"{estimator}-{objective}-{training_batch}": lambda e=estimator, o=objective, t=training_batch: learned_radius(
        0.1, hypergradient=e, objective=o, training_batch=t
    )
    for estimator in ESTIMATORS
    for objective in ("squared_gap", "validation_loss")
    for training_batch in ("next", "same")
}


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {}])
@pytest.mark.parametrize("variant", [SAM, ASAM])
@pytest.mark.parametrize("radius", RADII)
def test_no_host_synchronisation(radius: str, variant: type[SharpnessAware], options: dict[str, Any]) -> None:
    model = network(dtype=torch.float32)
    opt = variant(torch.optim.SGD(model.parameters(), lr=0.1, **options), rho=RADII[radius]())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 10)
    batches = [batch(i, dtype=torch.float32) for i in range(4)]
    with Synchronisations() as counter:
        for data in batches:
            opt.step(closure_on(model, data), closure_on(model, batches[0]))
            scheduler.step()
    assert counter.seen == []
    assert counter.total > 100
    assert all(isinstance(value, Tensor) and value.shape in ((), opt.rho.shape) for value in opt.metrics.values())
    assert opt.rho.ndim == ("per" in radius.split())


# --- torch's contract ---------------------------------------------------------------------------------------------


def test_groups_and_state_are_the_base_optimizers() -> None:
    model = network()
    base = momentum(model)
    opt = SAM(base, rho=0.1)
    assert opt.param_groups is base.param_groups
    assert opt.state is base.state
    assert opt.defaults is base.defaults
    assert isinstance(opt, torch.optim.Optimizer)
    base.load_state_dict(base.state_dict())
    assert opt.param_groups is base.param_groups
    assert opt.state is base.state
    opt.load_state_dict(opt.state_dict())
    assert opt.param_groups is base.param_groups


@pytest.mark.parametrize("on_base", [False, True])
@pytest.mark.parametrize("by_hand", [False, True])
def test_lr_schedulers_warn_of_nothing_and_reach_the_step(on_base: bool, by_hand: bool) -> None:
    model = network()
    base = torch.optim.SGD(model.parameters(), lr=0.5)
    opt = SAM(base, rho=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(base if on_base else opt, 1, gamma=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(3):
            before = weights_of(model)
            closure = closure_on(model, batch(i))
            if by_hand:
                closure()
                opt.ascent_step()
                closure()
                opt.descent_step()
            else:
                opt.step(closure)
            scheduler.step()
            assert same_bits(weights_of(model), before) == (i > 0), "the learning rate is 0 after the first step"


@pytest.mark.parametrize("radius", ["fixed", "cosine", "linear", "proportional", "replayed"])
@pytest.mark.parametrize("variant", [SAM, ASAM])
@pytest.mark.parametrize("base", ["momentum", "adamw", "rmsprop"])
def test_two_calls_equal_one(base: str, variant: type[SharpnessAware], radius: str) -> None:
    def run(by_hand: bool) -> Any:
        model = network()
        opt = variant(BASES[base](model.parameters()), rho=RADII[radius]())
        for i in range(6):
            closure = closure_on(model, batch(i))
            if by_hand:
                closure()
                opt.ascent_step()
                assert all(p.grad is None for p in model.parameters())
                closure()
                opt.descent_step()
            else:
                opt.step(closure)
        return weights_of(model), opt.state_dict(), opt.metrics["rho"], opt.metrics["gradient_norm"]

    assert same_bits(run(True), run(False))


@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_hooks_fire(variant: type[SharpnessAware]) -> None:
    model = network()
    base = momentum(model)
    opt = variant(base, rho=0.1)
    fired: list[str] = []
    opt.register_step_pre_hook(lambda *_: fired.append("before"))
    opt.register_step_post_hook(lambda *_: fired.append("after"))
    base.register_step_pre_hook(lambda *_: fired.append("base before"))
    base.register_step_post_hook(lambda *_: fired.append("base after"))
    opt.register_state_dict_pre_hook(lambda *_: fired.append("saving"))
    opt.register_state_dict_post_hook(lambda _, state: state | {"note": 1})
    opt.register_load_state_dict_pre_hook(lambda _, state: fired.append("loading"))
    opt.register_load_state_dict_post_hook(lambda _: fired.append("loaded"))
    opt.step(closure_on(model, batch(0)))
    assert fired == ["before", "base before", "base after", "after"]
    state = opt.state_dict()
    assert state.pop("note") == 1
    opt.load_state_dict(state)
    assert fired[4:] == ["saving", "loading", "loaded"]


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@pytest.mark.parametrize("radius", ["fixed", "cosine", "secant-validation_loss-next", "diagonal-squared_gap-same"])
def test_copies_go_on_alike_and_apart(radius: str, how: str) -> None:
    model = network()
    named = model.named_parameters()
    opt = ASAM(torch.optim.SGD(named, lr=0.1, momentum=0.9), rho=RADII[radius](), scale="weights")
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    if how == "deepcopy":
        twin, twin_opt = copy.deepcopy((model, opt))
    else:
        twin, twin_opt = pickle.loads(pickle.dumps((model, opt)))
    before = weights_of(twin)
    for i in range(3, 6):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    assert same_bits(weights_of(twin), before)
    for i in range(3, 6):
        twin_opt.step(closure_on(twin, batch(i)), closure_on(twin, batch(9)))
    assert same_bits(weights_of(twin), weights_of(model))
    assert same_bits(twin_opt.state_dict(), opt.state_dict())


def test_add_param_group_and_frozen_weights() -> None:
    model = network()
    model[0].bias.requires_grad_(False)
    frozen = model[0].bias.clone()
    opt = SAM(torch.optim.SGD(model[0].parameters(), lr=0.1, momentum=0.9), rho=LearnedRadius(0.1, interval=1))
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    head = model[2].weight.detach().clone()
    opt.add_param_group({"params": list(model[2].parameters()), "lr": 0.2})
    assert len(opt.base_optimizer.param_groups) == 2
    radii = []
    for i in range(3, 7):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
        radii.append(opt.rho.item())
    assert not torch.equal(model[2].weight, head)
    assert torch.equal(model[0].bias, frozen)
    assert len(set(radii)) == 4 - 1 + 1 - (radii[0] == radii[1]), radii
    assert radii[1] != radii[3]


@pytest.mark.parametrize("thawed", [False, True])
def test_freezing_while_training(thawed: bool) -> None:
    """The set of trainable weights changes between two steps: Z no longer fits and counts for nothing."""
    model = network()
    opt = SAM(momentum(model), rho=LearnedRadius(0.1, interval=1))
    model[0].weight.requires_grad_(not thawed)
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    model[0].weight.requires_grad_(thawed)
    rho = opt.rho.clone()
    opt.step(closure_on(model, batch(3)), closure_on(model, batch(9)))
    assert opt.rho == rho
    opt.step(closure_on(model, batch(4)), closure_on(model, batch(9)))
    assert opt.rho != rho


def test_one_radius_object_for_many_optimizers() -> None:
    radius = LearnedRadius(0.1, interval=1)
    model, other = network(), network()
    opt, idle = SAM(momentum(model), rho=radius), SAM(momentum(other), rho=radius)
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    assert opt.rho != idle.rho
    assert radius.rho == 0.1


def test_the_model_may_change_its_dtype_afterwards() -> None:
    model = network(dtype=torch.float32)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LearnedRadius(0.1, interval=1))
    assert opt.rho.dtype == torch.float32
    model.double()
    for i in range(3):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(9)))
    assert opt.rho.dtype == torch.float64
    assert opt.rho != 0.1


def test_state_dict_survives_a_file() -> None:
    model = network()
    opt = SAM(momentum(model), rho=0.1)
    opt.step(closure_on(model, batch(0)))
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    assert same_bits(torch.load(file, weights_only=True), opt.state_dict())


@pytest.mark.parametrize("loads", ["both", "model"])
def test_a_checkpoint_loaded_between_two_passes_by_hand_stands(loads: str) -> None:
    """The weights that were perturbed have got other values: there is nothing to go back to."""
    model = torch.nn.Sequential(network(), torch.nn.BatchNorm1d(3, dtype=torch.float64))
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.5, model=model)
    inputs = batch(0)[0]

    def backward() -> None:
        opt.zero_grad()
        model(inputs).square().mean().backward()

    def by_hand() -> None:
        backward()
        opt.ascent_step()
        backward()
        opt.descent_step()

    by_hand()
    kept = copy.deepcopy({"model": model.state_dict(), "opt": opt.state_dict()})
    by_hand()
    backward()
    opt.ascent_step()  # and here the loop is interrupted
    model.load_state_dict(kept["model"])
    if loads == "both":
        opt.load_state_dict(kept["opt"])
        assert same_bits([*model.state_dict().values()], [*kept["model"].values()])
    before = weights_of(model)
    by_hand()
    after = weights_of(model)
    twin = torch.nn.Sequential(network(), torch.nn.BatchNorm1d(3, dtype=torch.float64))
    twin.load_state_dict(kept["model"])
    assert same_bits(before, weights_of(twin))
    assert not same_bits(before, after)


def test_a_state_loaded_between_two_passes_by_hand_takes_the_weights_back() -> None:
    model = network()
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.5)
    kept, before = copy.deepcopy(opt.state_dict()), weights_of(model)
    closure_on(model, batch(0))()
    opt.ascent_step()
    assert not same_bits(weights_of(model), before)
    opt.load_state_dict(kept)
    assert same_bits(weights_of(model), before)


def test_a_closure_may_return_the_same_memory_every_time() -> None:
    model = network()
    opt = SAM(BASES["momentum"](model.parameters()), rho=LearnedRadius(0.3))
    total = torch.zeros((), dtype=torch.float64)

    def on(data: Any) -> Callable[[], Tensor]:
        clean = closure_on(model, data)
        return lambda: total.copy_(clean().detach())

    with torch.no_grad():
        expected, held_out = float(loss_on(model, batch(0))), float(loss_on(model, batch(50)))
    assert opt.step(on(batch(0)), on(batch(50))).item() == expected
    opt.step(on(batch(1)), on(batch(51)))
    with torch.no_grad():
        assert opt.metrics["training_loss"] != total
    assert expected != held_out


def test_z_is_not_taken_for_that_of_another_weight() -> None:
    """Of equal shape, trained in its place: there is no Z that fits, and the radius stays."""
    torch.manual_seed(0)
    halves = [torch.nn.Parameter(torch.randn(4, dtype=torch.float64)) for _ in "ab"]
    opt = SAM(torch.optim.SGD(halves, lr=0.1), rho=learned_radius(0.5, prior=None, burn_in=0, interval=1))

    def on(x: Tensor) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            opt.zero_grad()
            loss = ((x @ halves[0]) - (x @ halves[1]) ** 2).square().mean()
            loss.backward()
            return loss

        return closure

    x, v = torch.randn(2, 8, 4, dtype=torch.float64).unbind()
    for step in range(4):
        for place, half in enumerate(halves):
            half.requires_grad_(place == step % 2)
        opt.step(on(x), on(v))
        assert opt.metrics["hypergradient"] == 0
    opt.step(on(x), on(v))
    assert opt.metrics["hypergradient"] != 0
    assert opt.rho != 0.5


def test_a_validation_closure_that_cannot_be_called_is_named() -> None:
    model = network()
    opt = SAM(BASES["momentum"](model.parameters()), rho=0.1)
    before = weights_of(model)
    with pytest.raises(ValueError, match=r"^`validation_closure` must be a function that .*, got \[1\]$"):
        opt.step(closure_on(model, batch(0)), [1])  # pyright: ignore[reportArgumentType]
    opt.validation_closure = 5  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match=r"^`validation_closure` must be a function that .*, got 5$"):
        opt.step(closure_on(model, batch(0)))
    assert same_bits(weights_of(model), before)
