"""Subsets, label noise, and the targets of any dataset."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from letsam.tasks import label_noise, targets_of, with_label_noise
from letsam.tasks.subset import stratified_order


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dataset(samples: int = 6) -> TensorDataset:
    return TensorDataset(torch.zeros(samples, 4), torch.arange(samples) % 3)


class Items(Dataset[tuple[str, int]]):
    """A map-style dataset that is no TensorDataset, with inputs that are no tensors."""

    def __init__(self, targets: list[Any]) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[str, Any]:
        return f"sample {index}", self.targets[index]


class Unread(Dataset[Any]):
    """Samples that are dear to load, with their targets at hand."""

    def __init__(self, targets: Tensor) -> None:
        self.targets = targets
        self.target_transform: Callable[[int], int] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.target_transform is None:
            raise AssertionError("a sample was loaded")
        return torch.zeros(1), self.target_transform(int(self.targets[index]))


def test_targets_at_hand_are_taken_without_loading_samples() -> None:
    data = Unread(torch.arange(6) % 3)
    assert targets_of(Subset(data, [5, 0])).tolist() == [2, 0]
    assert targets_of(with_label_noise(data, 0.5, generator=generator())).shape == (6,)
    data.target_transform = lambda target: 2 - target  # then the samples have others
    assert targets_of(data).tolist() == [2, 1, 0, 2, 1, 0]


def test_every_prefix_of_the_stratified_order_is_stratified() -> None:
    targets = torch.repeat_interleave(torch.arange(4), torch.tensor([10, 100, 55, 35]))
    order = stratified_order(targets, seed=3)

    assert torch.equal(order.sort().values, torch.arange(200))
    for size in (1, 7, 20, 63, 100, 199):
        counts = torch.bincount(targets[order[:size]], minlength=4)
        assert (counts - size * torch.bincount(targets) / 200).abs().max() <= 1.5
    assert torch.equal(order, stratified_order(targets, seed=3))
    assert not torch.equal(order, stratified_order(targets, seed=4))


@pytest.mark.parametrize("noise", [0.004, 0.1, 0.4, 0.999])
def test_noise_hits_exactly_its_share_and_always_changes_the_class(noise: float) -> None:
    clean = TensorDataset(torch.randn(333, 2), torch.arange(333) % 7)
    noisy = with_label_noise(clean, noise, generator=generator())
    targets = targets_of(noisy)

    assert isinstance(noisy, TensorDataset)
    assert int((targets != targets_of(clean)).sum()) == round(noise * 333)
    assert set(targets.tolist()) <= set(range(7))
    assert targets.dtype == torch.int64
    assert noisy.tensors[0] is clean.tensors[0]
    assert targets_of(clean).tolist() == [number % 7 for number in range(333)]


def test_noise_is_symmetric() -> None:
    """Every class turns into each of the others about equally often, and every sample is hit about equally often."""
    clean = TensorDataset(torch.zeros(30000, 1), torch.arange(30000) % 3)
    noisy = targets_of(with_label_noise(clean, 0.6, generator=generator()))
    counts = torch.bincount(targets_of(clean) * 3 + noisy, minlength=9).reshape(3, 3)
    assert (counts.diagonal() - 4000).abs().max() < 300
    off_diagonal = counts[~torch.eye(3, dtype=torch.bool)]
    assert (off_diagonal - 3000).abs().max() < 300
    hit = (noisy != targets_of(clean)).float()
    assert abs(hit[:15000].mean() - hit[15000:].mean()) < 0.03


def test_noise_depends_on_the_generator_only() -> None:
    clean = dataset(100)
    torch.manual_seed(1)
    first = targets_of(with_label_noise(clean, 0.4, generator=generator(5)))
    state = torch.get_rng_state()
    again = targets_of(with_label_noise(clean, 0.4, generator=generator(5)))

    assert torch.equal(first, again)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, targets_of(with_label_noise(clean, 0.4, generator=generator(6))))


def test_noise_uses_classes_that_do_not_occur() -> None:
    clean = TensorDataset(torch.zeros(200, 1), torch.zeros(200, dtype=torch.int32))
    noisy = targets_of(with_label_noise(clean, 0.5, 4, generator=generator()))
    assert set(noisy.tolist()) == {0, 1, 2, 3}
    assert noisy.dtype == torch.int32


@pytest.mark.parametrize("as_tensors", [True, False])
def test_noise_wraps_any_map_style_dataset(as_tensors: bool) -> None:
    values = [number % 3 for number in range(50)]
    clean = Items([torch.tensor(value) for value in values] if as_tensors else values)
    noisy: Any = with_label_noise(clean, 0.3, generator=generator())

    assert not isinstance(noisy, TensorDataset)
    assert len(noisy) == 50
    assert [noisy[index][0] for index in range(50)] == [f"sample {index}" for index in range(50)]
    assert isinstance(noisy[0][1], torch.Tensor if as_tensors else int)
    assert sum(int(noisy[index][1]) != values[index] for index in range(50)) == 15
    assert targets_of(noisy).tolist() == [int(noisy[index][1]) for index in range(50)]


def test_noise_is_the_same_for_the_same_targets_in_any_dataset() -> None:
    tensors = with_label_noise(dataset(50), 0.3, generator=generator())
    items = with_label_noise(Items(targets_of(dataset(50)).tolist()), 0.3, generator=generator())
    assert torch.equal(targets_of(tensors), targets_of(items))


def test_no_noise_returns_the_dataset_itself_whatever_its_targets() -> None:
    regression = TensorDataset(torch.zeros(5, 1), torch.zeros(5))
    assert with_label_noise(regression, 0.0, generator=generator()) is regression
    tiny = dataset(3)
    assert with_label_noise(tiny, 0.1, generator=generator()) is tiny


@pytest.mark.parametrize("noise", [-0.1, 1.0, 1.5, float("nan")])
def test_noise_out_of_range(noise: float) -> None:
    with pytest.raises(ValueError, match=rf"`label_noise` must be at least 0 and less than 1, got {noise}"):
        with_label_noise(dataset(), noise, generator=generator())


@pytest.mark.parametrize(
    ("targets", "classes", "message"),
    [
        (
            torch.zeros(5),
            None,
            r"`label_noise` needs one whole-number class per sample, got targets of type torch\.float32",
        ),
        (torch.zeros(5, dtype=torch.bool), None, r"got targets of type torch\.bool"),
        (torch.zeros(5, 2, dtype=torch.long), None, r"and shape \(5, 2\)"),
        (torch.zeros(5, dtype=torch.long), None, r"at least 2 classes .* got targets from 0 to 0 and 1 classes"),
        (torch.tensor([-1, 0, 1]), None, r"got targets from -1 to 1"),
        (torch.tensor([0, 1, 5]), 3, r"got targets from 0 to 5 and 3 classes"),
    ],
)
def test_noise_needs_classes(targets: torch.Tensor, classes: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        with_label_noise(TensorDataset(torch.zeros(len(targets), 1), targets), 0.4, classes, generator=generator())
    assert "\n" not in str(caught.value)


def test_targets_of_reads_every_kind_of_dataset() -> None:
    data = dataset(6)
    assert targets_of(data) is data.tensors[1]
    assert targets_of(Subset(data, [4, 0, 5])).tolist() == [1, 0, 2]
    assert targets_of(Subset(Items([7, 8, 9]), [2, 0])).tolist() == [9, 7]
    assert targets_of(Items([0.5, 1.5])).tolist() == [0.5, 1.5]
    with pytest.raises(ValueError, match=r"targets must be numbers or tensors of one common shape"):
        targets_of(Items([torch.zeros(1), torch.zeros(2)]))
    with pytest.raises(ValueError, match=r"targets must be numbers or tensors of one common shape"):
        targets_of(Items([{"label": 1}]))


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Counts how often a sample is loaded, as an image would be decoded."""

    def __init__(self, **attributes: object) -> None:
        self.loaded = 0
        self.labels_of_samples = [0, 1, 2, 1, 0, 2, 2]
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index >= 7:
            raise IndexError
        self.loaded += 1
        return torch.zeros(1), self.labels_of_samples[index]


