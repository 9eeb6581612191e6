"""A network, its optimizer, and what a check finds and could move."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import torch
from torch import nn

import letsam
from letsam import SharpnessAware
from letsam.doctor import Finding


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
