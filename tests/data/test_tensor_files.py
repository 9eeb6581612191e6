"""Files of arrays and tensors: names, shapes, kinds of targets, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import data_cases
from data_cases import loaded
from letsam.data import DataError, load_preparation
from letsam.tasks import targets_of

X = np.random.default_rng(0).normal(3.0, 2.0, (40, 5))
Y = np.arange(40) % 3


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def error(path: Path, **options: Any) -> str:
    return data_cases.error(path, "FILE", **options)


def inputs(data: Any) -> Tensor:
    return torch.stack([data[i][0] for i in range(len(data))])


@pytest.mark.parametrize(("x", "y"), [("x", "y"), ("X", "Y"), ("data", "target"), ("images", "labels")])
def test_inputs_and_targets_by_their_names(x: str, y: str, tmp_path: Path) -> None:
    data = loaded(npz(tmp_path, **{x: X, y: Y}))
    assert (data.name, data.modality, data.kind, data.classes) == ("data", "tensors", "classification", ("0", "1", "2"))
    assert (data.outputs, data.input_shape, len(data.train), len(data.test)) == (3, (5,), 32, 8)  # type: ignore[arg-type]
    found = inputs(data.train)
    assert found.dtype == torch.float32
    assert found.mean(0).abs().max() < 1e-6
    assert torch.allclose(found.std(0, unbiased=False), torch.ones(5), atol=1e-5)
    assert sorted(torch.cat([targets_of(data.train), targets_of(data.test)]).tolist()) == sorted(Y.tolist())


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("X_train", "Y_train", "X_val", "Y_val"),
    ],
)
def test_training_and_test_data(names: tuple[str, ...], tmp_path: Path) -> None:
    data = loaded(npz(tmp_path, **dict(zip(names, (X, Y, X[:7] + 1, Y[:7]), strict=True))))
    assert (len(data.train), len(data.test), data.validation) == (40, 7, None)  # type: ignore[arg-type]
    scaled = (X[:7] + 1 - X.mean(0)) / X.std(0)  # by the training data
    assert np.abs(inputs(data.test).numpy() - scaled).max() < 1e-5


def test_validation_data_of_their_own(tmp_path: Path) -> None:
    arrays = {f"{part}_{name}": values for part in ("train", "val", "test") for name, values in (("x", X), ("y", Y))}
    assert error(npz(tmp_path, **arrays)).endswith("got 40 that are all in the training data as well")
    arrays["test_x"] = np.r_[X[:10], X[10:] + 1]
    data = loaded(npz(tmp_path, **arrays))
    assert len(data.validation) == 40  # type: ignore[arg-type]
    assert ("warning", "10 of 40 test samples are in the training data as well") in data.inferred
    assert ("warning", "40 of 40 validation samples are in the training data as well") in data.inferred


def test_a_test_file(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = npz(tmp_path / "other", x=X[:6] + 1, y=Y[:6])
    data = loaded(npz(tmp_path, x=X, y=Y), test=str(other))
    assert (len(data.train), len(data.test)) == (40, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_tensors(suffix: str, tmp_path: Path) -> None:
    content = {"x": torch.from_numpy(X).float(), "y": torch.from_numpy(Y)}
    path = tmp_path / f"data{suffix}"
    if suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(content, path)
    else:
        torch.save(content, path)
    assert len(loaded(path).train) == 32  # type: ignore[arg-type]


def test_a_pair_of_tensors(tmp_path: Path) -> None:
    torch.save((torch.from_numpy(X), torch.from_numpy(Y)), tmp_path / "data.pt")
    assert loaded(tmp_path / "data.pt").classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("y", "kind", "classes", "outputs", "dtype"),
    [
        (Y + 1, "classification", ("1", "2", "3"), 3, torch.int64),
        (np.array(["b", "a"] * 20), "classification", ("a", "b"), 2, torch.int64),
        (np.array([b"b", b"a"] * 20), "classification", ("a", "b"), 2, torch.int64),
        (Y > 0, "classification", ("False", "True"), 2, torch.int64),
        (Y[:, None], "classification", ("0", "1", "2"), 3, torch.int64),
        (Y.astype(float), "classification", ("0", "1", "2"), 3, torch.int64),
        (np.eye(3)[Y], "classification", ("0", "1", "2"), 3, torch.int64),
        (X[:, 0], "regression", (), 1, torch.float32),
        (np.arange(40), "regression", (), 1, torch.float32),
        (X[:, :2], "regression", (), 2, torch.float32),
        ((X[:, :3] > 3).astype(int), "multilabel", ("0", "1", "2"), 3, torch.float32),
    ],
)
def test_kinds_of_targets(
    y: Any, kind: str, classes: tuple[str, ...], outputs: int, dtype: torch.dtype, tmp_path: Path
) -> None:
    data = loaded(npz(tmp_path, x=X, y=y))
    assert (data.kind, data.classes, data.outputs) == (kind, classes, outputs)
    targets = targets_of(data.train)
    assert targets.dtype == dtype
    assert targets.shape[1:] == ((outputs,) if outputs > 1 and kind != "classification" else ())


def test_the_kind_can_be_said(tmp_path: Path) -> None:
    path = npz(tmp_path, x=X, y=Y)
    assert loaded(path, kind="regression").kind == "regression"
    assert error(path, kind="multilabel") == "FILE: expected rows of 0 and 1 for multilabel, got others"
    assert "expected numbers for regression, got 'b'" in error(
        npz(tmp_path, x=X, y=np.array(["b", "a"] * 20)), kind="regression"
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((40, 8, 8), (1, 8, 8)), ((40, 8, 9, 3), (3, 8, 9)), ((40, 3, 8, 9), (3, 8, 9)), ((40, 1, 8, 8), (1, 8, 8))],
)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images(shape: tuple[int, ...], expected: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    data = loaded(npz(tmp_path, x=images, y=Y))
    assert data.input_shape == expected
    found = inputs(data.train)
    assert found.mean((0, 2, 3)).abs().max() < 1e-4
    assert found.std((0, 2, 3)).sub(1).abs().max() < 1e-2
    assert dict(data.inferred)["augmentation"] == "none"
    if dtype == "uint8":
        assert dict(loaded(tmp_path / "data.npz", augment="shift").inferred)["augmentation"].startswith("shifts")
    else:
        assert error(tmp_path / "data.npz", augment="shift").startswith("FILE: `augment` needs images of type uint8")


def with_nan() -> Any:
    values = X.copy()
    values[[3, 7], 1] = np.nan, np.inf
    return values


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "FILE: expected targets for x, such as y, got x"),
        ({"y": Y}, "FILE: expected inputs for y, such as x, got y"),
        ({"a": X, "b": Y}, "FILE: expected arrays with the names x and y, or x_train and y_train, got a, b"),
        ({"x": X, "y": Y[:39]}, "FILE: y: expected 40 targets as there are inputs, got 39"),
        (
            {"x": with_nan(), "y": Y},
            "FILE: x: expected finite numbers, got NaN or infinity in 2 of 40 samples, the first of them 3",
        ),
        (
            {"x": X, "y": np.where(Y == 0, np.nan, 0.5)},
            "FILE: expected a value for every sample, got 14 of 40 without one",
        ),
        ({"x": X, "y": np.zeros(40, int)}, "FILE: expected at least 2 classes, got 0 alone"),
        ({"x": X.astype(str), "y": Y}, "FILE: x: expected numbers, got values of type <U32"),
        ({"x": X * 1j, "y": Y}, "FILE: x: expected numbers, got values of type complex128"),
        ({"x": X[:0], "y": Y[:0]}, "FILE: x: expected at least 1 sample, got the shape (0, 5)"),
        ({"x": X, "y": np.zeros((40, 2, 2))}, "FILE: y: expected one target for each sample, got the shape (40, 2, 2)"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, :4], "y_test": Y},
            "FILE: expected samples of one shape, got (5,) and (4,)",
        ),
        (
            {"x_train": X, "y_train": Y, "x_test": X + 1, "y_test": Y + 1},
            "FILE: test: expected classes that the training data have, got '3' in 13 of 40 samples",
        ),
    ],
)
def test_arrays_that_cannot_be_used(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert error(npz(tmp_path, **arrays)) == message


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    (tmp_path / "data.pt").write_bytes(pickle.dumps(print))
    assert "cannot be read as arrays" in error(tmp_path / "data.pt")
    np.savez(tmp_path / "data.npz", x=np.array([{"a": 1}] * 3, dtype=object), y=np.arange(3))
    assert "cannot be read as arrays" in error(tmp_path / "data.npz")
    (tmp_path / "other.npz").write_bytes(b"PK no archive")
    assert "cannot be read as arrays" in error(tmp_path / "other.npz")
    torch.save([1, 2, 3], tmp_path / "list.pt")
    assert error(tmp_path / "list.pt").endswith("expected a pair or a dict of tensors, got a list of other values")


def test_a_class_with_one_sample_is_trained_on(tmp_path: Path) -> None:
    data = loaded(npz(tmp_path, x=X, y=np.r_[Y[:39], 9]), test_share=0.5)
    assert (targets_of(data.train) == 3).sum() == 1
    assert ("warning", "9 has a single training sample") in data.inferred


def test_the_preparation_reads_new_files_in_the_same_way(tmp_path: Path) -> None:
    data = loaded(npz(tmp_path, x=X, y=Y))
    data.preparation.save(tmp_path / "saved")
    again = load_preparation(tmp_path / "saved")
    expected = {row.numpy().tobytes() for part in (data.train, data.test) for row in inputs(part)}
    for arrays in ({"x": X}, {"x_test": X, "other": Y}, {"unnamed": X}):
        found = again.read(str(npz(tmp_path, **arrays)))
        assert {found[i].numpy().tobytes() for i in range(len(found))} == expected  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"expected samples of 5 in x, got the shape \(40, 4\)"):
        again.read(str(npz(tmp_path, x=X[:, :4])))
    with pytest.raises(DataError, match=r"expected inputs under one of the names x, .*, got a, b"):
        again.read(str(npz(tmp_path, a=X, b=X)))


def test_the_preparation_of_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 9, 3), dtype=np.uint8)
    data = loaded(npz(tmp_path, x=images, y=Y))
    data.preparation.save(tmp_path / "saved")
    found = load_preparation(tmp_path / "saved").read(str(tmp_path / "data.npz"))
    expected = {row.numpy().tobytes() for part in (data.train, data.test) for row in inputs(part)}
    assert {found[i].numpy().tobytes() for i in range(len(found))} == expected  # type: ignore[arg-type]
