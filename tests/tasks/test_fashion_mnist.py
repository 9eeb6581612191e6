"""Fashion-MNIST, from small files in the real format, and from those that are installed."""

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from letsam.tasks import TaskError, load_task
from letsam.tasks.fashion_mnist import DEBIAN_FOLDER, find_idx_folder, read_idx


def idx(shape: tuple[int, ...], data: bytes, kind: int = 8) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + data


NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def write_fashion(folder: Path, *, train: int = 60, test: int = 20, compressed: bool = True) -> Path:
    """Images whose every pixel is the image's number, labels the number modulo 10."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        images = b"".join(bytes([number]) * 784 for number in range(count))
        labels = bytes(number % 10 for number in range(count))
        for name, content in (
            (f"{part}-images-idx3-ubyte", idx((count, 28, 28), images)),
            (f"{part}-labels-idx1-ubyte", idx((count,), labels)),
        ):
            if compressed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def _no_installed_data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only tests marked `data` may see what this machine has installed."""
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("LETSAM_DATA", raising=False)
        monkeypatch.setattr("letsam.tasks.fashion_mnist.DEBIAN_FOLDER", tmp_path / "not-installed")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("below", [".", "fashion-mnist"])
def test_fashion_mnist_from_a_folder(tmp_path: Path, compressed: bool, below: str) -> None:
    write_fashion(tmp_path / below, compressed=compressed)
    task = load_task("fashion-mnist", data_dir=tmp_path)
    inputs, targets = task.train[:]

    assert inputs.shape == (60, 1, 28, 28)
    assert len(task.test) == 20  # type: ignore[arg-type]
    assert inputs[51, 0, 3, 7].item() == pytest.approx((51 / 255 - 0.2860) / 0.3530, rel=1e-5)
    assert targets.tolist() == [number % 10 for number in range(60)]
    assert targets.dtype == torch.int64
    assert task.model()(inputs[:2]).shape == (2, 10)


def test_fashion_mnist_model_has_no_batch_statistics(tmp_path: Path) -> None:
    model = load_task("fashion-mnist", data_dir=write_fashion(tmp_path)).model()
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(nn.Conv2d) == 3
    assert not list(model.buffers())
    assert nn.Dropout not in kinds


@pytest.mark.parametrize(
    ("model", "normalised", "base", "thousands"),
    [
        ("cnn", False, "SGD", 85),
        ("resnet", True, "SGD", 19),
        ("vit", False, "AdamW", 60),
        ("resnet18", True, "SGD", 11172),
    ],
)
def test_fashion_mnist_models(tmp_path: Path, model: str, normalised: bool, base: str, thousands: int) -> None:
    if model == "vit":
        pytest.importorskip("transformers")
    task = load_task("fashion-mnist", data_dir=write_fashion(tmp_path), model=model)
    network = task.model()
    parameters = list(network.parameters())

    assert sum(parameter.numel() for parameter in parameters) // 1000 == thousands
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == normalised
    assert type(task.optimizer(parameters)).__name__ == base
    assert network(task.train[:2][0]).shape == (2, 10)
    if model != "vit":  # twice as fast on a CPU
        wide = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)][1]
        assert wide.is_contiguous(memory_format=torch.channels_last)


