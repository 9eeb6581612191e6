"""Outputs adjusted to the shares of the classes in the validation data."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, Subset, TensorDataset

from letsam import LearnedRadius, Objective, SharpnessAware
from letsam.tasks import Task, load_task, targets_of
from letsam.tasks.label_noise import known_targets
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.held_out_loss import PATIENCE, AdjustedLoss, held_out_loss
from letsam.training.loop import Training
from letsam.training.methods import Method
from letsam.validation import class_shift

CPU = torch.device("cpu")
EVEN, RARE = torch.arange(3).repeat(60), torch.tensor([0] * 70 + [1] * 15 + [2] * 5)


def test_the_shift_is_the_logarithm_of_the_ratio_of_the_shares() -> None:
    found = class_shift(EVEN, RARE)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.exp(), torch.tensor([70, 15, 5]) / 30, rtol=0.1, atol=0)


def test_the_adjusted_outputs_are_calibrated() -> None:
    """Outputs that are right for the training shares are right for the others by Bayes' theorem."""
    generator = torch.Generator().manual_seed(0)
    given = torch.rand(3, 5, generator=generator)
    given /= given.sum(1, keepdim=True)  # p(input | class)
    labels = [torch.tensor(counts) for counts in ([300, 200, 500], [700, 200, 100])]
    p, q = (counts / counts.sum() for counts in labels)
    shift = class_shift(*(torch.arange(3).repeat_interleave(counts) for counts in labels))

    def posterior(shares: Tensor) -> Tensor:
        joint = given * shares[:, None]
        return (joint / joint.sum(0)).T

    adjusted = (posterior(p).log() + shift).softmax(-1)
    torch.testing.assert_close(adjusted, posterior(q), rtol=0, atol=2e-3)


