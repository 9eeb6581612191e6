"""`letsam.check` finds each mistake, says nothing of a correct loop, and leaves no trace."""

from __future__ import annotations

import copy
import functools
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import letsam
from learned_radius import learned_radius
from letsam import ASAM, SAM, LearnedRadius, SharpnessAware
from letsam.cli import run
from letsam.doctor import Finding
from oracle.problems import BASES, batch, closure_on, loss_on, network, same_bits
from page_code import blocks_of, run_code

ROOT = Path(__file__).parents[2]
RADII: dict[str, Callable[[], Any]] = {
    "fixed": lambda: 0.1,
    "zero": lambda: 0,
    "cosine": lambda: letsam.CosineRadius(0.2, 0.1, 4),
    "budget": lambda: letsam.LossBudgetRadius(0.1, relative=True),
    "learned": lambda: LearnedRadius(0.1),
    "finite difference": lambda: learned_radius(0.1, hypergradient="finite_difference", interval=1),
    "paper": lambda: LearnedRadius.paper(0.1),
}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 3))
    return nn.Sequential(*layers).double()


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def codes(*arguments: Any, **options: Any) -> list[str]:
    return [finding.code for finding in letsam.check(*arguments, **options)]


def only(*arguments: Any, **options: Any) -> Finding:
    findings = letsam.check(*arguments, **options)
    assert len(findings) == 1, findings
    return findings[0]


def state_of(model: nn.Module, opt: SharpnessAware) -> Any:
    """Everything that a check could move, copied."""
    numpy = np.random.get_state()  # noqa: NPY002
    return copy.deepcopy(
        (
            dict(model.state_dict()),
            [(p.grad, id(p.grad)) for p in model.parameters()],
            [m.training for m in model.modules()],
            opt.state_dict(),
            dict(opt.metrics),
            opt.rho,
            (torch.get_rng_state(), random.getstate(), numpy[1].tolist(), numpy[2]),
        )
    )


# --- a correct loop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained", [0, 3])
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("variant", [SAM, ASAM])
def test_all_is_well_and_as_it_was(variant: Any, radius: str, trained: int) -> None:
    model = net()
    opt = variant(BASES["adamw"](model.parameters()), RADII[radius](), model=model)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1)
    for i in range(trained):
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
    before = state_of(model, opt)
    held_out = closure_on(model, batch(60))
    assert letsam.check(opt, closure_on(model, batch(9)), held_out, model, scheduler=scheduler) == []
    assert same_bits(state_of(model, opt), before)

    # and what comes next is what would have come
    twin, twin_opt = copy.deepcopy((model, opt))
    letsam.check(opt, closure_on(model, batch(9)), held_out)
    for m, o in ((model, opt), (twin, twin_opt)):
        torch.manual_seed(5)
        o.step(closure_on(m, batch(10)), closure_on(m, batch(61)))
    assert same_bits(state_of(model, opt)[3], state_of(twin, twin_opt)[3])
    assert same_bits(dict(model.state_dict()), dict(twin.state_dict()))


def test_nothing_moves_where_everything_is_wrong() -> None:
    """Also without a model, with gradients in place, and with closures that touch modes and other generators."""
    model = net()
    opt = SAM(sgd(model), LearnedRadius(0.1))
    closure_on(model, batch(0))()

    def closure() -> Tensor:
        random.random()
        np.random.rand()  # noqa: NPY002
        loss = loss_on(model.train(), batch(random.randrange(10**6)))
        loss.backward()
        return loss

    def held_out() -> Tensor:
        return closure_on(model.eval(), batch(1))()

    before = state_of(model, opt)
    found = letsam.check(opt, closure, held_out)
    assert [f.code for f in found] == ["not-deterministic", "buffers-move-in-each-pass"]
    assert "draws from random and numpy" in found[0].message
    assert same_bits(state_of(model, opt), before)


def test_an_exception_of_the_closures_own_comes_through() -> None:
    model = net()
    opt = SAM(sgd(model))

    def closure() -> Tensor:
        closure_on(model, batch(0))()
        raise RuntimeError("no data")

    before = state_of(model, opt)
    with pytest.raises(RuntimeError, match="no data"):
        letsam.check(opt, closure)
    assert same_bits(state_of(model, opt), before)
    opt.step(closure_on(model, batch(0)))  # no hook is left behind


# --- the closure ------------------------------------------------------------------------------------------------------


def test_the_loss_is_computed_once() -> None:
    for retain in (False, True):
        model = network()
        loss = loss_on(model, batch(0))

        def closure(loss: Tensor = loss, retain: bool = retain) -> Tensor:
            loss.backward(retain_graph=retain)
            return loss

        found = only(SAM(sgd(model)), closure)
        assert (found.code, found.severity) == ("not-recomputed", "error")
        assert "`closure` must recompute the loss at every call" in found.message


