"""`shifted` with inputs that are small, broken, or of another form than usual: shifted properly, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from letsam.validation import Mixture, available_shifts, shifted

IMAGE_SHIFTS = [name for name, modality, _ in available_shifts("image") if modality == "image"]


class Samples(Dataset[Any]):
    """Inputs in a list, with the target 0."""

    def __init__(self, inputs: Any) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Any:
        return self.inputs[index], 0


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def images(*shape: int) -> TensorDataset:
    return TensorDataset(random(6, *shape), torch.zeros(6))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 50), (1, 2, 2), (3, 3, 3), (4, 5, 7), (12, 16, 9)], ids=str)
@pytest.mark.parametrize("name", IMAGE_SHIFTS)
def test_images_of_any_size_and_channels_are_shifted_or_refused(name: str, shape: tuple[int, ...]) -> None:
    data = images(*shape)
    needs = {"blur": 3, "motion": 3, "snow": 3, "rain": 2}
    if name == "colour" and shape[0] != 3:
        with pytest.raises(ValueError, match="the shift `colour` needs images with 3 channels"):
            shifted(data, "colour:5")
    elif min(shape[1:]) < needs.get(name, 1):
        with pytest.raises(ValueError, match=f"the shift `{name}` needs images of at least {needs[name]} pixels"):
            shifted(data, f"{name}:5")
    else:
        found = shifted(data, f"{name}:5")[:][0]
        assert found.shape == data.tensors[0].shape
        assert found.isfinite().all()


@pytest.mark.parametrize(
    ("inputs", "shift", "given", "message"),
    [
        (
            torch.rand(6, 3, 8, 8).index_fill(0, torch.tensor(2), float("nan")),
            "noise",
            {},
            "finite .* 1 of 6 .* sample 2",
        ),
        (
            torch.rand(6, 3, 8, 8).index_fill(0, torch.tensor(2), float("inf")),
            "noise",
            {},
            "finite .* 1 of 6 .* sample 2",
        ),
        (torch.rand(6, 4).index_fill(0, torch.tensor(1), float("nan")), "noisy", {}, "finite .* 1 of 6 .* sample 1"),
        (torch.ones(6, 2, 8, 8), "noise", {}, "`value_range` must be given: `dataset` has the value 1.0 alone"),
        (torch.rand(6, 32, 32, 3), "noise", {}, "must have the channels first, got the shape .*: permute them"),
        (torch.rand(6, 0), "noisy", {}, r"must have at least one number, got the shape \(0,\)"),
        (torch.rand(6, 8), "noise", {"modality": "image"}, "inputs of image data must have 3 dimensions"),
        (torch.rand(6, 3, 8, 8), "noise", {"value_range": 1}, r"`value_range` must be \(black, white\), got 1"),
        (torch.rand(6, 3, 8, 8), "noise", {"value_range": ([0, 0], [1, 1])}, "one for each of 3 channels, got 2 and 2"),
        (torch.rand(6, 4, 4), "gain", {"modality": "log-mel", "scale": (0, 0)}, "`scale` must be > 0"),
        (torch.rand(6, 4, 4), "gain", {"modality": "log-mel", "scale": (0,)}, r"`scale` must be \(mean, deviation\)"),
        ([torch.rand(3, 8, 8), torch.rand(3, 9, 9)], "noise", {}, r"one shape, got \(3, 8, 8\) and \(3, 9, 9\)"),
        ([np.zeros((3, 8, 8))] * 3, "noise", {}, "`modality` must be given: it cannot be told from the inputs"),
        ([], "noise", {}, "`dataset` must have at least 1 sample, got 0"),
    ],
)
def test_what_cannot_be_shifted_is_refused(inputs: Any, shift: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        shifted(Samples(inputs), shift, **given)
    assert "\n" not in str(caught.value)


def test_what_is_no_data_set_of_samples_is_refused() -> None:
    for data, message in (
        (3, "must be a map-style"),
        ([1, 2], "must have .* pairs or dicts"),
        ("ab", "must have .* pairs or dicts"),
    ):
        with pytest.raises(TypeError, match=f"`dataset` {message}"):
            shifted(data, "noise")  # pyright: ignore[reportArgumentType]
    mixed = shifted(Samples(["a text", 5]), "typos")
    with pytest.raises(ValueError, match="`dataset` must have texts as inputs, got 5"):
        mixed[1]


def test_a_constant_channel_has_the_range_of_all() -> None:
    pixels = random(6, 4, 8, 8)
    pixels[:, 3] = 0.9  # such as the opacity
    found = shifted(TensorDataset(pixels, torch.zeros(6)), "brightness:2")[:][0]
    assert found.isfinite().all()
    assert found.max() <= 1
    assert (found[:, 3] >= 0.9).all()
    assert float((found - pixels)[:, :3].mean()) > 0.1


def test_numbers_of_any_type_keep_it() -> None:
    for kind in (torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64):
        pixels = (random(6, 1, 8, 8) * 250).to(kind)
        found = shifted(TensorDataset(pixels, torch.zeros(6)), "brightness:5")[:][0]
        assert found.dtype == kind
        assert (found.double() - pixels.double()).mean() > 30


def test_waveforms_of_whole_numbers_are_clipped_where_their_type_ends() -> None:
    waves = ((random(20, 400) - 0.5) * 8000).to(torch.int16)
    found = shifted(TensorDataset(waves, torch.zeros(20)), "gain:1", modality="audio")[:][0]
    assert found.dtype == torch.int16
    ratios = found.double().std(1) / waves.double().std(1)
    assert 1 / 1.42 < float(ratios.min()) < 0.9
    assert 1.1 < float(ratios.max()) < 1.42
    large = TensorDataset((random(20, 400) - 0.5) * 2000, torch.zeros(20))  # floats that are not in [-1, 1]
    ratios = shifted(large, "gain:1", modality="audio")[:][0].std(1) / large.tensors[0].std(1)
    assert float(ratios.min()) > 0.6


def test_rows_of_tokens_in_one_tensor_keep_their_length() -> None:
    rows = torch.zeros(20, 9, dtype=torch.long)
    for i in range(20):
        rows[i, : 5 + i % 4] = torch.tensor([101, *range(7, 10 + i % 4), 102])
    found = shifted(TensorDataset(rows, torch.arange(20)), "truncated:5")
    assert found[3][0].tolist() == [101, 7, 102, 0, 0, 0, 0, 0, 0]
    batch, targets = next(iter(DataLoader(found, batch_size=20)))
    assert batch.shape == rows.shape
    assert targets.tolist() == list(range(20))


@pytest.mark.parametrize("name", ["typos", "dropped", "casing", "truncated"])
def test_texts_of_all_scripts_are_shifted(name: str) -> None:
    """Each keeps its own letters, and a shift of severity 5 changes it, or leaves what it cannot change."""
    texts = [
        "مرحبا بالعالم، كيف حالك اليوم يا صديقي العزيز",
        "שלום עולם מה שלומך היום חבר יקר שלי",
        "これは検証用の日本語の文章です。句読点もあります。",
        "这是一个没有空格的中文句子。第二句用于测试。",
        "Привет мир как дела сегодня дорогой друг",
    ]
    texts = [text * 3 for text in texts]
    found = shifted(Samples(texts), f"{name}:5")
    for place, text in enumerate(texts):
        changed = found[place][0]
        assert (changed != text) == (name != "casing" or text.upper() != text), changed
        assert set(changed) <= set(text) | set(text.upper()) | set("йцукенгшщзхъфывапролджэячсмитьбю")
    unchanged = ["", " ", "🙂"]
    assert [shifted(Samples(unchanged), f"{name}:5")[i][0] for i in range(3)] == unchanged


def test_spaces_and_lines_of_texts_stay() -> None:
    text = "one\ttwo  three\n\nfour five"
    assert shifted(Samples([text]), "casing:5")[0][0] == text.upper()
    assert shifted(Samples([text]), "truncated:2")[0][0] == "one\ttwo  three\n\nfour"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (((), ()), "`weights` must have one number for each of the `alternatives`, at least one, got 0 for 0"),
        ((((("noise", 9),),), (1.0,)), "`alternatives` must have severities from 1 to 5, got 9 for 'noise'"),
        ((((("noize", 2),),), (1.0,)), "`alternatives` must be one of noise, .*, did you mean 'noise'"),
        ((((("noise", 2),),), (-1.0,)), "`weights` must be > 0, got -1.0"),
        ((((("noise", 2),), ()), (1.0, 1.0)), "`weights` must add up to 1, got 2"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(*given, modality="image")


@pytest.mark.parametrize("text", ["clean:3", "clean+noise:2", "noise:1,noise+clean"])
def test_clean_stands_alone(text: str) -> None:
    with pytest.raises(ValueError, match="`shift` has `clean` alone, without severity and other shifts"):
        Mixture.parse(text)
