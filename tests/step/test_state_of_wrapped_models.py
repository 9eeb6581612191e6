"""State inside wrapped models counts once; the wrappers' own attributes are left to them. Metrics are modules, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

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


class Sharded(nn.Module):
    """Counts its passes, and keeps an alias of a weight, which FSDP frees when it shards the weight again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.frozen = nn.Linear(4, 3).requires_grad_(False)
        self.calls = 0
        self.alias: Any = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.alias = self.last.weight.detach()
        return self.last(self.norm(self.first(x))) + self.frozen(x)


@pytest.mark.usefixtures("_group")
def test_fsdp2_after_a_pass_that_leaves_weights_whole() -> None:
    """After a pass without gradients the modules hold whole weights, whose memory is freed later."""
    model = Sharded().double()
    mesh = init_device_mesh("cpu", (1,))
    for module in (model.first, model):
        fully_shard(module, mesh=mesh)
    trained = [p for p in model.parameters() if p.requires_grad]
    opt = SAM(torch.optim.SGD(trained, lr=0.1), rho=LearnedRadius(0.2, interval=1), model=model)
    for i in range(3):
        model.eval()
        with torch.no_grad():
            model(batch(70 + i)[0])
        model.train()
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(50 + i)))
        assert model.calls == 2 * (i + 1)
        assert model.norm.num_batches_tracked == i + 1
    assert opt.metrics["skipped_steps"] == 0


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