def test_fashion_mnist_has_the_small_network_if_none_is_named(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    options: list[dict[str, str]] = [{}, {"model": "cnn"}, {"model": "resnet"}]
    tasks = [load_task("fashion-mnist", data_dir=tmp_path, **option) for option in options]  # type: ignore[arg-type]
    shapes = [[tuple(parameter.shape) for parameter in task.model().parameters()] for task in tasks]
    assert shapes[0] == shapes[1] != shapes[2]


def test_models_that_do_not_exist(tmp_path: Path) -> None:
    message = r"^`model` must be one of cnn, resnet, vit, resnet18, got 'resnet8', did you mean 'resnet18'\?$"
    with pytest.raises(TaskError, match=message):
        load_task("fashion-mnist", data_dir=tmp_path, model="resnet8")
    with pytest.raises(TaskError, match=r"^task 'digits' takes no `model`$"):
        load_task("digits", model="cnn")


def test_fashion_mnist_train_size_is_stratified_nested_and_fixed(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    torch.manual_seed(1)
    small = load_task("fashion-mnist", data_dir=tmp_path, train_size=20)
    torch.manual_seed(2)
    large = load_task("fashion-mnist", data_dir=tmp_path, train_size=40)

    assert torch.bincount(small.train[:][1]).tolist() == [2] * 10
    assert torch.bincount(large.train[:][1]).tolist() == [4] * 10
    assert torch.equal(small.train[:][0], large.train[:20][0])
    assert len(small.test) == 20  # type: ignore[arg-type]
    numbers = (small.train[:][0][:, 0, 0, 0] * 0.3530 + 0.2860) * 255
    assert numbers.round().long().remainder(10).tolist() == small.train[:][1].tolist()  # inputs go with their targets


@pytest.mark.parametrize("size", [0, 9, 61])
def test_fashion_mnist_train_size_out_of_range(tmp_path: Path, size: int) -> None:
    write_fashion(tmp_path)
    with pytest.raises(TaskError, match=rf"`train_size` must be a whole number from 10 to 60, got {size}"):
        load_task("fashion-mnist", data_dir=tmp_path, train_size=size)


def test_folder_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argument = write_fashion(tmp_path / "argument")
    environment = write_fashion(tmp_path / "environment" / "fashion-mnist")
    debian = write_fashion(tmp_path / "debian")
    monkeypatch.setattr("letsam.tasks.fashion_mnist.DEBIAN_FOLDER", debian)

    assert find_idx_folder() == debian
    monkeypatch.setenv("LETSAM_DATA", str(tmp_path / "environment"))
    assert find_idx_folder() == environment
    assert find_idx_folder(argument) == argument
    monkeypatch.setenv("LETSAM_DATA", str(tmp_path / "other data"))
    assert find_idx_folder() == debian
    with pytest.raises(TaskError, match=r"no Fashion-MNIST files .* in .*empty; "):
        find_idx_folder(tmp_path / "empty")  # a folder that was asked for is never replaced by another


def test_fashion_mnist_not_installed() -> None:
    with pytest.raises(
        TaskError, match=r"in .*not-installed; install them with `apt-get install dataset-fashion-mnist`"
    ):
        load_task("fashion-mnist")


def damage_magic(content: bytes) -> bytes:
    return b"\0\0\x0d" + content[3:]


@pytest.mark.parametrize("name", NAMES)
def test_fashion_mnist_with_a_file_missing(tmp_path: Path, name: str) -> None:
    (write_fashion(tmp_path) / f"{name}.gz").unlink()
    with pytest.raises(TaskError, match=r"Fashion-MNIST .*files|four Fashion-MNIST idx files, .* is missing"):
        load_task("fashion-mnist", data_dir=tmp_path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda content: gzip.compress(damage_magic(gzip.decompress(content))),
            r"is not an idx file of bytes: .* got 00 00 0d",
        ),
        (lambda content: gzip.compress(gzip.decompress(content)[:-1]), r"is damaged: expected \d+ bytes for shape"),
        (lambda content: gzip.compress(gzip.decompress(content) + b"x"), r"is damaged: expected \d+ bytes for shape"),
        (lambda content: gzip.compress(gzip.decompress(content)[:6]), r"is damaged"),
        (lambda content: content[: len(content) // 2], r"cannot read .* EOFError"),
        (lambda content: content[:-8] + b"\0" * 8, r"cannot read .* BadGzipFile"),
        (lambda content: content[:12] + b"\xff" * 20 + content[32:], r"cannot read .*, expected an idx file: "),
        (lambda content: b"<html>not found</html>", r"is not an idx file of bytes"),
        (lambda content: b"", r"is not an idx file of bytes"),
        (lambda content: content[:2], r"cannot read .* EOFError"),
    ],
    ids=["magic", "short", "long", "header", "truncated", "checksum", "garbled", "html", "empty", "two-bytes"],
)
def test_corrupt_idx_files(tmp_path: Path, name: str, damage: Any, message: str) -> None:
    path = write_fashion(tmp_path) / f"{name}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TaskError, match=message) as caught:
        load_task("fashion-mnist", data_dir=tmp_path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            NAMES[0],
            idx((60, 14, 14), bytes(60 * 196)),
            r"expected train images of shape \[n, 28, 28\].* got \[60, 14, 14\]",
        ),
        (NAMES[1], idx((59,), bytes(59)), r"got \[60, 28, 28\] and \[59\]"),
        (NAMES[3], idx((20,), bytes([10]) * 20), r"expected t10k labels from 0 to 9, got 10"),
    ],
)
def test_idx_files_that_do_not_fit_together(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (write_fashion(tmp_path) / f"{name}.gz").write_bytes(content)
    with pytest.raises(TaskError, match=message):
        load_task("fashion-mnist", data_dir=tmp_path)


def test_empty_idx_files(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(idx((0, 28, 28), b""))
    assert read_idx(tmp_path / "none").shape == (0, 28, 28)
    write_fashion(tmp_path / "data", test=0)
    with pytest.raises(TaskError, match=r"n >= 1, got \[0, 28, 28\] and \[0\]"):
        load_task("fashion-mnist", data_dir=tmp_path / "data")


def test_idx_axes_are_in_order(tmp_path: Path) -> None:
    (tmp_path / "axes").write_bytes(idx((2, 3), bytes(range(6))))
    assert read_idx(tmp_path / "axes").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.data
def test_real_fashion_mnist() -> None:
    try:
        find_idx_folder()
    except TaskError as error:
        pytest.skip(f"{error} (looked in LETSAM_DATA={os.environ.get('LETSAM_DATA')} and {DEBIAN_FOLDER})")
    task = load_task("fashion-mnist")
    inputs, targets = task.train[:]

    assert inputs.shape == (60000, 1, 28, 28)
    assert torch.bincount(targets).tolist() == [6000] * 10
    assert torch.bincount(task.test[:][1]).tolist() == [1000] * 10
    assert inputs.mean().item() == pytest.approx(0, abs=1e-3)
    assert inputs.std().item() == pytest.approx(1, abs=1e-3)
    subset = load_task("fashion-mnist", train_size=2000)
    assert torch.bincount(subset.train[:][1]).tolist() == [200] * 10
