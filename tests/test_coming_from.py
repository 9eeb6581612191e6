"""Each loop of another implementation on docs/how-to/coming-from.md trains what letsam's loop below it trains."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import letsam
from oracle.problems import batch, flat, network
from page_code import ROOT, blocks_of, run_code

PAGE = "docs/how-to/coming-from.md"
LOOPS = [block for block in blocks_of(PAGE) if "for inputs" in block]
OTHERS = [place for place, block in enumerate(LOOPS) if "letsam." not in block]
PAIRS = [(max(o for o in OTHERS if o < place), place) for place in range(len(LOOPS)) if place not in OTHERS]


class TwoSteps(torch.optim.Optimizer):
    """The interface of davda54/sam, written from its description: rho in the groups, a class for the base."""

    def __init__(self, params: Any, base: type[torch.optim.Optimizer], rho: float = 0.05, **options: Any) -> None:
        super().__init__(params, {"rho": rho, **options})
        self.base_optimizer = base(self.param_groups, **options)

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        params = [(p, group["rho"]) for group in self.param_groups for p in group["params"]]
        length = flat([p.grad for p, _ in params]).norm()
        self.moves = [p.grad * (rho / (length + 1e-12)) for p, rho in params]
        for (p, _), move in zip(params, self.moves, strict=True):
            p.add_(move)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        for p, move in zip([p for group in self.param_groups for p in group["params"]], self.moves, strict=True):
            p.sub_(move)
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()


def trained(code: str) -> Tensor:
    names: dict[str, Any] = {
        "letsam": letsam,
        "torch": torch,
        "SAM": TwoSteps,
        "model": network(),
        "data": [batch(i) for i in range(5)],
        "loss_function": nn.functional.cross_entropy,
    }
    return flat(run_code(code, PAGE, names)["model"].parameters())


def test_the_page_has_three_other_implementations() -> None:
    assert len(OTHERS) == 3
    assert PAIRS == [(0, 1), (0, 2), (3, 4), (5, 6)]


@pytest.mark.parametrize(("other", "ours"), PAIRS)
def test_both_loops_train_the_same_weights(other: int, ours: int) -> None:
    for name in re.findall(r"^from (\w+) import", LOOPS[other], re.M):
        pytest.importorskip(name)
    theirs, start = trained(LOOPS[other]), flat(network().parameters())
    torch.testing.assert_close(trained(LOOPS[ours]), theirs, rtol=1e-6, atol=1e-7)
    assert (theirs - start).norm() > 0.05
    plain = LOOPS[ours].replace("rho=0.05", "rho=0.0")
    assert not torch.allclose(trained(plain), theirs, rtol=1e-4), "SAM, not its base optimizer"


def test_the_adaptive_form_is_asam() -> None:
    theirs = pytest.importorskip("pytorch_optimizer").SAM
    ends = []
    for own in (False, True):
        model = network()
        if own:
            opt: Any = letsam.ASAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5)
        else:
            opt = theirs(model.parameters(), torch.optim.SGD, rho=0.5, adaptive=True, lr=0.1)

        def closure(data: Any) -> Tensor:
            opt.zero_grad()  # noqa: B023
            loss = nn.functional.cross_entropy(model(data[0]), data[1])  # noqa: B023
            loss.backward()
            return loss

        for i in range(4):
            if not own:
                closure(batch(i))
            opt.step(lambda i=i: closure(batch(i)))
        ends.append(flat(model.parameters()))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)


def test_the_names_on_the_page_exist() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for name in set(re.findall(r"letsam\.(\w+)", text)):
        assert hasattr(letsam, name), name
    calls = re.findall(r"`letsam\.(GSAM|WSAM|LookSAM|FSAM)\(base, ([^`]*)\)`", text)
    assert {name for name, _ in calls} == {"GSAM", "WSAM", "LookSAM", "FSAM"}
    for name, options in calls:
        model = network()
        names = {"letsam": letsam, "base": torch.optim.SGD(model.parameters(), lr=0.1), "maximum": 0.1, "minimum": 0.01}
        run_code(f"letsam.{name}(base, {options.replace('alpha=...', 'alpha=0.4')})", PAGE, names)
    model = network()
    (block,) = [block for block in blocks_of(PAGE) if "active=" in block]
    opt = run_code(block, PAGE, {"letsam": letsam, "torch": torch, "model": model})["optimizer"]
    assert [opt.active(step) for step in (0, 5, 10)] == [True, False, True]