def stale_in(model: nn.Module, kept: str) -> Callable[[], Tensor]:
    """A closure that returns its first loss, or leaves its first gradients, or both."""
    first: dict[str, Any] = {}

    def closure() -> Tensor:
        loss = closure_on(model, batch(0))()
        first.setdefault("loss", loss.detach())
        first.setdefault("gradients", [p.grad.clone() for p in model.parameters() if p.grad is not None])
        if kept in ("gradients", "both"):
            for p, g in zip(model.parameters(), first["gradients"], strict=True):
                p.grad = g.clone()
        return first["loss"] if kept in ("loss", "both") else loss

    return closure


@pytest.mark.parametrize(("kept", "severity"), [("both", "error"), ("loss", "warning"), ("gradients", "warning")])
def test_the_closure_repeats_itself(kept: str, severity: str) -> None:
    model = network()
    found = only(SAM(sgd(model)), stale_in(model, kept))
    assert (found.code, found.severity) == ("not-recomputed", severity)
    opt = SAM(sgd(model), LearnedRadius(0.1))
    found = only(opt, closure_on(model, batch(1)), stale_in(model, kept))
    assert (found.code, found.severity) == ("not-recomputed", severity)
    assert found.message.startswith("`validation_closure`")


def test_gradients_disappear_at_the_second_call() -> None:
    model = network()
    calls = [0]

    def closure() -> Tensor:
        loss = loss_on(model, batch(0))
        model.zero_grad()
        if not calls[0]:
            loss.backward()
        calls[0] += 1
        return loss

    assert codes(SAM(sgd(model)), closure) == ["no-gradients"]


def test_gradients_are_not_cleared() -> None:
    model = network()
    opt = SAM(sgd(model))

    def closure() -> Tensor:
        loss = loss_on(model, batch(0))
        loss.backward()
        return loss

    found = only(opt, closure)
    assert (found.code, found.severity) == ("gradients-not-cleared", "warning")
    for to_none in (False, True):
        assert letsam.check(opt, lambda to_none=to_none: opt.zero_grad(to_none) or closure()) == []


def drawing(model: nn.Module, draw: Callable[[], int]) -> Callable[[], Tensor]:
    return lambda: closure_on(model, batch(draw()))()


def test_another_batch_at_every_call() -> None:
    model = network()
    opt = SAM(sgd(model), LearnedRadius(0.1))
    numbers = iter(range(100))
    found = only(opt, drawing(model, lambda: next(numbers)), closure_on(model, batch(200)))
    assert (found.code, found.severity) == ("not-deterministic", "error")
    assert "draws from" not in found.message
    found = only(opt, drawing(model, lambda: random.randrange(100)), closure_on(model, batch(200)))
    assert "(it draws from random)" in found.message
    found = only(opt, drawing(model, lambda: np.random.randint(100)), closure_on(model, batch(200)))  # noqa: NPY002
    assert "(it draws from numpy)" in found.message

    # torch's global generator is replayed, and a validation closure may draw what it likes
    drawn = drawing(model, lambda: int(torch.randint(100, ())))
    assert letsam.check(opt, drawn, drawing(model, lambda: 100 + next(numbers))) == []


@pytest.mark.parametrize("name", ["closure", "validation_closure"])
@pytest.mark.parametrize(
    ("code", "spoil", "says"),
    [
        ("no-return", lambda loss: None, "end it with `return loss`"),
        ("no-tensor", lambda loss: loss.item(), "got a float: return loss, without item"),
        ("no-scalar", lambda loss: loss.repeat(2), r"got a tensor of shape \(2,\): take its mean"),
        ("not-finite", lambda loss: loss * torch.nan, r"the loss \(nan\) is not finite"),
    ],
)
def test_what_the_closure_returns(code: str, spoil: Any, says: str, name: str) -> None:
    model = network()
    opt = SAM(sgd(model), LearnedRadius(0.1))
    closures: dict[str, Any] = {
        "closure": closure_on(model, batch(0)),
        "validation_closure": closure_on(model, batch(1)),
    }
    good = closures[name]
    closures[name] = lambda: spoil(good())
    found = only(opt, **closures)
    assert (found.code, found.severity) == (code, "error")
    assert f"`{name}`" in found.message
    assert re.search(says, found.message)


def test_an_infinite_gradient() -> None:
    model = network()

    def closure() -> Tensor:
        loss = closure_on(model, batch(0))()
        model[0].weight.grad.fill_(torch.inf)
        return loss

    found = only(SAM(sgd(model)), closure)
    assert found.code == "not-finite"
    assert "a gradient is not finite" in found.message


def test_a_loss_without_gradients() -> None:
    model = network()
    opt = SAM(sgd(model))

    def without_backward() -> Tensor:
        return loss_on(model, batch(0))

    def detached() -> Tensor:
        loss = loss_on(model, batch(0)).detach()
        loss.backward()
        return loss

    assert codes(opt, without_backward) == ["no-gradients"]
    assert codes(opt, detached) == ["loss-without-grad"]
    with torch.no_grad():
        constant = loss_on(model, batch(0))
    assert codes(opt, lambda: constant) == ["loss-without-grad"]
    detached_return = closure_on(model, batch(0))
    assert letsam.check(opt, lambda: detached_return().detach()) == []

    embedding = nn.Embedding(5, 2, sparse=True)
    opt = SAM(torch.optim.SGD(embedding.parameters(), lr=0.1))

    def sparse() -> Tensor:
        loss = embedding(torch.tensor([1])).square().sum()
        loss.backward()
        return loss

    assert codes(opt, sparse) == ["sparse-gradients"]


