"""Arithmetic over lists of tensors: the forms that the CPU gets, against plain sums in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from letsam.tensors import Buffers, add_consuming_, copy_unless_, lengths, norm
from letsam.tensors.foreach import MANY, PIECE, SMALL

KINDS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def some(dtype: torch.dtype, count: int = 2 * MANY) -> list[Tensor]:
    """Small and large ones, with gaps, without dimensions and without entries."""
    generator = torch.Generator().manual_seed(0)
    shapes: list[tuple[int, ...]] = [(), (0,), (2, PIECE), (SMALL,), *[(3, 5)] * (count - 4)]
    made = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    return [*made, made[-1].t(), made[2][:, ::3]]


@pytest.mark.parametrize("count", [8, 2 * MANY])
@pytest.mark.parametrize("dtype", KINDS)
def test_the_norm(dtype: torch.dtype, count: int) -> None:
    tensors = some(dtype, count)
    expected = torch.cat([t.double().reshape(-1) for t in tensors]).norm()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4  # torch adds up a million squares in their precision
    torch.testing.assert_close(norm(tensors).double(), expected, rtol=tolerance, atol=0.0)


@pytest.mark.parametrize("place", [0, 2, 3, 10, -1])
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("dtype", KINDS)
def test_lengths_are_finite_where_all_is(dtype: torch.dtype, value: float, place: int) -> None:
    tensors = some(dtype)
    assert all(length.isfinite() for length in lengths(tensors))
    tensors[2].fill_(300.0)  # its squares are beyond float16
    assert all(length.isfinite() for length in lengths(tensors))
    tensors[place].reshape(-1)[0:1].fill_(value)
    if place >= 0:
        assert not all(length.isfinite() for length in lengths(tensors))


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("dtype", KINDS)
def test_a_factor_is_not_rounded_to_the_weights(dtype: torch.dtype, each: bool) -> None:
    tensors = [torch.zeros(16, dtype=dtype), torch.zeros(4, 4, dtype=dtype).t()]
    others = [torch.full((16,), 3.0, dtype=dtype), torch.arange(16.0).to(dtype).view(4, 4)]
    factor = torch.tensor([0.1, 0.7] if each else 0.1, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    expected = [o.double() * f.double() for o, f in zip(others, factor.expand(2), strict=True)]
    add_consuming_(tensors, others, factor)
    for tensor, one in zip(tensors, expected, strict=True):
        assert torch.equal(tensor, one.to(dtype))


def test_memory_is_copied_bit_for_bit_or_not_touched() -> None:
    values = torch.tensor([-0.0, 0.0, torch.inf, -torch.inf, torch.nan, 1.0, 1e-45])
    live = [values.clone(), values.repeat(4, 1).t(), torch.arange(3), values[:4].bfloat16()]
    buffers = Buffers()
    buffers.copy_of([torch.full_like(t, 7) for t in live])
    copy_unless_(torch.tensor(True), buffers.taking(live))
    assert all((t == 7).all() for t in buffers.like(live))
    before = [t.clone() for t in live]
    copy_unless_(torch.tensor(False), buffers.taking(live))
    for t in live:
        t.zero_()
    copy_unless_(torch.tensor(False), buffers.giving(live))
    for now, then in zip(live, before, strict=True):
        same = now.contiguous().view(torch.uint8) == then.contiguous().view(torch.uint8)
        assert same.all()
