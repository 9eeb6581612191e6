"""What the base optimizer has and the wrapper lacks can be read on the wrapper; copies and pickles do not recurse."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

import letsam
from oracle.problems import network


class WithModes(torch.optim.SGD):
    """Moves between modes, as schedule-free optimizers do."""

    mode = "train"

    def eval(self) -> str:
        self.mode = "eval"
        return "evaluates"

    @property
    def broken(self) -> int:
        raise AttributeError("inner")


def wrapped() -> Any:
    return letsam.SAM(WithModes(network().parameters(), lr=0.1), rho=0.1)


def test_attributes_and_methods_pass_through() -> None:
    opt = wrapped()
    assert opt.mode == "train"
    assert opt.eval() == "evaluates"
    assert opt.mode == opt.base_optimizer.mode == "eval"


def test_what_neither_has() -> None:
    opt = wrapped()
    assert not hasattr(opt, "train")
    with pytest.raises(AttributeError, match="'SAM' object has no attribute 'train'"):
        opt.train()
    assert not hasattr(opt, "broken")


def test_private_names_do_not_pass_through() -> None:
    """`_step_supports_amp_scaling` of a fused optimizer would tell GradScaler to leave the unscaling to the wrapper."""
    base = torch.optim.Adam(network().parameters(), fused=True)
    assert hasattr(base, "_step_supports_amp_scaling")
    assert not hasattr(letsam.SAM(base, rho=0.1), "_step_supports_amp_scaling")


def test_the_wrappers_own_names_come_first() -> None:
    opt = wrapped()
    opt.base_optimizer.rho, opt.base_optimizer.metrics = "theirs", "theirs"
    assert opt.rho == 0.1
    assert opt.metrics == {}


def test_copies_and_pickles() -> None:
    opt = wrapped()
    opt.eval()
    assert copy.copy(opt).base_optimizer is opt.base_optimizer
    for twin in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        assert twin.base_optimizer is not opt.base_optimizer
        assert twin.eval() == "evaluates"
    empty = letsam.SAM.__new__(letsam.SAM)
    with pytest.raises(AttributeError, match="'SAM' object has no attribute 'mode'"):
        _ = empty.mode  # pyright: ignore[reportUnknownMemberType]
