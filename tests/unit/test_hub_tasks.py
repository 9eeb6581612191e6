"""CIFAR and ImageNet from small files in the real formats, down to an epoch of training, and the hub's failures."""

from __future__ import annotations

import copy
import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from letsam.tasks import Task, TaskError, load_task, targets_of, with_label_noise
from letsam.tasks.hub import load_splits
from letsam.tasks.imagenet import central_box, random_box
from letsam.tasks.images import CroppedImages, without_augmentation
from letsam.tasks.models.resnet import resnet
from training_cases import config, finish, learned_passes, same, start, without_seconds

datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("LETSAM_DATA", raising=False)


def picture(number: int, size: tuple[int, int] = (32, 32)) -> Any:
    """Three bands of grey, the first as bright as the number: nothing in it is symmetric."""
    shades = torch.arange(size[0] * size[1]).reshape(size[1], size[0]) % 50 + number
    return Image.frombytes("L", size, bytes(shades.to(torch.uint8).flatten().tolist())).convert("RGB")


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
        TaskError, match=r"`model` must be one of resnet18, .*, got 'wrn-28-1' \(did you mean 'wrn-28-10'"
    ):
        load_task("cifar10", model="wrn-28-1")


# ImageNet


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


# Where data come from


def splits(**options: Any) -> Any:
    return load_splits("uoft-cs/cifar10", ("train", "test"), ("img", "label"), folder_name="cifar10", **options)


def test_configurations_are_folders_or_named_in_the_readme(tmp_path: Path) -> None:
    for name, text in (("cola", "a"), ("sst2", "b")):
        (tmp_path / name).mkdir()
        for split in ("train", "validation"):
            rows = datasets.Dataset.from_dict({"sentence": [text], "label": [0]})
            rows.to_parquet(tmp_path / name / f"{split}-00000-of-00001.parquet")
    load = partial(load_splits, "nyu-mll/glue", ("train", "validation"), ("sentence", "label"), folder_name="glue")
    assert load(data_dir=tmp_path, config="sst2")[1]["sentence"][:] == ["b"]
    (tmp_path / "cola").rename(tmp_path / "one")
    files = "".join(f"\n  - split: {split}\n    path: one/{split}-*" for split in ("train", "validation"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: cola\n  data_files:{files}\n---\n")
    assert load(data_dir=tmp_path, config="cola")[0]["sentence"][:] == ["a"]


@pytest.mark.parametrize("clone", [False, True], ids=["plain", "with a README"])
def test_splits_whose_names_begin_alike_stay_apart(tmp_path: Path, clone: bool) -> None:
    names = ("train", "validation", "validation_matched", "validation_mismatched")
    (tmp_path / "mnli").mkdir()
    for name in names:
        rows = datasets.Dataset.from_dict({"premise": [name], "label": [0]})
        rows.to_parquet(tmp_path / "mnli" / f"{name}-00000-of-00001.parquet")
    if clone:
        files = "".join(f"\n  - split: {name}\n    path: mnli/{name}-*" for name in names)
        (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: mnli\n  data_files:{files}\n---\n")
    found = load_splits(
        "nyu-mll/glue", names[1:], ("premise", "label"), folder_name="glue", data_dir=tmp_path, config="mnli"
    )
    assert [rows["premise"][:] for rows in found] == [[name] for name in names[1:]]


def test_a_readme_names_the_files_that_are_called_otherwise(tmp_path: Path) -> None:
    (tmp_path / "mnli").mkdir()
    for name in ("one", "two"):
        (tmp_path / "mnli" / f"{name}.csv").write_text(f"premise,label\n{name},0\n")
    pairs = (("train", "one"), ("validation_matched", "two"))
    files = "".join(f"\n  - split: {split}\n    path: mnli/{name}.csv" for split, name in pairs)
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: mnli\n  data_files:{files}\n---\n")
    found = load_splits(
        "nyu-mll/glue",
        [split for split, _ in pairs],
        ("premise",),
        folder_name="glue",
        data_dir=tmp_path,
        config="mnli",
    )
    assert [rows["premise"][:] for rows in found] == [["one"], ["two"]]


def test_what_save_to_disk_wrote(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"img": [1, 2], "label": [0, 1]})
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "cifar10")
    assert splits(data_dir=tmp_path)[1]["label"][:] == [0, 1]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: None, r"must be a folder with the files of cifar10, got .*data$"),
        (lambda folder: folder.mkdir(), r"data: cannot be read as the data set uoft-cs/cifar10 \(EmptyDatasetError"),
        (
            lambda folder: (folder.mkdir(), (folder / "train.parquet").write_bytes(b"PAR1 no")),
            r"data: cannot be read as",
        ),
        (
            lambda folder: (folder.mkdir(), (folder / "train.csv").write_text("img,label\n1,2\n")),
            r"data: expected the splits train, test, got train$",
        ),
        (
            lambda folder: (
                folder.mkdir(),
                [(folder / f"{part}.csv").write_text("image,label\n1,2\n") for part in ("train", "test")],
            ),
            r"data: expected the columns img, label in train, got image, label$",
        ),
    ],
    ids=["missing", "empty", "damaged", "split", "column"],
)
def test_folders_that_are_no_such_data_set(tmp_path: Path, write: Any, message: str) -> None:
    write(tmp_path / "data")
    with pytest.raises(TaskError, match=message) as caught:
        splits(data_dir=tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_the_hub_offline_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for module in (datasets.config, pytest.importorskip("huggingface_hub").constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    with pytest.raises(TaskError) as caught:
        load_task("cifar10")
    message = str(caught.value)
    assert message.startswith("cannot load uoft-cs/cifar10 from the Hugging Face hub (ConnectionError: ")
    assert message.endswith("give a folder with its files as `data_dir` (--data-dir), or as cifar10 in LETSAM_DATA")
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


def test_datasets_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        TaskError, match=r'`cifar10` needs the package datasets; install it with `pip install "letsam\['
    ):
        load_task("cifar10")


# The option --model


def test_the_model_is_part_of_a_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from letsam.cli import run

    folder = write_cifar(tmp_path / "data", train=10)
    arguments = ["cifar10", "--data-dir", str(folder), "--model", "vit", "--out", str(tmp_path / "out")]
    for command in (["trial"], ["train", "--method", "sgd"]):
        assert run([*command, *arguments]) == 2
        assert "`model` must be one of resnet18, wrn-28-10, pyramidnet-110, vit-s, got 'vit'" in capsys.readouterr().err
        assert run([*command, "digits", "--model", "mlp"]) == 2
        assert capsys.readouterr().err == "error: task 'digits' takes no `model`\n"
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
