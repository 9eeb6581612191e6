"""Tasks: the record and its checks, loading by name, file and module, idx files, subsets and label noise."""

import dataclasses
import gzip
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from letsam.tasks import Task, TaskError, accuracy, available_tasks, load_task, targets_of, with_label_noise
from letsam.tasks.fashion_mnist import DEBIAN_FOLDER, find_idx_folder, read_idx
from letsam.tasks.subset import stratified_order


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dataset(samples: int = 6) -> TensorDataset:
    return TensorDataset(torch.zeros(samples, 4), torch.arange(samples) % 3)


def make(**fields: Any) -> Task:
    defaults: dict[str, Any] = {
        "name": "tiny",
        "model": lambda: nn.Linear(4, 3),
        "train": dataset(),
        "test": dataset(),
    }
    return Task(**{**defaults, **fields})


class Items(Dataset[tuple[str, int]]):
    """A map-style dataset that is no TensorDataset, with inputs that are no tensors."""

    def __init__(self, targets: list[Any]) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[str, Any]:
        return f"sample {index}", self.targets[index]


class Stream(IterableDataset[Any]):
    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Any:
        return iter(())


# The record


def test_defaults_train_a_classifier() -> None:
    task = make()
    outputs = task.model()(task.train[0][0].unsqueeze(0))

    assert task.loss(outputs, torch.tensor([1])).ndim == 0
    assert task.metric(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([1, 0])).item() == 0.5
    group = task.optimizer(task.model().parameters()).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.05, 0.9, 5e-4)
    assert (task.sam_rho, task.asam_rho, task.validation) == (0.05, 0.5, None)


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().epochs = 3  # type: ignore[misc]


