"""The real Fabric needs no adapter: closures with `fabric.backward`, and the optimizer's own `step`."""

from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

import letsam
from integrations.cases import cross_entropy, data, learned, network, same
from letsam.integrations import EndlessBatches


def trained(fabric: Fabric, steps: int, state: Any = None) -> tuple[torch.nn.Module, letsam.SAM, EndlessBatches[Any]]:
    torch.manual_seed(0)
    network_ = network()
    opt = learned(network_.parameters(), network_)
    model, prepared = fabric.setup(network_, opt)
    held_out = EndlessBatches(DataLoader(data(12, 2), 4, shuffle=True))
    if state is not None:
        model.load_state_dict(state["model"])
        prepared.load_state_dict(state["optimizer"])
        held_out.load_state_dict(state["held_out"])
        torch.set_rng_state(state["rng"])

    def closure_on(batch: Any) -> Tensor:
        prepared.zero_grad()
        loss = cross_entropy(model, batch)
        fabric.backward(loss)
        return loss

    opt.validation_closure = lambda: closure_on(next(held_out))
    for _ in range(steps):
        prepared.step(lambda: closure_on(data(8, 1)[:]))
    return network_, opt, held_out


def test_equals_a_loop_by_hand_bit_for_bit() -> None:
    model, opt, _ = trained(Fabric(accelerator="cpu", devices=1), 10)
    torch.manual_seed(0)
    other = network()
    twin = learned(other.parameters(), other)
    held_out = EndlessBatches(DataLoader(data(12, 2), 4, shuffle=True))

    def closure_on(batch: Any) -> Tensor:
        twin.zero_grad()
        loss = cross_entropy(other, batch)
        loss.backward()
        return loss

    for _ in range(10):
        twin.step(lambda: closure_on(data(8, 1)[:]), lambda: closure_on(next(held_out)))
    assert same(model, other)
    assert opt.rho == twin.rho != 0.05


def test_goes_on_from_a_saved_state_bit_for_bit() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    whole, opt, _ = trained(fabric, 10)
    half, half_opt, held_out = trained(fabric, 6)
    state = {
        "model": half.state_dict(),
        "optimizer": half_opt.state_dict(),
        "held_out": held_out.state_dict(),
        "rng": torch.get_rng_state(),
    }
    resumed, resumed_opt, _ = trained(fabric, 4, state)
    assert same(whole, resumed)
    assert opt.rho == resumed_opt.rho


def test_without_a_validation_closure_the_error_is_clear() -> None:
    fabric, model = Fabric(accelerator="cpu", devices=1), network()
    _, opt = fabric.setup(model, learned(model.parameters()))
    with pytest.raises(ValueError, match="`validation_closure` must be given for a learned radius"):
        opt.step(lambda: torch.zeros(()))
