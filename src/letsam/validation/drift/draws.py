"""Random numbers by sample: a function of the sample's number alone, whatever batch, process or device it is in."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

_STEP = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64: 2**64 over the golden ratio


class Draws:
    """Random numbers for the samples of a batch, in tensors with a row for each.

    The generator is SplitMix64 (Steele et al., 2014): a hash of (number, position), so that a whole batch is drawn by a
    few operators on its device. Successive calls draw different numbers.

    Args:
        numbers: one for each sample, int64; see `sample_numbers`.

    Example:
        >>> numbers = sample_numbers(0, torch.arange(4))
        >>> both, last = Draws(numbers).uniform(3), Draws(numbers[3:]).uniform(3)
        >>> both.shape, both[3].equal(last[0])
        (torch.Size([4, 3]), True)
    """

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers
        self._used = 0

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.numbers)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform in [low, high), float32, shape ``(samples, *shape)``."""
        count = math.prod(shape)
        places = torch.arange(self._used, self._used + count, device=self.numbers.device)
        self._used += count
        bits = mixed(self.numbers[:, None] + mixed(places * _STEP + _STEP))
        drawn = ((bits >> 40) & 0xFFFFFF).float() / 2**24
        return (low + (high - low) * drawn).reshape(len(self), *shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, float32, shape ``(samples, *shape)``; by Box and Muller."""
        radius = (-2 * (1 - self.uniform(*shape)).log()).sqrt()
        return radius * (2 * math.pi * self.uniform(*shape)).cos()

    def signs(self, *shape: int) -> Tensor:
        """-1 or 1, float32, shape ``(samples, *shape)``."""
        return torch.where(self.uniform(*shape) < 0.5, -1.0, 1.0)

    def generators(self) -> list[random.Random]:
        """A generator of Python for each sample, for what is no arithmetic on tensors."""
        self._used += 1
        return [random.Random(f"{number} {self._used}") for number in self.numbers.tolist()]


def mixed(bits: Tensor) -> Tensor:
    """The output function of SplitMix64."""
    bits = (bits ^ _shifted_right(bits, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    bits = (bits ^ _shifted_right(bits, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return bits ^ _shifted_right(bits, 31)


def sample_numbers(seed: int, indices: Tensor, stream: int = 0) -> Tensor:
    """The numbers of samples, from a seed, their places in the data set and what the numbers are for."""
    start = mixed(torch.tensor((seed * 1_000_003 + stream) % 2**63, device=indices.device) + _STEP)
    return mixed(start + indices.long() * _STEP)


def _shifted_right(bits: Tensor, count: int) -> Tensor:
    """The logical shift; torch's is arithmetic."""
    return (bits >> count) & ((1 << (64 - count)) - 1)
