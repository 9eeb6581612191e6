"""`shifted`: what depends on the seed and the sample alone, in every form of data."""

from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from letsam.tasks import load_task
from letsam.tasks.text import TokenRows
from letsam.validation import Mixture, available_shifts, shifted
from letsam.validation.drift.known_shifts import MODALITIES


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


INPUTS: dict[str, Any] = {
    "image": torch.nn.functional.interpolate(random(24, 3, 7, 9), size=(24, 30), mode="bicubic").clamp(0, 1),
    "table": random(24, 6).square(),
    "audio": random(24, 800) - 0.5,
    "log-mel": random(24, 1, 20, 30) * 5 - 6,
    "text": [f"The quick brown fox number {'very ' * (i % 3)}jumps over lazy dogs" for i in range(24)],
}
TARGETS = torch.arange(24) % 3


class Listed(Dataset[Any]):
    """Pairs that are not in a `TensorDataset`."""

    def __init__(self, inputs: Any) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Any:
        return self.inputs[index], int(TARGETS[index])


ROWS = [(modality, name) for name, modality, _ in available_shifts() if modality != "any"]


def test_every_modality_has_shifts_with_a_line_of_description() -> None:
    assert {modality for modality, _ in ROWS} == set(MODALITIES)
    for name, _, description in available_shifts():
        assert name.isidentifier()
        assert "\n" not in description
        assert description


@pytest.mark.parametrize(("modality", "name"), ROWS)
def test_a_shift_changes_inputs_alone_and_more_with_its_severity(modality: str, name: str) -> None:
    data = Listed(INPUTS[modality])
    distances = []
    for severity in (1, 3, 5):
        found = shifted(data, f"{name}:{severity}", modality=modality, seed=2)
        samples = [found[i] for i in range(24)]
        assert [target for _, target in samples] == TARGETS.tolist()
        if modality == "text":
            pairs = list(zip(data.inputs, (text for text, _ in samples), strict=True))
            distances.append(sum(a != b for x, y in pairs for a, b in zip(x.ljust(90), y.ljust(90), strict=False)))
        else:
            inputs = torch.stack([one for one, _ in samples])
            assert inputs.dtype == torch.float32
            assert inputs.isfinite().all()
            if modality == "image":
                low, high = data.inputs.amin((0, 2, 3)), data.inputs.amax((0, 2, 3))
                assert (inputs.amin((0, 2, 3)) >= low - 1e-5).all()
                assert (inputs.amax((0, 2, 3)) <= high + 1e-5).all()
            distances.append(float((inputs - data.inputs).abs().mean()))
    assert 0 < distances[0] < distances[1] < distances[2], distances


@pytest.mark.parametrize(("modality", "name"), ROWS)
def test_the_shift_of_a_sample_depends_on_the_seed_and_its_place_alone(modality: str, name: str) -> None:
    """One by one, in batches of any order, and after pickling for another process."""
    data = Listed(INPUTS[modality])
    found = shifted(data, f"{name}:3,clean", modality=modality, seed=5)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1)).tolist()
    at_once = dict(zip(order, found.__getitems__(order), strict=True))  # pyright: ignore[reportAttributeAccessIssue]
    torch.manual_seed(99)
    other = pickle.loads(pickle.dumps(found))
    for place in range(24):
        single, batched = other[place][0], at_once[place][0]
        if modality == "text":
            assert single == batched
        else:
            torch.testing.assert_close(single, batched, rtol=1e-5, atol=1e-5)
    changed = shifted(data, f"{name}:3,clean", modality=modality, seed=6)
    assert any(str(changed[place]) != str(found[place]) for place in range(24))


@pytest.mark.parametrize("modality", ["image", "table", "audio", "log-mel"])
def test_clean_samples_of_a_mixture_stay_as_they_are(modality: str) -> None:
    name = next(name for kind, name in ROWS if kind == modality)
    data = TensorDataset(INPUTS[modality] * 1.7 - 0.31, TARGETS)
    mixture = Mixture.parse(f"clean,{name}:3", modality)
    clean = (mixture.chosen(5, torch.arange(24)) == 0).tolist()
    found = shifted(data, mixture, modality=modality, seed=5, scale=(0.3, 1.7))
    same = [torch.equal(found[i][0], data[i][0]) for i in range(24)]
    assert 0 < sum(clean) < 24
    assert all(one for one, kept in zip(same, clean, strict=True) if kept)
    assert not all(same)


