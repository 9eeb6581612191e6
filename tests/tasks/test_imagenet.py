"""ImageNet from small files in the real format, down to an epoch of training."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from letsam.tasks import Task, TaskError, load_task, targets_of
from letsam.tasks.imagenet import central_box, random_box
from letsam.tasks.images import without_augmentation
from letsam.tasks.models.resnet import resnet
from tasks.files import picture
from training_cases import finish, learned_passes, start

datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")

pytestmark = pytest.mark.usefixtures("own_cache")


def write_folders(folder: Path) -> Path:
    """JPEGs of different shapes, 8 and 2 of each of three classes."""
    for part, count in (("train", 8), ("val", 2)):
        for label, name in enumerate(("n01440764", "n01443537", "n01484850")):
            where = folder / part / name
            where.mkdir(parents=True)
            for number in range(count):
                shape = (40 + 4 * number, 60) if number % 2 else (64, 40)
                Image.new("RGB", shape, (80 * label, 10 * number, 255 - 80 * label)).save(where / f"{number}.JPEG")
    return folder


def small(task: Task, classes: int, **changes: Any) -> Task:
    model = partial(resnet, (4, 8), blocks=1, stem_stride=4, classes=classes)
    return dataclasses.replace(task, model=model, epochs=1, batch_size=8, **changes)


def test_imagenet_from_folders(tmp_path: Path) -> None:
    task = load_task("imagenet", data_dir=write_folders(tmp_path / "imagenet").parent)
    assert (len(task.train), len(task.test)) == (24, 6)  # type: ignore[arg-type]
    assert targets_of(task.train).tolist() == [0] * 8 + [1] * 8 + [2] * 8
    image, target = task.test[4]
    assert (image.shape, target) == ((3, 224, 224), 2)
    bytes_of = (
        image * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) + torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    ) * 255
    torch.testing.assert_close(bytes_of.mean((1, 2)), torch.tensor([160.0, 0.0, 95.0]), atol=4, rtol=0)
    model: Any = task.model().eval()
    with torch.no_grad():
        assert model(image.unsqueeze(0)).shape == (1, 3)
    assert model.model.config.num_labels == 3


@pytest.mark.parametrize("method", ["sgd", "lets-sam"])
def test_imagenet_trains(tmp_path: Path, method: str) -> None:
    task = load_task("imagenet", data_dir=write_folders(tmp_path / "data"), train_size=12, model="vit-s")
    assert torch.bincount(targets_of(task.train)).tolist() == [4, 4, 4]
    run = finish(start(small(task, 3, evaluations=1), method, label_noise=0.25, validation_share=0.34))
    assert run.passes == {"sgd": 1, "lets-sam": learned_passes(1)}[method]
    assert run.result().test_loss > 0


def test_photographs_are_cropped_at_random_only_for_training(tmp_path: Path) -> None:
    task = load_task("imagenet", data_dir=write_folders(tmp_path / "data"))
    train: Any = task.train
    rows: Any = [{"image": picture(0, (96, 64))}]
    train.rows = rows
    torch.manual_seed(0)
    first, second = train[0][0], train[0][0]
    torch.manual_seed(0)
    assert torch.equal(train[0][0], first)
    assert not torch.equal(first, second)
    plain: Any = without_augmentation(train)
    assert torch.equal(plain[0][0], plain[0][0])


def test_boxes_lie_inside_and_have_their_proportions() -> None:
    torch.manual_seed(0)
    drawn = [random_box(200, 120) for _ in range(2000)]
    shares, ratios = [], []
    for (left, top, right, bottom), _ in drawn:
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 120
        shares.append((right - left) * (bottom - top) / (200 * 120))
        ratios.append((right - left) / (bottom - top))
    assert min(shares) == pytest.approx(0.08, abs=0.01)
    assert max(shares) > 0.75
    assert (min(ratios), max(ratios)) == (pytest.approx(3 / 4, abs=0.01), pytest.approx(4 / 3, abs=0.01))
    assert sum(flip for _, flip in drawn) == pytest.approx(1000, abs=100)
    assert random_box(1000, 10)[0] == (495, 0, 505, 10)  # nothing of these proportions fits in
    assert central_box(256, 512) == (16, 144, 240, 368)


def test_imagenet_with_other_classes_in_val(tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "data")
    (folder / "val" / "n01484850").rename(folder / "val" / "n09999999")
    with pytest.raises(TaskError, match=r"every class of the test images in train too, got n09999999 in val$"):
        load_task("imagenet", data_dir=folder)
