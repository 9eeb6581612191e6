"""State inside wrapped models counts once; the wrappers' own attributes are left to them. Metrics are modules, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from letsam import SAM, LearnedRadius
from oracle.problems import batch, closure_on, network, same_bits
from step.stateful import KINDS, after_one_pass, state_of


@pytest.fixture
def _group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def _fabric(model: nn.Module) -> nn.Module:
    return pytest.importorskip("lightning_fabric").Fabric(accelerator="cpu", devices=1).setup(model)


class Wrapper(nn.parallel.DistributedDataParallel):
    """Notes what its own flag was at each pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, find_unused_parameters=True)
        self.passes = 0

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        self.passes += 1
        return super().forward(*inputs, **kwargs)


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize("kind", ["counter", "cache", "hidden pair", "teacher"])
@pytest.mark.parametrize(
    "wrap", [Wrapper, _fabric, partial(torch.compile, backend="eager")], ids=["ddp", "fabric", "compile"]
)
def test_wrapped_models(wrap: Callable[[Any], Any], kind: str) -> None:
    torch.manual_seed(0)
    model = KINDS[kind]()
    wrapped = wrap(model)
    base = torch.optim.SGD(model.layer.parameters(), lr=0.1)
    opt = SAM(base, rho=LearnedRadius(0.2, interval=1), model=wrapped)
    for i in range(3):
        expected = after_one_pass(model, batch(i)[0])
        opt.step(closure_on(wrapped, batch(i)), closure_on(wrapped, batch(50 + i)))
        assert same_bits(state_of(model), expected)
    if isinstance(wrapped, Wrapper):
        assert wrapped.passes == 9


@pytest.mark.parametrize("given", [False, True])
def test_a_metric_counts_the_first_pass(given: bool) -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    model: Any = nn.ModuleDict(
        {"net": network(), "accuracy": torchmetrics.MeanMetric(), "all": torchmetrics.CatMetric()}
    )
    expected = torchmetrics.MeanMetric()
    opt = SAM(torch.optim.SGD(model["net"].parameters(), lr=0.5), rho=2.0, model=model if given else None)

    def closure_for(seed: int) -> Callable[[], torch.Tensor]:
        def closure() -> torch.Tensor:
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model["net"](batch(seed)[0]), batch(seed)[1])
            loss.backward()
            model["accuracy"](loss.detach())
            model["all"].update(loss.detach())
            return loss

        return closure

    losses = [opt.step(closure_for(i)) for i in range(4)]
    for loss in losses:
        expected(loss)
    assert (model["accuracy"].compute() == expected.compute()) == given
    assert len(model["all"].compute()) == (4 if given else 8)
    assert model["accuracy"]._update_count == (4 if given else 8)
    if given:
        assert torch.equal(model["all"].compute(), torch.stack(losses).to(model["all"].compute()))


def test_a_metric_that_is_reset_in_validation() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    model: Any = nn.ModuleDict({"net": network(), "mean": torchmetrics.MeanMetric()})
    opt = SAM(torch.optim.SGD(model["net"].parameters(), lr=0.5), rho=LearnedRadius(0.1, interval=1), model=model)

    def held_out() -> torch.Tensor:
        model["mean"].reset()
        return closure_on(model["net"], batch(9))()

    model["mean"].update(3.0)
    opt.step(closure_on(model["net"], batch(0)), held_out)
    assert model["mean"].compute() == 3.0
