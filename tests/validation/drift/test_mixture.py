"""Mixtures: parsed once, written as they are read, with the weights that they say."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import TensorDataset

from letsam.validation import Mixture, shifted


@pytest.mark.parametrize(
    "text", ["noise:2,blur:1", "noise:2+blur:1", "clean@0.75,noise:3@0.25", "labels:2", "typos:1,casing:5", "clean"]
)
def test_a_mixture_is_written_as_it_is_read(text: str) -> None:
    mixture = Mixture.parse(text)
    assert str(mixture) == text
    assert Mixture.parse(str(mixture)) == mixture


def test_modalities_are_told_from_the_names() -> None:
    texts = {"noise:2,blur:1": "image", "typos": "text", "quantiles:1": "table", "gain:1": "audio", "labels:1": None}
    assert {text: Mixture.parse(text).modality for text in texts} == texts
    with pytest.raises(ValueError, match="`shift` must name shifts of one modality, got blur, typos"):
        Mixture.parse("blur:1,typos:1")
    with pytest.raises(ValueError, match=r"`shift` must be of clean, affine.*got 'wind'"):
        Mixture.parse("wind:1")


def test_alternatives_are_as_frequent_as_their_weights() -> None:
    chosen = Mixture.parse("clean@6,noise:1@3,blur:2@1").chosen(3, torch.arange(20_000))
    assert (torch.bincount(chosen) / 20_000).tolist() == pytest.approx([0.6, 0.3, 0.1], abs=0.01)
    data = TensorDataset(torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(400))
    same = (shifted(data, "clean@3,noise:2")[:][0] - data.tensors[0]).abs().amax((1, 2, 3)) < 1e-5
    assert float(same.float().mean()) == pytest.approx(0.75, abs=0.07)


def test_steps_follow_one_another() -> None:
    """Noise that is blurred is weaker than blurred images with noise."""
    data = TensorDataset(torch.full((40, 1, 16, 16), 0.5), torch.zeros(40))
    given = {"value_range": (0.0, 1.0)}
    first, last = (shifted(data, text, **given)[:][0].std() for text in ("noise:3+blur:3", "blur:3+noise:3"))
    assert float(first) < 0.6 * float(last)
