"""Random numbers by sample, against SplitMix64 in Python's whole numbers, and their distribution."""

from __future__ import annotations

import pytest
import torch

from letsam.validation.drift.draws import Draws, mixed, sample_numbers
from letsam.validation.drift.resampling import resampled


def by_hand(value: int) -> int:
    """Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014."""
    z = value % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_the_bits_are_those_of_splitmix64() -> None:
    values = [0, 1, -1, 12345678901234567, -(2**63), 2**63 - 1]
    assert [v % 2**64 for v in mixed(torch.tensor(values)).tolist()] == [by_hand(v) for v in values]
    assert mixed(torch.tensor([0x9E3779B97F4A7C15 - 2**64])).item() % 2**64 == 0xE220A8397B1DCDAF  # first of seed 0


def test_numbers_are_uniform_normal_and_independent() -> None:
    draws = Draws(sample_numbers(4, torch.arange(500)))
    uniform, normal = draws.uniform(200), draws.normal(200)
    assert [float(uniform.mean()), float(uniform.var())] == pytest.approx([1 / 2, 1 / 12], abs=0.003)
    assert [float(normal.mean()), float(normal.var())] == pytest.approx([0, 1], abs=0.02)
    assert float((normal**4).mean()) == pytest.approx(3, abs=0.1)
    for table in (uniform.T, uniform):  # between places, and between samples
        assert float(torch.corrcoef(table).fill_diagonal_(0).abs().max()) < 0.35
    assert torch.unique(uniform).numel() > 95_000
    assert uniform.min() >= 0
    assert uniform.max() < 1


def test_a_sample_draws_the_same_numbers_in_any_batch() -> None:
    whole, part = Draws(sample_numbers(1, torch.arange(9))), Draws(sample_numbers(1, torch.tensor([7, 2])))
    for draw in (lambda d: d.normal(3, 2), lambda d: d.uniform(5), lambda d: d.signs(1)):
        assert torch.equal(draw(whole)[[7, 2]], draw(part))
    assert [g.random() for g in whole.generators()][2] == [g.random() for g in part.generators()][1]


def test_resampled_units_have_other_shares_without_needless_repeats() -> None:
    units = torch.tensor([5] * 100 + [9] * 300)
    spreads = []
    for severity in (1, 3, 5):
        shares = torch.tensor([float((units[resampled(units, severity, s)] == 5).float().mean()) for s in range(40)])
        spreads.append(float((shares / (1 - shares)).log().std()))
    assert spreads[:2] == pytest.approx([0.3 * 2**0.5, 2**0.5], rel=0.35)
    assert spreads[2] > 1.4 * spreads[1]  # every unit keeps a sample, which limits it
    indices = resampled(units, 3, 1)
    assert len(indices) == 400
    assert indices.equal(indices.sort().values)
    counts = torch.bincount(indices, minlength=400)
    for unit in (5, 9):
        own = counts[units == unit]
        assert own.max() - own.min() <= 1
