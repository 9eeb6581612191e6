"""What is done to finished networks: against independent computations, and the network itself stays as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from benchmarks.robustness import treatments
from benchmarks.robustness.treatments import (
    BITS,
    CORRUPTION_SEED,
    EPOCHS,
    LR_FACTOR,
    accuracy_on,
    corruptions,
    fine_tuned,
    rounded,
    task_of,
    turned,
    with_rounded_weights,
)
from letsam.validation import available_shifts, shifted


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 2, 2)])
def test_rounded_weights_are_those_of_torchs_fake_quantization(bits: int, shape: tuple[int, ...]) -> None:
    weights = torch.randn(shape, generator=generator(bits))
    highest = 2 ** (bits - 1) - 1
    scale = torch.stack([channel.abs().max() for channel in weights]) / highest
    zeros = torch.zeros(len(weights), dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(weights, scale, zeros, 0, -highest, highest)
    torch.testing.assert_close(rounded(weights, bits), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bits", BITS)
def test_a_channel_has_few_values_and_keeps_its_largest(bits: int) -> None:
    weights = torch.randn(3, 4000, generator=generator())
    found = rounded(weights, bits)
    for channel, before in zip(found, weights, strict=True):
        assert 2 ** (bits - 1) < len(channel.unique()) <= 2**bits - 1
        assert channel.abs().max() == pytest.approx(before.abs().max().item(), rel=1e-6)
        assert (channel - before).abs().max() <= before.abs().max() / (2**bits - 2) * (1 + 1e-5)


def test_a_channel_of_zeros_stays() -> None:
    assert torch.equal(rounded(torch.zeros(2, 3), 4), torch.zeros(2, 3))


def test_only_weights_with_two_dimensions_are_rounded_and_in_a_copy() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=generator(parameter.numel()))
    before = state_of(model)
    found = with_rounded_weights(model, 3).state_dict()
    changed = {name for name in found if not torch.equal(found[name], before[name])}
    assert changed == {"0.weight", "3.weight"}
    assert torch.equal(found["3.weight"], rounded(before["3.weight"], 3))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_second_task_has_turned_images_and_the_same_labels() -> None:
    test = task_of("digits").test
    images, targets = test.tensors  # pyright: ignore[reportAttributeAccessIssue]
    again, same = turned(test).tensors
    assert torch.equal(same, targets)
    assert torch.equal(again, images.transpose(2, 3).flip(2))
    assert not torch.equal(again, images)


def test_every_shift_of_grey_images_is_among_the_corruptions() -> None:
    found = corruptions("digits")
    names = [name for name, kind, _ in available_shifts("image") if kind == "image" and name != "colour"]
    assert list(found) == [f"{name}:{severity}" for name in names for severity in (2, 4)]
    task = task_of("digits")
    low, high = (bound(task.train.tensors[0]).item() for bound in (torch.min, torch.max))  # pyright: ignore[reportAttributeAccessIssue]
    expected = shifted(task.test, "noise:4", seed=CORRUPTION_SEED, modality="image", value_range=(low, high))
    assert torch.equal(found["noise:4"].tensors[0], expected.tensors[0])  # pyright: ignore[reportAttributeAccessIssue]


def test_few_test_images_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(treatments, "IMAGES", 30)
    assert len(task_of("digits").test) == 30  # pyright: ignore[reportArgumentType]
    assert len(task_of("digits").train) == 1000  # pyright: ignore[reportArgumentType]


def test_the_accuracy_is_the_share_of_right_answers_in_evaluation_mode() -> None:
    task = task_of("digits")
    images, targets = task.test.tensors  # pyright: ignore[reportAttributeAccessIssue]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(64, 10)).train()
    right = (model[2](images.flatten(1)).argmax(1) == targets).double().mean()
    assert accuracy_on(model, task, task.test) == pytest.approx(right.item(), abs=1e-6)
    assert model.training


def test_fine_tuning_is_plain_sgd_on_the_second_task_in_a_copy() -> None:
    task = task_of("digits")
    torch.manual_seed(0)
    model = task.model()
    before = state_of(model)
    images, targets = turned(task.train).tensors
    oracle = copy.deepcopy(model)
    optimizer = torch.optim.SGD(oracle.parameters(), lr=0.05 * LR_FACTOR, momentum=0.9, weight_decay=5e-4)
    states = [state_of(found) for epochs, found in fine_tuned(model, task, seed=4) if epochs in EPOCHS]
    assert len(states) == len(EPOCHS)
    order = treatments.training_order((torch.arange(1000), 1000), 64, 4, 0)
    assert len(order) == 1000 // 64
    for batch in order:  # the first epoch
        optimizer.zero_grad()
        nn.functional.cross_entropy(oracle(images[batch]), targets[batch]).backward()
        optimizer.step()
    for name, value in oracle.state_dict().items():
        torch.testing.assert_close(states[0][name], value)
        assert not torch.equal(states[1][name], value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
