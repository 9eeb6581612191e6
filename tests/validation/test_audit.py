"""The audit finds planted faults of every kind, and nothing in clean data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from letsam.tasks import load_task
from letsam.validation import audit, shifted, split
from letsam.validation.auditing.audited import audited_part
from letsam.validation.auditing.label_checks import shares_differ
from letsam.validation.auditing.radius_probe import perceptron, slope_noise
from letsam.validation.drift.inputs import InputForm

Pair = tuple[Tensor, Tensor]


def blobs(seed: int, count: int = 300) -> Pair:
    """Three classes of overlapping normal distributions in 6 dimensions."""
    stream = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (count,), generator=stream)
    centres = 3 * torch.randn(3, 6, generator=torch.Generator().manual_seed(7))
    return centres[targets] + torch.randn(count, 6, generator=stream), targets


def parts(seed: int = 0, count: int = 300) -> tuple[Pair, Pair]:
    inputs, targets = blobs(seed, count)
    kept, held = split(targets, 0.25, seed=seed)
    return (inputs[kept], targets[kept]), (inputs[held], targets[held])


def examined(train: Pair, validation: Pair, deployed: Any = None, **options: Any) -> Any:
    return audit(TensorDataset(*train), TensorDataset(*validation), deployed, **{"probe": False, **options})


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_wrong_with_clean_data(seed: int) -> None:
    train, validation = parts(seed)
    groups = (range(len(train[0])), range(1000, 1000 + len(validation[0])))
    found = examined(
        train, validation, blobs(seed + 100, 80)[0] if seed < 6 else None, groups=groups, seed=seed, probe=seed < 2
    )
    assert [str(one) for one in found] == []
    assert str(found) == "nothing is wrong"
    assert found.measures["validation"] == 75


def test_nothing_is_wrong_with_digits() -> None:
    data = load_task("digits").train
    assert isinstance(data, TensorDataset)
    kept, held = split(data, 0.2, seed=1)
    found = examined(data[kept.tolist()], data[held.tolist()], load_task("digits").test, probe=True)
    assert [str(one) for one in found] == []
    assert found.measures["suspected_labels"] <= 10


def test_duplicates() -> None:
    train, validation = parts()
    validation[0][3], validation[1][3] = train[0][9], 2 - train[1][9]
    found = examined(train, validation)
    assert [one.code for one in found] == ["duplicates"]
    assert "1 of 75 validation samples are training samples" in found[0].message
    assert found.places["duplicates"] == [(3, 9)]


def test_near_duplicates() -> None:
    """Copies of training images with a little noise; also two of one image."""
    data = load_task("digits").train
    kept, held = split(data, 0.2, seed=1)
    train, validation = data[kept.tolist()], [part.clone() for part in data[held.tolist()]]
    noise = 0.02 * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    validation[0][[5, 6]] = train[0][[40, 40]] + noise
    found = examined(train, tuple(validation))
    assert [one.code for one in found] == ["near-duplicates"]
    assert found.places["near-duplicates"] == [(5, 40), (6, 40)]


def test_groups_and_times_on_both_sides() -> None:
    train, validation = parts()
    groups = [f"user {i % 50}" for i in range(225)], [f"user {i}" for i in range(49, 124)]
    found = examined(train, validation, groups=groups)
    assert [one.code for one in found] == ["group-leakage"]
    assert "1 of 75 groups of the validation data are trained on as well (user 49)" in found[0].message
    times = torch.arange(225.0), torch.arange(220.0, 295.0)
    found = examined(train, validation, times=times)
    assert [one.code for one in found] == ["time-leakage"]
    assert "4 of 225 training samples are later" in found[0].message
    second = 1_700_000_000 + torch.arange(300)  # float32 does not tell these apart
    assert list(examined(train, validation, times=(second[:225], second[225:]))) == []
    days = np.datetime64("2024-01-01") + np.arange(300)
    assert list(examined(train, validation, times=(days[:225], days[225:]))) == []
    assert [one.code for one in examined(train, validation, times=(days[75:], days[:75]))] == ["time-leakage"]


def test_other_shares_of_classes() -> None:
    train, validation = parts(count=600)
    kept = torch.nonzero((validation[1] != 0) | (torch.arange(150) % 4 == 0)).flatten()
    found = examined(train, (validation[0][kept], validation[1][kept]))
    assert "label-shares" in [one.code for one in found]
    assert {one.code for one in found} <= {"label-shares", "validation-differs"}  # other classes are other inputs


@pytest.mark.parametrize("kind", ["regression", "multilabel"])
def test_other_shares_of_numbers_and_labels(kind: str) -> None:
    train, validation = parts()
    numbers = [
        torch.randn(len(x), generator=torch.Generator().manual_seed(i)) for i, (x, _) in enumerate((train, validation))
    ]
    if kind == "multilabel":
        numbers = [torch.stack([n > 0, n > 1], dim=1).float() for n in numbers]
    assert list(examined((train[0], numbers[0]), (validation[0], numbers[1]), probe=True)) == []
    numbers[1] = numbers[1] + 0.8 if kind == "regression" else 1 - numbers[1]
    found = examined((train[0], numbers[0]), (validation[0], numbers[1]))
    assert [one.code for one in found] == ["label-shares"]


def test_wrong_labels() -> None:
    train, validation = parts()
    targets = validation[1].clone()
    wrong = torch.arange(0, 75, 5)
    targets[wrong] = (targets[wrong] + 1) % 3
    found = examined(train, (validation[0], targets))
    assert [one.code for one in found] == ["wrong-labels"]
    named = {place for name, place in found.places["wrong-labels"] if name == "validation"}
    assert len(named & set(wrong.tolist())) >= 10


def test_validation_and_deployed_data_that_differ() -> None:
    train, validation = parts()
    found = examined(train, (validation[0] * 1.6, validation[1]))
    assert [one.code for one in found] == ["validation-differs"]
    assert "AUC 0." in found[0].message
    data = load_task("digits")
    assert isinstance(data.train, TensorDataset)
    kept, held = split(data.train, 0.2, seed=1)
    deployed = shifted(data.test, "noise:3", seed=2)
    found = examined(data.train[kept.tolist()], data.train[held.tolist()], deployed)
    assert [(one.code, one.severity) for one in found] == [("deployed-differs", "error")]
    assert found.measures["deployed_auc"][1] > 0.8


def test_a_validation_set_that_is_too_small() -> None:
    train, validation = parts()
    found = examined(train, (validation[0][:12], validation[1][:12]), probe=True)
    assert [one.code for one in found] == ["validation-too-small"]
    assert "hold out at least 16" in found[0].message


def test_the_noise_of_slopes_falls_with_the_number_of_samples() -> None:
    """Of targets that are mostly noise, so that slopes of single samples differ."""
    stream = torch.Generator().manual_seed(1)
    inputs = torch.randn(2000, 5, generator=stream)
    targets = 0.3 * inputs[:, :1] + torch.randn(2000, 1, generator=stream)
    few, many = (
        slope_noise(
            (inputs[:100], targets[:100]),
            (inputs[-count:], targets[-count:]),
            torch.nn.functional.mse_loss,
            lambda: perceptron(5, 1),
        )
        for count in (16, 1600)
    )
    assert 0 < many.share < 0.3 * few.share < 0.3
    assert few.needed(few.share / 2) == pytest.approx(4 * 16, rel=0.2)


def test_texts_are_audited() -> None:
    films = ["a quiet film of small gestures", "loud and long and never dull", "a plot that goes nowhere slowly"]
    texts = [f"{films[i % 3]} {'very ' * (i % 4)}number {i * 7919 % 1000}" for i in range(120)]
    data = [(text, i % 3) for i, text in enumerate(texts)]
    train, validation = data[:90], [*data[90:], data[4]]
    found = audit(train, validation, probe=False)  # pyright: ignore[reportArgumentType]
    assert "duplicates" in [one.code for one in found]
    assert found.places["duplicates"] == [(30, 4)]


def test_samples_are_read_once() -> None:
    """Reading one may mean decoding a file."""
    inputs, targets = blobs(0, 40)
    read: list[int] = []

    class Files(Dataset[Any]):
        def __len__(self) -> int:
            return len(targets)

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            read.append(index)
            return inputs[index], int(targets[index])

    part = audited_part("train", Files(), InputForm.of(TensorDataset(inputs, targets), None))
    assert read == list(range(40))
    assert part.targets is not None
    assert part.targets.equal(targets)


def test_deployed_inputs_may_be_dicts_of_tokens() -> None:
    def row(i: int) -> dict[str, Tensor]:
        return {"input_ids": torch.arange(8) * (i % 7 + 1) + i}

    data = [(row(i), i % 2) for i in range(60)]
    found = audit(data[:40], data[40:], [row(i) for i in range(30)], probe=False)  # pyright: ignore[reportArgumentType]
    assert "deployed_auc" in found.measures


def test_what_cannot_be_audited_is_refused() -> None:
    train, validation = parts()
    with pytest.raises(TypeError, match="`validation` must be a map-style data set, got 3"):
        audit(TensorDataset(*train), 3, probe=False)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`groups` must have one value for each of 225 samples, got 2"):
        examined(train, validation, groups=([1, 2], range(75)))
    times = torch.arange(300.0)
    times[280] = float("nan")
    with pytest.raises(ValueError, match="`times` must be finite for each sample, got nan for sample 280"):
        examined(train, validation, times=(times[:225], times[225:]))
    targets = validation[1]
    for given, message in (
        ({"groups": 3}, r"`groups` must be a pair, of the training and the validation samples, got 3"),
        ({"groups": (range(225),)}, "`groups` must be a pair"),
        ({"times": (None, None)}, "`times` must have one value for each of 225 samples, got None"),
        ({"groups": ([None] * 225, range(75))}, "`groups` must name a group for each sample, got a missing value"),
        ({"names": (["a"], None)}, "`names` must have one for each of 225 samples, got 1"),
        ({"deployed": torch.zeros(1, 6)}, "`deployed` needs 10 inputs or more, got 1"),
        ({"deployed": torch.zeros(30, 7)}, r"`deployed` must have inputs of the shape \(6,\), got the shape \(7,\)"),
        ({"deployed": ["a text"] * 30}, "`deployed` must have tensors as inputs, got 'a text'"),
        ({"validation": (validation[0][:, 1:], targets)}, r"`validation` must have inputs of the shape \(6,\)"),
        ({"validation": (validation[0], targets.float())}, "`validation` must have targets for classification"),
        ({"validation": (validation[0], targets[:, None])}, r"`validation` must have targets of the shape \(\)"),
        ({"validation": (validation[0][:0], targets[:0])}, "`validation` must have at least 1 sample, got 0"),
        ({"validation": (validation[0], targets / 0)}, "`validation` must have finite targets, got 75 of 75 that are"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            examined(train, **{"validation": validation, **given})  # pyright: ignore[reportArgumentType]
    for train_data in (3, [1, 2], TensorDataset(torch.zeros(0, 4), torch.zeros(0))):
        with pytest.raises((ValueError, TypeError), match="`train` must"):
            audit(train_data, TensorDataset(*validation), probe=False)  # pyright: ignore[reportArgumentType]


def test_deployed_data_are_compared_with_training_data_where_validation_data_are_few() -> None:
    train, validation = parts()
    few = (validation[0][:9], validation[1][:9])
    (found,) = examined(train, few, blobs(5, 60)[0] + 3)
    assert found.code == "deployed-differs"
    assert found.what.startswith("a classifier tells deployed inputs from training inputs, AUC ")
    assert [one.code for one in examined(train, few, blobs(5, 60)[0])] == []


def test_the_smallest_images_and_sounds_of_other_lengths_are_audited() -> None:
    def both(*shape: int) -> list[TensorDataset]:
        stream = torch.Generator().manual_seed(0)
        return [TensorDataset(torch.rand(60, *shape, generator=stream), torch.arange(60) % 2) for _ in range(2)]

    assert not audit(*both(1, 1, 1), probe=False)
    longer = torch.rand(60, 80, generator=torch.Generator().manual_seed(1))
    assert "deployed_auc" in audit(*both(50), longer, modality="audio", probe=False).measures


def test_labels_that_cannot_be_told_are_named() -> None:
    """Those that no classifier predicts, and those of a small set whose classes overlap."""
    train, validation = parts()
    found = examined(train, validation)
    low, share, high = (found.measures["wrong_label_share"][place] for place in (1, 0, 2))
    assert 0 <= low <= share <= high < 0.1
    assert found.untold == ()
    stream = torch.Generator().manual_seed(0)
    train, validation = ((rows, torch.randint(0, 3, (len(rows),), generator=stream)) for rows, _ in (train, validation))
    found = examined(train, validation)
    assert "wrong_label_share" not in found.measures
    (sentence,) = found.untold
    assert sentence.startswith("whether labels are wrong cannot be told: a classifier predicts too few of them")


def test_rare_classes_that_are_missing_are_seen() -> None:
    """Ten of three classes on one side, none of two of them: fewer than five of each are expected."""
    targets = torch.arange(90) % 3
    assert shares_differ(targets, torch.full((10,), 2), "classification") < 0.002
    assert shares_differ(targets, torch.arange(12) % 3, "classification") > 0.9
