"""What `letsam.check` finds about base optimizers: subclasses without an update rule, and steps within a closure."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import letsam
from doctor.cases import codes, only
from letsam import SAM, LearnedRadius
from letsam.tangent import registered_rules
from oracle.problems import batch, closure_on, network


class OwnSGD(torch.optim.SGD):
    """A subclass."""


class Other(torch.optim.Adagrad):
    """A subclass of an optimizer without a rule."""


def opt_of(model: nn.Module, kind: type[torch.optim.Optimizer], rho: object) -> letsam.SAM:
    return SAM(kind(model.parameters(), lr=0.1), rho)  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_a_subclass_without_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_RULES", "_SAME_AS"):
        monkeypatch.setattr(registered_rules, name, dict(getattr(registered_rules, name)))
    model = network()
    closures = closure_on(model, batch(0)), closure_on(model, batch(1))
    found = only(opt_of(model, OwnSGD, LearnedRadius(0.1)), *closures)
    assert (found.code, found.severity) == ("subclass-without-rule", "warning")
    assert "letsam.register_update_rule(OwnSGD, torch.optim.SGD)" in found.message

    letsam.register_update_rule(OwnSGD, torch.optim.SGD)
    assert codes(opt_of(model, OwnSGD, LearnedRadius(0.1)), *closures) == []


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop, Other, torch.optim.Adagrad])
def test_other_bases(kind: type[torch.optim.Optimizer]) -> None:
    model = network()
    closures = closure_on(model, batch(0)), closure_on(model, batch(1))
    assert codes(opt_of(model, kind, LearnedRadius(0.1)), *closures) == []


def test_a_fixed_radius_needs_no_rule() -> None:
    model = network()
    assert codes(opt_of(model, OwnSGD, 0.1), closure_on(model, batch(0))) == []


def test_a_closure_that_steps_one_of_several_optimizers() -> None:
    model = network()
    bases = [torch.optim.SGD([p for p in model.parameters() if p.ndim == n], lr=0.1) for n in (1, 2)]
    opt = SAM(bases, rho=0.1)
    before = [p.detach().clone() for p in model.parameters()]

    def closure() -> Tensor:
        loss = closure_on(model, batch(0))()
        bases[1].step()
        return loss

    assert codes(opt, closure) == ["closure-steps"]
    assert all(map(torch.equal, before, model.parameters()))
    assert codes(opt, closure_on(model, batch(0))) == []
