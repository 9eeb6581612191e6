"""CIFAR from small files in the real formats, down to an epoch of training; and the option --model."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from letsam.tasks import Task, TaskError, load_task, targets_of, with_label_noise
from letsam.tasks.images import CroppedImages, without_augmentation
from letsam.tasks.models.resnet import resnet
from tasks.files import picture
from training_cases import config, finish, learned_passes, same, start, without_seconds

datasets = pytest.importorskip("datasets")
pytest.importorskip("PIL.Image")

pytestmark = pytest.mark.usefixtures("own_cache")


def write_cifar(folder: Path, *, train: int = 30, classes: int = 10, size: tuple[int, int] = (32, 32)) -> Path:
    """Parquet files as on the hub: `label` for 10 classes, `fine_label` and `coarse_label` for 100."""
    label = "label" if classes == 10 else "fine_label"
    features = {"img": datasets.Image(), label: datasets.ClassLabel(num_classes=classes)}
    if classes == 100:
        features["coarse_label"] = datasets.ClassLabel(num_classes=20)
    where = folder / ("plain_text" if classes == 10 else "cifar100")
    where.mkdir(parents=True)
    for split, count in (("train", train), ("test", 12)):
        labels = [number % classes for number in range(count)]
        columns = {"img": [picture(number, size) for number in range(count)], label: labels}
        if classes == 100:
            columns["coarse_label"] = [0] * count
        rows = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        rows.to_parquet(where / f"{split}-00000-of-00001.parquet")
    return folder


def small(task: Task, classes: int, **changes: Any) -> Task:
    model = partial(resnet, (4, 8), blocks=1, stem_stride=4, classes=classes)
    return dataclasses.replace(task, model=model, epochs=1, batch_size=8, **changes)


# CIFAR


def test_cifar10_from_the_files_of_the_hub(tmp_path: Path) -> None:
    task = load_task("cifar10", data_dir=write_cifar(tmp_path / "data"))
    assert isinstance(task.train, CroppedImages)
    assert isinstance(task.test, TensorDataset)
    plain: Any = without_augmentation(task.train)
    image, target = plain[21]
    expected = torch.arange(32 * 32).reshape(32, 32) % 50 + 21
    for channel, (mean, std) in enumerate(zip((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), strict=True)):
        torch.testing.assert_close(image[channel], (expected / 255 - mean) / std)
    assert target == 1
    assert targets_of(task.train).tolist() == [number % 10 for number in range(30)]
    torch.testing.assert_close(task.test.tensors[0][5], plain[5][0])
    assert task.test.tensors[1].tolist() == [*range(10), 0, 1]
    assert (task.sam_rho, task.asam_rho, task.epochs, task.batch_size) == (0.05, 0.5, 200, 128)
    assert task.model().eval()(image.unsqueeze(0)).shape == (1, 10)


def test_cifar100_takes_the_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path / "cifar100", train=120, classes=100)
    monkeypatch.setenv("LETSAM_DATA", str(tmp_path))
    task = load_task("cifar100", model="vit-s", train_size=100)
    assert targets_of(task.train).sort().values.tolist() == list(range(100))
    assert (task.sam_rho, task.asam_rho) == (0.1, 1.0)
    with torch.device("meta"):
        model = task.model()
    assert [tuple(p.shape) for p in model.parameters()][-2:] == [(100, 384), (100,)]
    assert isinstance(task.optimizer([torch.nn.Parameter(torch.zeros(1))]), torch.optim.AdamW)


@pytest.mark.parametrize("name", ["resnet18", "wrn-28-10", "pyramidnet-110", "vit-s"])
def test_cifar_models_by_name(tmp_path: Path, name: str) -> None:
    task = load_task("cifar10", data_dir=write_cifar(tmp_path / "data", train=10), model=name)
    with torch.device("meta"):
        millions = sum(p.numel() for p in task.model().parameters()) / 1e6
    expected = {"resnet18": 11.17, "wrn-28-10": 36.48, "pyramidnet-110": 28.49, "vit-s": 21.34}
    assert millions == pytest.approx(expected[name], abs=0.01)


def test_cifar_subsets_are_nested_and_stratified(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path / "data", train=60)
    few, more = (load_task("cifar10", data_dir=folder, train_size=size) for size in (20, 40))
    assert torch.bincount(targets_of(few.train)).tolist() == [2] * 10
    plain: list[Any] = [without_augmentation(task.train) for task in (few, more)]
    assert all(torch.equal(plain[0][i][0], plain[1][i][0]) for i in range(20))
    with pytest.raises(TaskError, match=r"`train_size` must be a whole number from 10 to 60, got 61"):
        load_task("cifar10", data_dir=folder, train_size=61)


def test_cifar_images_are_shifted_and_flipped() -> None:
    images = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 1, 5, 5)
    data = CroppedImages(images, torch.tensor([3]), mean=[0.0], std=[1 / 255])
    black = torch.zeros(13, 13)
    black[4:9, 4:9] = images[0, 0]
    crops = [black[top : top + 5, left : left + 5] for top in range(9) for left in range(9)]
    possible = {tuple(crop.flatten().tolist()) for crop in crops}
    possible |= {tuple(crop.flip(-1).flatten().tolist()) for crop in crops}

    torch.manual_seed(0)
    seen = [tuple(data[0][0].round().flatten().tolist()) for _ in range(3000)]
    assert set(seen) == possible  # 161 of 162 draws, for the black ones coincide
    centre = tuple(images.flatten().float().tolist())
    assert 5 <= seen.count(centre) <= 40  # 3000 / 162 = 18.5
    torch.manual_seed(0)
    assert tuple(data[0][0].round().flatten().tolist()) == seen[0]
    assert [tuple(data.without_augmentation()[0][0].round().flatten().tolist()) for _ in range(9)] == [centre] * 9


def test_without_augmentation_looks_into_subsets_and_label_noise(tmp_path: Path) -> None:
    train: Any = CroppedImages(torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8), torch.arange(40) % 4, [0.5], [0.5])
    noisy: Any = with_label_noise(train, 0.5, generator=torch.Generator().manual_seed(0))
    part: Any = Subset(noisy, [7, 3, 30])
    plain: Any = without_augmentation(part)

    torch.manual_seed(0)
    before = torch.get_rng_state()
    for position, index in enumerate((7, 3, 30)):
        torch.testing.assert_close(plain[position][0], train.without_augmentation()[index][0])
        assert plain[position][1] == targets_of(noisy)[index]
    assert torch.equal(before, torch.get_rng_state())
    assert any(not torch.equal(part[0][0], plain[0][0]) for _ in range(9))  # the original is as it was
    tensors = TensorDataset(torch.zeros(2, 1), torch.zeros(2))
    assert without_augmentation(tensors) is tensors


@pytest.mark.parametrize("method", ["sgd", "lets-sam"])
def test_cifar_trains_and_resumes_bit_for_bit(tmp_path: Path, method: str) -> None:
    task = small(load_task("cifar10", data_dir=write_cifar(tmp_path / "data")), 10, evaluations=1)
    two = {"epochs": 2, "label_noise": 0.2, "validation_share": 0.3}
    straight = finish(start(task, method, **two))
    assert straight.result().test_loss > 0
    assert straight.result().gradient_passes == {"sgd": 6, "lets-sam": learned_passes(4)}[method]  # 3 steps or 2

    first = start(task, method, **two)
    first.advance()
    state = copy.deepcopy(first.state_dict())
    resumed = start(task, method, **two)
    resumed.load_state_dict(state)
    assert same(without_seconds(finish(resumed).result()), without_seconds(straight.result()))


def test_cifar_of_other_sizes_and_columns(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"^cifar10: expected train images of 32x32, got 28x30$"):
        load_task("cifar10", data_dir=write_cifar(tmp_path / "size", size=(28, 30)))
    with pytest.raises(
        TaskError, match=r"expected the columns img, label in train, got img, fine_label, coarse_label$"
    ):
        load_task("cifar10", data_dir=write_cifar(tmp_path / "columns", classes=100))
    with pytest.raises(
        TaskError, match=r"`model` must be one of resnet18, .*, got 'wrn-28-1', did you mean 'wrn-28-10'"
    ):
        load_task("cifar10", model="wrn-28-1")


# The option --model


def test_the_model_is_part_of_a_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from letsam.cli import run

    folder = write_cifar(tmp_path / "data", train=10)
    arguments = ["cifar10", "--data-dir", str(folder), "--model", "vit", "--out", str(tmp_path / "out")]
    for command in (["trial"], ["train", "--method", "sgd"]):
        assert run([*command, *arguments]) == 2
        assert "`model` must be one of resnet18, wrn-28-10, pyramidnet-110, vit-s, got 'vit'" in capsys.readouterr().err
        assert run([*command, "digits", "--model", "mlp"]) == 2
        assert capsys.readouterr().err.startswith("error: task 'digits' takes no `model` (more: ")
    options = config(model="vit-s")
    assert options.as_json()["model"] == "vit-s"
    options.check_continues(options.as_json())
    with pytest.raises(ValueError, match=r"^holds another trial: its model is 'vit-s', got 'resnet18'$"):
        config(model="resnet18").check_continues(options.as_json())
    with pytest.raises(ValueError, match=r"^`model` must be the name of a model, got ''$"):
        config(model="")


def test_results_from_before_there_were_models_go_on() -> None:
    earlier = config().as_json()
    del earlier["model"]
    config().check_continues(earlier)
    with pytest.raises(ValueError, match=r"^holds another trial: its model is None, got 'cnn'$"):
        config(model="cnn").check_continues(earlier)