def test_clean_texts_keep_tokens_that_decoding_would_lose() -> None:
    rows = [{"input_ids": torch.tensor([5, 1, 6 + i]), "attention_mask": torch.ones(3).long()} for i in range(24)]
    found = shifted(
        Listed(rows),
        "clean,dropped:5",
        seed=5,
        decode=lambda one: " ".join(str(i) for i in one["input_ids"].tolist() if i != 1),  # 1: unknown
        encode=lambda text: {
            "input_ids": torch.tensor([int(i) for i in text.split()]),
            "attention_mask": torch.ones(len(text.split())).long(),
        },
    )
    clean = Mixture.parse("clean,dropped:5", "text").chosen(5, torch.arange(24)) == 0
    same = [torch.equal(found[i][0]["input_ids"], rows[i]["input_ids"]) for i in range(24)]
    assert same == clean.tolist()


def test_a_tensor_dataset_is_shifted_at_once() -> None:
    data = TensorDataset(INPUTS["image"], TARGETS)
    found = shifted(data, "noise:3,blur:2", seed=1)
    assert type(found) is TensorDataset
    lazily = shifted(Listed(INPUTS["image"]), "noise:3,blur:2", seed=1)
    for (one, target), place in zip(found, range(24), strict=True):
        torch.testing.assert_close(one, lazily[place][0], rtol=1e-5, atol=1e-5)
        assert int(target) == int(TARGETS[place])
    assert torch.equal(data.tensors[0], INPUTS["image"])