LABELS = [0, 1, 2, 1, 0, 2, 2]


@pytest.mark.parametrize("name", ["targets", "labels"])
@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_listed_targets_are_not_read_from_the_samples(name: str, kind: Callable[[list[int]], object]) -> None:
    """But for three of them, which must agree."""
    data = Pictures(**{name: kind(LABELS)})
    assert targets_of(data).tolist() == LABELS
    assert targets_of(Subset(data, [6, 1])).tolist() == [2, 1]
    assert targets_of(ConcatDataset([data, data])).tolist() == LABELS * 2
    assert data.loaded <= 4 * 3


@pytest.mark.parametrize("listed", [[0] * 7, [1, 2], "abcdefg", 3, [None] * 7, list("abcdefg")])
def test_a_list_that_is_none_of_targets_is_not_taken(listed: object) -> None:
    assert targets_of(Pictures(targets=listed)).tolist() == LABELS
    transformed = Pictures(targets=[1, 2, 3, 2, 1, 3, 3], target_transform=lambda target: target - 1)
    assert targets_of(transformed).tolist() == LABELS


def test_samples_are_loaded_once_for_their_targets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = Pictures()
    assert targets_of(data).tolist() == targets_of(Subset(data, range(7))).tolist() == LABELS
    assert (data.loaded, caplog.records) == (7, [])
    monkeypatch.setattr(label_noise, "PATIENCE", -1.0)
    targets_of(Pictures())
    assert [one.getMessage() for one in caplog.records] == [
        "all 7 samples of Pictures are loaded for their targets; a data set with an attribute `targets` is not"
    ]
