"""The small problems that the tests of the core run on: float64, seeded, made without letsam."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
BaseFactory = Callable[[Iterable[Any]], torch.optim.Optimizer]

BASES: dict[str, BaseFactory] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "dampening": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd-maximize": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, maximize=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adam-decay": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.1),
    "adam-maximize": lambda p: torch.optim.Adam(p, lr=0.01, maximize=True, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, weight_decay=0.1),
    "rmsprop-centered": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "rmsprop-maximize": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, maximize=True),
}
WITHOUT_RULE: dict[str, BaseFactory] = {
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.02),
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """4 -> 6 -> 3 with tanh: smooth, so that central differences converge."""
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to(torch.float64)
    g = generator(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64) * 0.7)
    return model.to(dtype)


def normalised_network(seed: int = 3, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """The same with a LayerNorm after the first layer."""
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)).to(torch.float64)
    g = generator(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64))
    return model.to(dtype)


def batch(seed: int, size: int = 12, dtype: torch.dtype = torch.float64) -> Batch:
    g = generator(1000 + seed)
    x = torch.randn(size, 4, generator=g, dtype=torch.float64)
    y = torch.randint(0, 3, (size,), generator=g)
    return x.to(dtype), y


def loss_on(model: nn.Module, data: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(data[0]), data[1])


def closure_on(
    model: nn.Module, data: Batch, log: list[str] | None = None, name: str = "training"
) -> Callable[[], Tensor]:
    """A closure as `step` wants it; appends `name` to `log` at each call."""

    def closure() -> Tensor:
        if log is not None:
            log.append(name)
        model.zero_grad()
        loss = loss_on(model, data)
        loss.backward()
        return loss

    return closure


def descend(model: nn.Module, base: torch.optim.Optimizer, steps: int, first: int = 0) -> None:
    """`steps` plain steps of a base optimizer."""
    for i in range(first, first + steps):
        closure_on(model, batch(i))()
        base.step()


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def weights_of(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same_bits(left: Any, right: Any) -> bool:
    """Equal structure, types and bits; NaN equals NaN of the same bits."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        if left.dtype != right.dtype or left.shape != right.shape:
            return False
        a, b = left.detach().contiguous().reshape(-1), right.detach().contiguous().reshape(-1)
        return torch.equal(a.view(torch.uint8), b.view(torch.uint8))
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same_bits(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same_bits, left, right))
    return type(left) is type(right) and left == right


def snapshot(model: nn.Module, opt: torch.optim.Optimizer) -> tuple[Any, Any]:
    """Copies of the weights and of the optimizer's whole state."""
    return _copied(weights_of(model)), _copied(opt.state_dict())


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(v) for v in value)
    return value