def test_numbers_of_noise_are_what_they_say() -> None:
    images = torch.full((50, 1, 20, 20), 0.5)
    images[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    noise = shifted(TensorDataset(images, torch.zeros(50)), "noise:3")[:][0] - images
    assert float(noise[1:].std()) == pytest.approx(0.12, rel=0.02)
    assert float(noise[1:].mean()) == pytest.approx(0, abs=0.003)
    pairs = noise[1:].flatten(1)
    assert float(torch.corrcoef(pairs).fill_diagonal_(0).abs().max()) < 0.3  # each sample has its own


def test_bytes_and_standardized_images_get_the_same_shift() -> None:
    pixels = (random(8, 3, 12, 12) * 255).round().to(torch.uint8)
    pixels[0, :, 0, :2] = torch.tensor([0, 255], dtype=torch.uint8)
    targets = torch.zeros(8)
    as_bytes = shifted(TensorDataset(pixels, targets), "brightness:2")[:][0]
    standardized = shifted(TensorDataset((pixels / 255 - 0.4) / 0.2, targets), "brightness:2")[:][0]
    assert as_bytes.dtype == torch.uint8
    assert (as_bytes.float() - (standardized * 0.2 + 0.4) * 255).abs().max() <= 0.51


def test_a_loader_reads_batches_of_subsets() -> None:
    found = shifted(Listed(INPUTS["image"]), "affine:2", seed=3)
    (inputs, _), *_ = DataLoader(Subset(found, [4, 7]), batch_size=2)
    torch.testing.assert_close(inputs, torch.stack([found[4][0], found[7][0]]), rtol=1e-5, atol=1e-5)


def test_samples_may_be_dicts() -> None:
    data = [{"pixel_values": image, "labels": 1} for image in INPUTS["image"]]
    found = shifted(data, "noise", key="pixel_values")  # pyright: ignore[reportArgumentType]
    assert found[3]["labels"] == 1
    assert not torch.equal(found[3]["pixel_values"], INPUTS["image"][3])
    with pytest.raises(ValueError, match=r"`key` must name the input .* pixel_values, labels"):
        shifted(data, "noise")  # pyright: ignore[reportArgumentType]


def test_token_rows_lose_words_and_keep_their_ends() -> None:
    rows = torch.zeros(6, 10, dtype=torch.long)
    mask = torch.zeros_like(rows)
    for i in range(6):
        length = 5 + i % 4
        rows[i, :length] = torch.tensor([101, *range(7, 5 + length), 102])
        mask[i, :length] = 1
    data = TokenRows({"input_ids": rows, "attention_mask": mask}, torch.arange(6))
    found = shifted(data, "truncated:5")
    row = found[3][0]
    assert row["input_ids"].tolist() == [101, 7, 102] + [0] * 7
    assert row["attention_mask"].tolist() == [1, 1, 1] + [0] * 7
    with pytest.raises(ValueError, match="the shift `typos` needs text, got rows of tokens"):
        shifted(data, "typos:1")
    words = {7: "some", 8: "words", 9: "of", 10: "film"}

    def decode(one: Any) -> str:
        return " ".join(words.get(int(i), "") for i in one["input_ids"]).strip()

    assert shifted(data, "casing:5", decode=decode, encode=lambda text: text)[0][0].isupper()


@pytest.mark.parametrize("shift", ["labels:4", "groups:4"])
def test_shares_of_classes_and_groups_change(shift: str) -> None:
    targets = torch.arange(600) % 3
    data = TensorDataset(random(600, 4), targets)
    given = {"groups": [f"site {t}" for t in targets.tolist()]} if shift.startswith("groups") else {}
    found = shifted(data, shift, seed=1, **given)
    counts = torch.bincount(found[:][1])
    assert int(counts.sum()) == 600
    assert float(counts.max() / counts.min()) > 2
    known = {tuple(row.tolist()): int(t) for row, t in zip(*data.tensors, strict=True)}
    assert all(known[tuple(row.tolist())] == int(t) for row, t in zip(*found[:], strict=True))
    lazily = shifted(Listed(INPUTS["image"]), "labels:4+noise:1")
    assert lazily.targets.tolist() == [target for _, target in (lazily[i] for i in range(24))]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("data", "given", "message"),
    [
        ("image", {"shift": "noise:6"}, "`shift` needs a severity from 1 to 5 after the colon of 'noise', got '6'"),
        ("image", {"shift": "nois:2"}, "`shift` must be of clean, noise, .* for image data, got 'nois'"),
        ("image", {"shift": "typos:2"}, "`shift` must be of clean, noise, .* for image data, got 'typos'"),
        ("image", {"shift": ""}, "`shift` must name at least one shift"),
        ("image", {"shift": "noise:2,,blur"}, "`shift` must be written as"),
        ("image", {"shift": "noise:1@0"}, "`shift` needs a weight > 0"),
        ("image", {"shift": "auto"}, '`shift` = "auto" needs `deployed`'),
        ("image", {"shift": "noise", "deployed": [1]}, "`deployed` is used with"),
        ("image", {"shift": "groups:2"}, "the shift `groups` needs `groups`"),
        ("image", {"shift": "noise", "modality": "video"}, "`modality` must be one of"),
        ("image", {"shift": "noise", "modality": "table"}, r"inputs of table data must have 1 dimensions, got .*3, 24"),
        ("image", {"shift": "noise", "value_range": (1.0, 0.0)}, "`value_range` must be"),
        ("image", {"shift": Mixture.parse("typos:2")}, "`shift` must be one of image data, got typos:2, of text data"),
        ("table", {"shift": "noisy:2", "seed": -1}, "`seed` must be"),
        ("text", {"shift": "noise:1"}, "`shift` must be of clean, typos, .* got 'noise'"),
    ],
)
def test_what_does_not_fit_is_refused(data: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        shifted(Listed(INPUTS[data]), **given)
    assert "\n" not in str(caught.value)


def test_colour_needs_three_channels() -> None:
    with pytest.raises(ValueError, match="the shift `colour` needs images with 3 channels, got 1"):
        shifted(TensorDataset(random(4, 1, 8, 8), torch.zeros(4)), "colour:1")
    with pytest.raises(ValueError, match="the shift `blur` needs images of at least 3 pixels a side, got 2 x 8"):
        shifted(TensorDataset(random(4, 1, 2, 8), torch.zeros(4)), "blur:1")


@pytest.mark.parametrize("name", [name for modality, name in ROWS if modality == "image" and name != "colour"])
def test_small_images_have_five_severities(name: str) -> None:
    """Of 8 x 8 pixels, which filters and squares of whole pixels cannot tell apart as finely as larger ones."""
    digits = load_task("digits").test
    assert isinstance(digits, TensorDataset)
    images = digits.tensors[0][:300]
    data = TensorDataset(images, torch.zeros(300))
    distances = [float((shifted(data, f"{name}:{s}", seed=1)[:][0] - images).abs().mean()) for s in range(1, 6)]
    steps = [later / earlier for earlier, later in pairwise(distances)]
    assert all(step > 0.99 for step in steps), distances
    assert sum(step > 1.05 for step in steps) >= 3, distances