def test_the_closure_takes_the_step() -> None:
    model = network()
    opt = SAM(sgd(model))
    for stepping in (opt.step, opt.base_optimizer.step):
        before = state_of(model, opt)
        clean = closure_on(model, batch(0))

        def closure(stepping: Any = stepping, clean: Any = clean) -> Tensor:
            loss = clean()
            stepping(clean) if stepping == opt.step else stepping()
            return loss

        found = only(opt, closure)
        assert (found.code, found.severity) == ("closure-steps", "error")
        assert same_bits(state_of(model, opt), before)


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


# --- the whole --------------------------------------------------------------------------------------------------------


def test_errors_come_first() -> None:
    model = net()
    found = letsam.check(SAM(sgd(model), LearnedRadius(0.1)), closure_on(model, batch(0)))
    assert [f.severity for f in found] == ["error", "warning"]
    assert str(found[0]).startswith("error: a learned radius needs a validation closure")
    with pytest.raises(AttributeError):
        found[0].code = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_bad_arguments() -> None:
    model = network()
    opt, closure, bad = SAM(sgd(model)), closure_on(model, batch(0)), 3
    any_check: Any = letsam.check
    with pytest.raises(TypeError, match="`optimizer` must be a letsam optimizer, got SGD"):
        any_check(sgd(model), closure)
    with pytest.raises(ValueError, match=r"`closure` must be a function that clears .* got 3"):
        any_check(opt, bad)
    with pytest.raises(TypeError, match="`validation_closure` must be a function or None, got 3"):
        any_check(opt, closure, bad)
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module, got 3"):
        any_check(opt, closure, None, bad)
    with pytest.raises(ValueError, match="`model` must hold the weights of the optimizer, got a Linear"):
        any_check(opt, closure, None, nn.Linear(2, 2))
    with pytest.raises(TypeError, match="`scheduler` must be a learning rate scheduler or None, got 3"):
        any_check(opt, closure, scheduler=bad)


# --- the command ------------------------------------------------------------------------------------------------------

SCRIPT = """
import letsam, torch
from torch import nn
from learned_radius import learned_radius

model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))

def closure_on(opt, seed):
    inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(seed))
    def closure():
        opt.zero_grad()
        loss = model(inputs).square().mean()
        loss.backward()
        return loss
    return closure

def optimizer(**options):
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    return letsam.SAM(base, rho=letsam.LearnedRadius(0.05), **options)

def good():
    opt = optimizer(model=model)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1)
    return opt, closure_on(opt, 0), closure_on(opt, 1), model, scheduler

def by_name():
    opt = optimizer(model=model)
    return {"optimizer": opt, "closure": closure_on(opt, 0), "validation_closure": closure_on(opt, 1)}

def warned():
    opt = optimizer()
    return opt, closure_on(opt, 0), closure_on(opt, 1)

def wrong():
    opt = optimizer()
    return opt, closure_on(opt, 0), closure_on(opt, 0)

def nothing(): pass
def six(): return [1] * 6
def unknown(): return {"optimizer": optimizer(), "closure": None, "loader": 3}
def raising(): raise RuntimeError("no data")
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize(
    ("function", "status", "shown"),
    [
        ("good", 0, ["nothing is wrong"]),
        ("by_name", 0, ["nothing is wrong"]),
        ("warned", 0, ["warning", "buffers-move-in-each-pass", "running_mean"]),
        ("wrong", 1, ["error", "same-batch", "warning", "buffers-move-in-each-pass"]),
    ],
)
def test_the_command(
    script: Path, capsys: pytest.CaptureFixture[str], function: str, status: int, shown: list[str]
) -> None:
    assert run(["doctor", f"{script}:{function}"]) == status
    out = capsys.readouterr().out
    assert [out.find(text) for text in shown] == sorted(out.find(text) for text in shown)
    assert all(text in out for text in shown)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("nothing", "must return (optimizer, closure), optionally with more of"),
        ("six", "got [1, 1, 1, 1, 1, 1]"),
        ("unknown", "gives `loader`, expected optimizer, closure, validation_closure, model, scheduler"),
        ("raising", "raised RuntimeError: no data (script.py, line 41)"),
        ("missing", "has no function 'missing'; it has closure_on, optimizer, good"),
    ],
)
def test_the_command_fails_in_one_line(
    script: Path, capsys: pytest.CaptureFixture[str], function: str, says: str
) -> None:
    assert run(["doctor", f"{script}:{function}"]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_the_command_needs_a_file_and_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    for spec, says in (("digits", "must be written path/to/file.py:function"), ("no.py:f", "no.py does not exist")):
        assert run(["doctor", spec]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize("page", ["doctor", "compile", "plain-loop"])
def test_the_code_of_the_pages_runs(page: str) -> None:
    blocks = blocks_of(f"docs/how-to/{page}.md")
    assert blocks
    for block in blocks:
        run_code(block, page, {})