@pytest.mark.parametrize("seed", range(20))
def test_samples_of_the_same_classes_have_none(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    training, validation = (torch.randint(0, 10, (count,), generator=generator) for count in (2000, 100))
    assert not class_shift(training, validation).any()


def test_classes_that_do_not_occur() -> None:
    found = class_shift(EVEN, RARE[RARE != 2], classes=5)
    assert found.shape == (5,)
    assert found[0] > 0 > found[2]
    assert torch.equal(found[3:], found[2:3].expand(2))  # in neither: as if there were few of them
    assert found.isfinite().all()


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (
            (EVEN.float(), RARE),
            ValueError,
            r"`training` must have whole numbers in the shape \(n,\), n >= 1, got .*flo",
        ),
        ((EVEN, RARE[:, None]), ValueError, r"`validation` must have whole .* got torch.int64 in \(90, 1\)"),
        ((EVEN[:0], RARE), ValueError, r"`training` .* in \(0,\)"),
        ((EVEN, RARE - 1), ValueError, r"`validation` must have classes >= 0, got -1"),
        ((EVEN.tolist(), RARE), TypeError, "`training` must be a tensor of classes, got"),
    ],
)
def test_labels_that_are_no_classes(given: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        class_shift(*given)


def test_too_few_classes() -> None:
    with pytest.raises(ValueError, match="`classes` must be more than the largest class, 2, got 2"):
        class_shift(EVEN, RARE, classes=2)


# In a trial


def task(loss: Any = cross_entropy) -> Task:
    return dataclasses.replace(load_task("digits", train_size=300), loss=loss)


def training(shift: str | None = "labels:3", loss: Any = cross_entropy, method: str = "lets-sam") -> Training:
    one = task(loss)
    config = TrialConfig(task="digits", epochs=2, validation_shift=shift, validation_share=0.4).for_task(one)
    return Training(one, Method.parse(method), 0, config, make_fabric("cpu"))


def patience(run: Training) -> int | None:
    assert isinstance(run.optimizer, SharpnessAware)
    return run.optimizer.radius.rule.guard.patience  # pyright: ignore[reportAttributeAccessIssue]


def objective(run: Training) -> Objective:
    assert isinstance(run.optimizer, SharpnessAware)
    assert isinstance(run.optimizer.radius, LearnedRadius)
    return run.optimizer.radius.objective


def test_other_shares_are_adjusted_for() -> None:
    run = training()
    assert isinstance(run.held_out_loss, AdjustedLoss)
    assert patience(run) == PATIENCE
    assert not objective(run).matches_labels
    assert run.validation is not None
    shift = class_shift(targets_of(run.train.dataset), targets_of(run.validation.dataset))
    assert torch.equal(run.held_out_loss.shift, shift)
    assert (shift.exp() > 2).any()
    assert (shift.exp() < 0.5).any()
    outputs, labels = torch.randn(4, 10, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    assert torch.equal(run.held_out_loss(outputs, labels), cross_entropy(outputs + shift, labels))


def test_the_validation_passes_alone_are_adjusted() -> None:
    """And the radius is learned from the adjusted loss: it is that of a loss whose outputs are adjusted by hand."""
    run, seen = training(), list[tuple[Tensor, Tensor]]()
    known = run.held_out_loss

    def seeing(outputs: Tensor, labels: Tensor) -> Tensor:
        seen.append((outputs.detach(), labels))
        return known(outputs, labels)

    run.held_out_loss = seeing
    run.advance(2)
    assert len(seen) == 2
    assert isinstance(run.optimizer, SharpnessAware)
    outputs, labels = seen[-1]
    assert torch.equal(labels, run.feed.held_out(1)[1])
    found = float(run.optimizer.metrics["validation_loss"])
    assert found == pytest.approx(float(cross_entropy(outputs + known.shift, labels)), rel=1e-6)
    assert abs(found - float(cross_entropy(outputs, labels))) > 0.1


@pytest.mark.parametrize("shift", [None, "clean", "noise:1"])
def test_with_equal_shares_nothing_changes(shift: str | None) -> None:
    run = training(shift)
    assert run.held_out_loss is run.task.loss
    assert patience(run) is None
    assert objective(run).matches_labels


def hinge(outputs: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.multi_margin_loss(outputs, labels)


def smoothed(outputs: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(outputs, labels, label_smoothing=0.2)


def of_a_mapping(outputs: Any, labels: Tensor) -> Tensor:
    return cross_entropy(outputs["logits"], labels)


def focal(outputs: Tensor, labels: Tensor) -> Tensor:
    right = outputs.softmax(-1).gather(1, labels[:, None])
    return -((1 - right).square() * right.log()).mean()


def brier(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs.softmax(-1) - nn.functional.one_hot(labels, outputs.shape[-1])).square().sum(-1).mean()


@pytest.mark.parametrize("loss", [hinge, smoothed, brier, focal])
def test_another_loss_of_two_classes_stays_as_it_is(loss: Any) -> None:
    """Its gradient has the form of that of a cross-entropy, but another weight at other outputs."""
    labels = [torch.arange(2).repeat(300), torch.tensor([0] * 270 + [1] * 30)]
    train, few = (TensorDataset(torch.zeros(len(found), 1), found) for found in labels)
    assert held_out_loss(task(loss), train, few, CPU) is loss
    assert isinstance(held_out_loss(task(), train, few, CPU), AdjustedLoss)


@pytest.mark.parametrize("weight", [torch.ones(10), torch.tensor([1.0, 0.0, 2.0])])
def test_weights_of_further_classes_and_of_none(weight: Tensor) -> None:
    """There may be more outputs than classes in the data, and classes that do not count."""
    one = task(nn.CrossEntropyLoss(weight=weight))
    train, few = (TensorDataset(torch.zeros(len(found), 1), found) for found in (EVEN, RARE))
    assert isinstance(held_out_loss(one, train, few, CPU), AdjustedLoss)


def test_the_shares_are_those_that_are_trained_on_while_the_radius_is_learned() -> None:
    """Before the release: the held-out samples are not among them."""
    one = task()
    options: dict[str, Any] = {"epochs": 4, "validation_shift": "labels:3", "validation_share": 0.4}
    plain, released = (
        Training(
            *(one, Method.parse("lets-sam"), 0),
            TrialConfig(task="digits", release=release, **options).for_task(one),
            make_fabric("cpu"),
        ).held_out_loss
        for release in (None, 0.5)
    )
    assert torch.equal(plain.shift, released.shift)


@pytest.mark.parametrize("loss", [hinge, smoothed, of_a_mapping, focal])
def test_another_loss_stays_as_it_is(loss: Any) -> None:
    one = task(loss)
    few = Subset(one.train, [i for i, y in enumerate(targets_of(one.train).tolist()) if y < 3])
    assert held_out_loss(one, one.train, few, CPU) is loss
    assert held_out_loss(dataclasses.replace(one, loss=cross_entropy), one.train, few, CPU) is not cross_entropy


@pytest.mark.parametrize("weight", [None, torch.linspace(0.5, 2, 10)])
def test_weights_of_classes_and_sums_are_cross_entropies(weight: Tensor | None) -> None:
    one = task(nn.CrossEntropyLoss(weight=weight, reduction="sum"))
    few = Subset(one.train, [i for i, y in enumerate(targets_of(one.train).tolist()) if y < 3])
    assert isinstance(held_out_loss(one, one.train, few, CPU), AdjustedLoss)


def test_further_outputs_of_the_network_stay_as_they_are() -> None:
    outputs, labels = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2] * 2)
    shift = torch.tensor([1.0, 0.0, -2.0])
    expected = cross_entropy(outputs + torch.tensor([1.0, 0.0, -2.0, 0.0, 0.0]), labels)
    assert torch.equal(AdjustedLoss(cross_entropy, shift)(outputs, labels), expected)


def test_a_loss_of_many_classes_is_tried_on_a_few_outputs() -> None:
    seen: list[tuple[int, ...]] = []

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        seen.append(tuple(outputs.shape))
        return cross_entropy(outputs, labels)

    one = task(loss)
    labels = [torch.arange(3000).repeat(2), torch.arange(30).repeat(200)]
    train, few = (TensorDataset(torch.zeros(len(found), 1), found) for found in labels)
    assert isinstance(held_out_loss(one, train, few, CPU), AdjustedLoss)
    assert seen == [(16, 3000)] * 2  # at two scales of the outputs


class Stream(Dataset[Any]):
    """A data set whose labels are in its samples alone."""

    read = 0

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.read += 1
        return torch.zeros(64), index % 2


def test_no_sample_is_loaded_for_its_label() -> None:
    one, stream = task(), Stream()
    assert held_out_loss(one, one.train, stream, CPU) is one.loss
    assert held_out_loss(one, stream, Subset(stream, [0, 2, 4]), CPU) is one.loss
    assert stream.read == 0
    assert known_targets(stream) is None
    assert targets_of(stream).tolist() == [0, 1] * 15
    assert known_targets(stream) is not None  # it has been read


def test_targets_that_are_no_classes_are_left_alone() -> None:
    one = task()
    inputs = torch.zeros(6, 64)
    for targets in (torch.rand(6), torch.full((6,), -1), torch.zeros(6, 3, dtype=torch.long)):
        assert held_out_loss(one, one.train, TensorDataset(inputs, targets), CPU) is one.loss
    assert held_out_loss(dataclasses.replace(one, kind="regression"), one.train, one.test, CPU) is one.loss
