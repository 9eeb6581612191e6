"""Read, restore and seed the state of the global random generators. Nothing here waits for a device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

States = dict[torch.device, Tensor]
CPU, META = torch.device("cpu"), torch.device("meta")
GOLDEN = 0x9E3779B97F4A7C15  # odd, so that its multiples differ in every number of low bits


def devices_of(tensors: Iterable[Tensor]) -> list[torch.device]:
    """The CPU, and every other device that holds one of the tensors."""
    return [CPU, *{tensor.device for tensor in tensors} - {CPU, META}]


def read_states(devices: Iterable[torch.device]) -> States:
    """A copy of the state of each device's generator."""
    return {device: _read(device) for device in devices}


def write_states(states: States) -> None:
    """Set each generator to its state."""
    for device, state in states.items():
        if device.type == "cpu":
            torch.set_rng_state(state)
        elif device.type == "mps":
            torch.mps.set_rng_state(state)
        else:
            torch.get_device_module(device).set_rng_state(state, device)


def stream(devices: Iterable[torch.device], number: int) -> States:
    """States of a separate random stream, which depends only on the global seed and `number`.

    Args:
        devices: of the generators.
        number: >= 0; different numbers give different streams, all different from the global one.

    Returns:
        A state for each device.
    """
    seed = (torch.initial_seed() + (number + 1) * GOLDEN) % 2**64
    return {device: torch.Generator(device).manual_seed(seed).get_state() for device in devices}


def _read(device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.get_rng_state()
    if device.type == "mps":
        return torch.mps.get_rng_state()
    return torch.get_device_module(device).get_rng_state(device)