def test_accuracy_of_dense_outputs() -> None:
    outputs = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])  # (batch 1, classes 2, positions 2): predicts 0, 1
    assert accuracy(outputs, torch.tensor([[0, 0]])).item() == 0.5


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"name": 3}, TypeError, r"`name` must be a string, got 3"),
        ({"name": " "}, ValueError, r"`name` must be a non-empty string"),
        ({"description": None}, TypeError, r"`description` must be a string, got None"),
        ({"model": nn.Linear(4, 3)}, TypeError, r"`model` must be a function .* got an object of type Linear"),
        ({"model": None}, TypeError, r"`model` must be a function .* got None"),
        ({"loss": "mse"}, TypeError, r"`loss` must be a function, got 'mse'"),
        ({"metric": 1}, TypeError, r"`metric` must be a function, got 1"),
        ({"optimizer": 0.1}, TypeError, r"`optimizer` must be a function, got 0\.1"),
        (
            {"optimizer": torch.optim.SGD([torch.zeros(1)], lr=0.1)},
            TypeError,
            r"`optimizer` must be a function, got an object of type SGD",
        ),
        ({"epochs": 0}, ValueError, r"`epochs` must be a whole number >= 1, got 0"),
        ({"epochs": 1.5}, TypeError, r"`epochs` must be a whole number >= 1, got 1\.5"),
        ({"epochs": True}, TypeError, r"`epochs` must be a whole number >= 1, got True"),
        ({"batch_size": -2}, ValueError, r"`batch_size` must be a whole number >= 1, got -2"),
        ({"sam_rho": 0.0}, ValueError, r"`sam_rho` must be > 0, got 0\.0"),
        ({"asam_rho": float("nan")}, ValueError, r"`asam_rho` must be > 0, got nan"),
        ({"asam_rho": "big"}, TypeError, r"`asam_rho` must be a number, got 'big'"),
        ({"train": None}, TypeError, r"`train` must be a map-style dataset with at least 1 sample, got None"),
        ({"train": dataset(0)}, ValueError, r"`train` must be a map-style dataset .*, got 0 samples"),
        ({"test": Stream()}, TypeError, r"`test` must be a map-style dataset .*, got an object of type Stream"),
        ({"test": {0: (1, 2)}}, TypeError, r"`test` must be a map-style dataset .*, got an object of type dict"),
        ({"validation": dataset(0)}, ValueError, r"`validation` must be a map-style dataset"),
        (
            {"train": TensorDataset(torch.zeros(3, 4))},
            ValueError,
            r"`train` must hold \(input, target\) pairs, got a tuple of 1 as its first sample",
        ),
        (
            {"test": [torch.zeros(2)]},
            ValueError,
            r"`test` must hold \(input, target\) pairs, got an object of type Tensor",
        ),
    ],
)
def test_fields_are_checked(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make(**fields)
    assert "\n" not in str(caught.value)


# Names


def test_available_tasks_have_descriptions() -> None:
    names = [name for name, _ in available_tasks()]
    assert names[:5] == ["digits", "fashion-mnist", "cifar10", "cifar100", "imagenet"]
    assert len(set(names)) == len(names)
    assert all(description and "\n" not in description for _, description in available_tasks())


def test_importing_and_listing_tasks_loads_no_heavy_package() -> None:
    code = (
        "import sys, torch; before = set(sys.modules); import letsam.tasks; letsam.tasks.available_tasks();"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(*sorted(new & {'sklearn', 'scipy', 'pandas', 'matplotlib', 'lightning_fabric', 'rich', 'typer',"
        "'transformers', 'datasets', 'PIL', 'sacrebleu', 'pyarrow'}))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ""


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "digit",
            r"^unknown task 'digit' \(did you mean 'digits'\?\), expected one of digits, fashion-.*, or your own",
        ),
        ("Fashion_MNIST", r"did you mean 'fashion-mnist'\?"),
        ("zzz", r"^unknown task 'zzz', expected one of digits, fashion-mnist"),
        ("", r"^unknown task ''"),
        ("my_task.py", r"names a file but no function, expected my_task\.py:function"),
        ("my_task.py:", r"must be written path/to/file\.py:function or package\.module:function"),
        (":make", r"must be written path/to/file\.py:function"),
        ("a.py:not a name", r"must be written path/to/file\.py:function"),
        ("nowhere/my_task.py:make", r"^task file nowhere/my_task\.py does not exist"),
        (
            "no_such_package.tasks:make",
            r"^no module named 'no_such_package\.tasks', in the current folder or installed",
        ),
        ("letsam.no_such_part:make", r"^no module named 'letsam\.no_such_part'"),
        ("..:make", r"^importing \.\. raised TypeError"),
        ("torch:no_such_function", r"^torch has no function 'no_such_function'"),
        ("torch:pi", r"^torch has something that is not a function under the name 'pi'"),
    ],
)
def test_specs_that_lead_nowhere(spec: str, message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        load_task(spec)
    assert "\n" not in str(caught.value)


# Digits


def test_digits_division_and_scale() -> None:
    task = load_task("digits")
    assert isinstance(task.train, TensorDataset)
    assert isinstance(task.test, TensorDataset)
    inputs, targets = task.train.tensors

    assert inputs.shape == (1000, 1, 8, 8)
    assert task.test.tensors[0].shape == (797, 1, 8, 8)
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.int64)
    assert inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert inputs.std().item() == pytest.approx(1, abs=1e-5)
    both = torch.cat([targets, task.test.tensors[1]])
    for label in range(10):
        expected = 1000 * int((both == label).sum()) / 1797
        assert abs(int((targets == label).sum()) - expected) <= 1


def test_digits_train_and_test_are_all_images_once() -> None:
    from sklearn.datasets import load_digits

    task = load_task("digits")
    loaded = torch.cat([torch.stack([x for x, _ in part]).flatten(1) for part in (task.train, task.test)])  # type: ignore[misc]
    raw = torch.tensor(load_digits(return_X_y=True)[0], dtype=torch.float32)
    low, high = loaded.min(), loaded.max()
    pixels = ((loaded - low) / (high - low) * 16).round()

    assert sorted(pixels.tolist()) == sorted(raw.tolist())


def test_digits_do_not_depend_on_the_seed() -> None:
    torch.manual_seed(1)
    first = load_task("digits")
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = load_task("digits")

    assert torch.equal(first.train[:][0], second.train[:][0])
    assert torch.equal(first.test[:][1], second.test[:][1])
    assert torch.equal(state, torch.get_rng_state())


def test_digits_model_is_fresh_and_seeded_by_the_caller() -> None:
    task = load_task("digits")
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(nn.utils.parameters_to_vector(task.model().parameters()))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert task.model()(task.train[:5][0]).shape == (5, 10)


def test_digits_train_size_is_stratified_and_nested() -> None:
    small = load_task("digits", train_size=100)
    large = load_task("digits", train_size=600)

    assert len(small.train) == 100  # type: ignore[arg-type]
    assert torch.equal(small.train[:][0], large.train[:100][0])
    assert torch.equal(small.test[:][0], large.test[:][0])
    counts = torch.bincount(small.train[:][1])
    assert counts.min() >= 9
    assert counts.max() <= 11
    assert torch.bincount(load_task("digits", train_size=10).train[:][1]).tolist() == [1] * 10


@pytest.mark.parametrize("size", [0, 9, 1001, -5, 20.0, True])
def test_digits_train_size_out_of_range(size: Any) -> None:
    with pytest.raises(TaskError, match=rf"`train_size` must be a whole number from 10 to 1000, got {size}"):
        load_task("digits", train_size=size)


def test_options_a_built_in_task_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"task 'digits' takes no `data_dir`"):
        load_task("digits", data_dir=tmp_path)


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(TaskError, match=r"`digits` needs scikit-learn; install it with `pip install"):
        load_task("digits")


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """On layers as small as these, threads only get in each other's way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
def test_digits_learns() -> None:
    task = load_task("digits")
    torch.manual_seed(0)
    model = task.model()
    optimizer = task.optimizer(model.parameters())
    order = generator()
    for _ in range(10):
        for inputs, targets in DataLoader(task.train, task.batch_size, shuffle=True, generator=order):
            optimizer.zero_grad()
            task.loss(model(inputs), targets).backward()
            optimizer.step()
    inputs, targets = task.test[:]
    assert task.metric(model(inputs), targets).item() > 0.93


# Fashion-MNIST, on small files in the real format


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
    message = r"^`model` must be one of cnn, resnet, vit, resnet18, got 'resnet8' \(did you mean 'resnet18'\?\)$"
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


# Tasks of one's own

TASK_FILE = """
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from letsam.tasks import Task

def data(count):
    return TensorDataset(torch.zeros(count, 4), torch.arange(count) % 2)

def make_task():
    return Task(name="mine", model=lambda: nn.Linear(4, 2), train=data(8), test=data(4))

def make_sized(train_size=6, *, data_dir=None):
    return Task(name=f"sized {data_dir}", model=lambda: nn.Linear(4, 2), train=data(train_size), test=data(4))

def make_any(**options):
    return Task(name=str(sorted(options)), model=lambda: nn.Linear(4, 2), train=data(8), test=data(4))

def make_dict():
    return {"name": "mine"}

def make_bad_field():
    return Task(name="mine", model=lambda: nn.Linear(4, 2), train=data(8), test=data(4), epochs=0)

def fail():
    raise KeyError("first\\nsecond")

def leave():
    raise SystemExit(3)

def silent():
    raise NotImplementedError

constant = 3
"""


@pytest.fixture
def task_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "my_task.py"
    path.write_text(TASK_FILE)
    return path


RAISING_LINE = TASK_FILE.splitlines().index('    raise KeyError("first\\nsecond")') + 1


def test_task_from_a_file(task_file: Path) -> None:
    task = load_task(f"{task_file}:make_task")
    assert isinstance(task, Task)
    assert task.name == "mine"


def test_task_from_a_relative_path_without_a_folder(task_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(task_file.parent)
    assert load_task("my_task.py:make_task").name == "mine"


def test_task_from_a_module_in_the_current_folder(task_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = task_file.parent / "letsam_test_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "own.py").write_text(TASK_FILE)
    monkeypatch.chdir(task_file.parent)
    try:
        assert load_task("letsam_test_package.own:make_task").name == "mine"
        with pytest.raises(TaskError, match=r"^no module named 'letsam_test_package\.other'"):
            load_task("letsam_test_package.other:make_task")
        with pytest.raises(
            TaskError, match=r"^letsam_test_package\.own has no function 'make'; it has data, make_task,"
        ):
            load_task("letsam_test_package.own:make")
        with pytest.raises(TaskError, match=rf"KeyError: .* \(own\.py, line {RAISING_LINE}\)$"):
            load_task("letsam_test_package.own:fail")
    finally:
        for name in [name for name in sys.modules if name.startswith("letsam_test_package")]:
            del sys.modules[name]


def test_two_files_of_the_same_name(task_file: Path) -> None:
    other = task_file.parent / "other" / "my_task.py"
    other.parent.mkdir()
    other.write_text(TASK_FILE.replace('name="mine"', 'name="other"'))
    assert load_task(f"{task_file}:make_task").name == "mine"
    assert load_task(f"{other}:make_task").name == "other"
    assert load_task(f"{task_file}:make_task").name == "mine"


def test_a_file_imports_what_lies_beside_it_and_hides_nothing(task_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    (task_file.parent / "colorsys.py").write_text("raise RuntimeError('hides the standard library')")
    (task_file.parent / "letsam_test_helper.py").write_text("import colorsys\nNAME = 'helped'")
    task_file.write_text(
        TASK_FILE.replace('name="mine"', "name=letsam_test_helper.NAME") + "\nimport letsam_test_helper"
    )
    try:
        assert load_task(f"{task_file}:make_task").name == "helped"
    finally:
        sys.modules.pop("letsam_test_helper", None)


def test_options_reach_functions_that_take_them(task_file: Path, tmp_path: Path) -> None:
    sized = load_task(f"{task_file}:make_sized", train_size=5, data_dir=tmp_path)
    assert len(sized.train) == 5  # type: ignore[arg-type]
    assert sized.name == f"sized {tmp_path}"
    assert len(load_task(f"{task_file}:make_sized").train) == 6  # type: ignore[arg-type]
    assert load_task(f"{task_file}:make_any", train_size=5).name == "['train_size']"
    assert load_task(f"{task_file}:make_any", model="mlp").name == "['model']"
    with pytest.raises(TaskError, match=r"my_task\.py:make_sized' takes no `model`$"):
        load_task(f"{task_file}:make_sized", model="mlp")
    with pytest.raises(TaskError, match=r"my_task\.py:make_task' takes no `train_size`$"):
        load_task(f"{task_file}:make_task", train_size=5)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("make_dict", r"my_task\.py:make_dict must return a letsam\.tasks\.Task, got dict$"),
        ("data", r"my_task\.py:data raised TypeError: data\(\) missing 1 required positional argument: 'count'$"),
        (
            "make_bad_field",
            r"raised ValueError: `epochs` must be a whole number >= 1, got 0 \(my_task\.py, line \d+\)$",
        ),
        ("fail", r"raised KeyError: 'first.*second' \(my_task\.py, line \d+\)$"),
        ("leave", r"raised SystemExit: 3 \(my_task\.py, line \d+\)$"),
        ("silent", r"raised NotImplementedError \(my_task\.py, line \d+\)$"),
        ("constant", r"something that is not a function under the name 'constant'"),
        ("make", r"has no function 'make'; it has data, make_task, make_sized"),
    ],
)
def test_functions_that_give_no_task(task_file: Path, function: str, message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        load_task(f"{task_file}:{function}")
    assert "\n" not in str(caught.value)


def test_the_line_named_is_the_one_that_raised(task_file: Path) -> None:
    with pytest.raises(TaskError, match=rf"\(my_task\.py, line {RAISING_LINE}\)$"):
        load_task(f"{task_file}:fail")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import no_such_module_anywhere",
            r"importing my_task\.py raised ModuleNotFoundError: No module named .* line 1\)$",
        ),
        ("def make_task(:\n", r"importing my_task\.py raised SyntaxError: .*my_task\.py, line 1"),
        (
            "x = 1\nraise RuntimeError('a\\nb')",
            r"importing my_task\.py raised RuntimeError: a b \(my_task\.py, line 2\)$",
        ),
        ("import sys; sys.exit('bye')", r"importing my_task\.py raised SystemExit: bye"),
        ("", r"has no function 'make_task'$"),
    ],
    ids=["import", "syntax", "raise", "exit", "empty"],
)
def test_files_that_cannot_be_imported(task_file: Path, text: str, message: str) -> None:
    task_file.write_text(text)
    with pytest.raises(TaskError, match=message) as caught:
        load_task(f"{task_file}:make_task")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_python_file(task_file: Path) -> None:
    other = task_file.with_suffix(".txt")
    other.write_text(TASK_FILE)
    with pytest.raises(TaskError, match=r"my_task\.txt must be a Python file, with a name that ends in \.py"):
        load_task(f"{other}:make_task")


def test_a_module_whose_own_import_is_missing_says_which(task_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (task_file.parent / "letsam_test_broken.py").write_text("import no_such_module_anywhere")
    monkeypatch.chdir(task_file.parent)
    with pytest.raises(
        TaskError, match=r"importing letsam_test_broken raised ModuleNotFoundError: .*no_such_module_any"
    ):
        load_task("letsam_test_broken:make_task")


def test_interrupting_is_no_task_error(task_file: Path) -> None:
    task_file.write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_task(f"{task_file}:make_task")


# Subsets and label noise


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
