"""A network with BatchNorm and dropout, and data, in float64: what the loops of the adapters are compared on."""

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import letsam
from learned_radius import learned_radius


def network(dropout: float = 0.2) -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3)).double()
    with torch.no_grad():
        for param in layers.parameters():
            param.normal_(std=0.5, generator=generator)
    return layers


def data(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return TensorDataset(inputs, torch.randint(3, (count,), generator=generator))


def learned(params: object, model: nn.Module | None = None, **options: object) -> letsam.SAM:
    """LETS-SAM over SGD with momentum; from its 6th step on it validates in every second one."""
    base = torch.optim.SGD(params, lr=0.1, momentum=0.9)  # pyright: ignore[reportArgumentType]
    return letsam.SAM(base, rho=learned_radius(0.05, interval=2, burn_in=5), model=model, **options)  # pyright: ignore[reportArgumentType]


def same(left: nn.Module, right: nn.Module) -> bool:
    """Whether all weights and buffers are equal, bit for bit."""
    other = right.state_dict()
    return all(torch.equal(value, other[name]) for name, value in left.state_dict().items())


def cross_entropy(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])
