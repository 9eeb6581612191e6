"""A step does not make the host wait for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import letsam
from learned_radius import learned_radius
from letsam import ASAM, SAM, CosineRadius, LearnedRadius, SharpnessAware
from oracle.problems import batch, closure_on, network

ESTIMATORS = ("secant", "finite_difference", "diagonal")


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
