"""A step does not make the host wait for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from contract.pairwise import pairwise
from letsam import ASAM, SAM, SharpnessAware
from optimizer.cases import RADII
from oracle.problems import batch, closure_on, network


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


VARIANTS: dict[str, type[SharpnessAware]] = {"SAM": SAM, "ASAM": ASAM}
OPTIONS: dict[str, dict[str, Any]] = {
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "no momentum": {},
}


@pytest.mark.parametrize(("radius", "variant", "options"), pairwise([list(RADII), list(VARIANTS), list(OPTIONS)]))
def test_no_host_synchronisation(radius: str, variant: str, options: str) -> None:
    model = network(dtype=torch.float32)
    base = torch.optim.SGD(model.parameters(), lr=0.1, **OPTIONS[options])
    opt = VARIANTS[variant](base, rho=RADII[radius]())
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
