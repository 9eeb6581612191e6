"""Arrays in `.npz` files, tensors in `.pt` and `.safetensors` files: inputs and targets by their names."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from letsam.data.data_options import DataOptions
from letsam.data.data_parts import DataPart, DataParts, divided_parts
from letsam.data.known_form import KnownForm
from letsam.data.labelled_files import LabelledFiles, with_test
from letsam.data.labels import Labels
from letsam.data.loaded import LoadedData
from letsam.data.pictures import Augmentation, Pictures, PixelScale
from letsam.data.preparation import InputRows, Preparation
from letsam.data.problems import DataError

SUFFIXES = (".npz", ".pt", ".pth", ".safetensors")
INPUTS = ("x", "inputs", "input", "data", "features", "images", "image")
TARGETS = ("y", "targets", "target", "labels", "label")
PARTS = {"train": ("train",), "test": ("test",), "validation": ("val", "valid", "validation")}


@dataclass(frozen=True)
class TensorForm:
    """How inputs are made of the arrays of a file.

    Args:
        shape: of one sample in the file.
        pixels: whether they are images of type uint8.
        last: whether the channels of images come last.
        mean: of each channel of images, or of each number of a row.
        std: likewise, > 0.
    """

    shape: tuple[int, ...]
    pixels: bool
    last: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, inputs: Tensor) -> TensorForm:
        """The form of training inputs, shape ``(n, ...)``."""
        shape = tuple(inputs.shape[1:])
        last = len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4)
        pixels = inputs.dtype == torch.uint8 and len(shape) in (2, 3)
        form = cls(shape, pixels, last, (), ())
        arranged = form.arranged(inputs)
        if pixels:
            scale = PixelScale.of(arranged)
            return cls(shape, pixels, last, scale.mean, scale.std)
        over = [0, *range(2, arranged.ndim)]  # numbers of a row one by one, images and sequences by their channels
        values = arranged.double()
        mean, std = values.mean(over), values.std(over, unbiased=False)
        std = torch.where(std > 1e-12, std, 1.0)
        return cls(shape, pixels, last, tuple(mean.tolist()), tuple(std.tolist()))

    def arranged(self, inputs: Tensor) -> Tensor:
        """Samples with their channels first: images without channels get one, single numbers are rows of one."""
        if len(self.shape) == 0:
            return inputs[:, None]
        if len(self.shape) == 2:
            return inputs[:, None]
        return inputs.movedim(-1, 1).contiguous() if self.last else inputs

    def prepared(self, inputs: Tensor) -> Tensor:
        """Inputs of the model, float32."""
        arranged = self.arranged(inputs)
        if self.pixels:
            return PixelScale(self.mean, self.std)(arranged)
        sides = (len(self.mean), *[1] * (arranged.ndim - 2))
        mean, std = (torch.tensor(values, dtype=torch.float64).view(sides) for values in (self.mean, self.std))
        return ((arranged.double() - mean) / std).float()


class TensorPreparation(Preparation):
    """Arranges and scales arrays.

    Args:
        form: how.
        classes: names of the classes or labels.
    """

    modality = "tensors"

    def __init__(self, form: TensorForm, classes: tuple[str, ...] = ()) -> None:
        self.form, self.classes = form, classes

    def values(self) -> dict[str, Any]:
        """The shape of a sample in the file."""
        return {"shape": list(self.form.shape), "pixels": self.form.pixels, "last": self.form.last}

    def tensors(self) -> dict[str, Tensor]:
        """Mean and standard deviation."""
        return {name: torch.tensor(getattr(self.form, name), dtype=torch.float64) for name in ("mean", "std")}

    @classmethod
    def restored(cls, values: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> TensorPreparation:
        """The preparation with these values."""
        mean, std = (tuple(tensors[name].tolist()) for name in ("mean", "std"))
        return cls(TensorForm(tuple(values["shape"]), values["pixels"], values["last"], mean, std))

    def read(self, path: str) -> Dataset[Any]:
        """The inputs of a file; it may have the names of training or test data, or the inputs alone."""
        arrays = read_arrays(Path(path))
        found = [part for part in ("", "test", "train", "validation") if _named(arrays, INPUTS, part) is not None]
        name = _named(arrays, INPUTS, found[0]) if found else next(iter(arrays)) if len(arrays) == 1 else None
        if name is None:
            raise DataError(f"{path}: expected inputs under one of the names {', '.join(INPUTS)}, got {_list(arrays)}")
        inputs = _numbers(arrays[name], f"{path}: {name}")
        if tuple(inputs.shape[1:]) != self.form.shape:
            expected = " x ".join(map(str, self.form.shape)) or "one number"
            raise DataError(f"{path}: expected samples of {expected} in {name}, got the shape {tuple(inputs.shape)}")
        return InputRows(self.form.prepared(inputs))


@dataclass(frozen=True)
class ArraySample:
    """A sample of an array.

    Args:
        digest: of its numbers.
        place: in the array.
        problem: None, as all have been checked.
    """

    digest: str
    place: int
    problem: str | None = None


def read_tensors(options: DataOptions, known: KnownForm | None = None) -> LoadedData:
    """Read and prepare a file of arrays.

    The names are ``x`` and ``y``, or others that are usual, with ``train``, ``test`` or ``val`` before or behind them
    where the file has several parts. A file that holds a pair of tensors has inputs and targets.

    Raises:
        DataError: there are no inputs or targets, their lengths differ, or a value is missing.
    """
    options.refuse("arrays", "target", "text", "group", "time", "weight", "drop")
    options.refuse("arrays", "sample_rate", "seconds", "image_size", "pretrained", "skip_broken")
    path = Path(options.path)
    fitted = None if known is None else known.prepared_by(TensorPreparation, options.path)
    found = _parts(path)
    if options.test is not None:
        other = _parts(Path(options.test))
        found["test"] = other.get("test") or other["train"]
    inputs = {name: pair[0] for name, pair in found.items()}
    shape = tuple(inputs["train"].shape[1:]) if fitted is None else fitted.form.shape
    for values in inputs.values():
        if tuple(values.shape[1:]) != shape:
            if fitted is not None:
                raise DataError(f"{path}: expected samples of the shape {shape}, got {tuple(values.shape[1:])}")
            raise DataError(f"{path}: expected samples of one shape, got {shape} and {tuple(values.shape[1:])}")
    labels = known.labels if known is not None else Labels.of(found["train"][1], options.kind, str(path))
    parts: dict[str, DataPart[ArraySample]] = {}
    for name, (values, given) in found.items():
        places = range(len(values))
        files = LabelledFiles(f"{path}: {name}", [path for _ in places], [str(i) for i in places], given)
        digests = [hashlib.sha256(row).hexdigest() for row in values.reshape(len(values), -1).numpy()]
        samples = [ArraySample(digest, i) for i, digest in enumerate(digests)]
        parts[name] = DataPart(files, samples, labels.targets(given, files.place))
    return _loaded(divided_parts(parts, labels, options), inputs, options, fitted)


def _loaded(
    parts: DataParts[ArraySample], inputs: dict[str, Tensor], options: DataOptions, fitted: TensorPreparation | None
) -> LoadedData:
    named = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    known = {name: part for name, part in named.items() if part is not None}
    chosen = {
        name: (inputs[name] if name in inputs else inputs["train"])[[sample.place for sample in part.looks]]
        for name, part in known.items()
    }
    form = TensorForm.of(chosen["train"]) if fitted is None else fitted.form
    rows = [("inputs", f"{' x '.join(map(str, form.shape)) or 'one number'} of type {str(chosen['train'].dtype)[6:]}")]
    augmentation = _augmentation(options, form, chosen["train"])
    rows.append(("augmentation", "none" if augmentation is None else augmentation.text))
    sets: dict[str, Dataset[Any]] = {}
    for name, values in chosen.items():
        targets = known[name].targets
        if form.pixels:
            given = augmentation if name == "train" else None
            sets[name] = Pictures(form.arranged(values), targets, PixelScale(form.mean, form.std), given)
        else:
            sets[name] = TensorDataset(form.prepared(values), targets)
    return parts.loaded(
        name=Path(options.path).stem,
        modality="tensors",
        train=sets["train"],
        test=sets["test"],
        validation=sets.get("validation"),
        preparation=TensorPreparation(form, parts.labels.classes),
        input_shape=tuple(form.arranged(chosen["train"][:1]).shape[1:]),
        inferred=rows,
    )


def _augmentation(options: DataOptions, form: TensorForm, inputs: Tensor) -> Augmentation | None:
    """Of images: none unless it is asked for, as arrays may be anything."""
    if options.augment in ("auto", "none"):
        return None
    if not form.pixels:
        raise DataError(f"{options.path}: `augment` needs images of type uint8, got {str(inputs.dtype)[6:]}")
    height, width = form.arranged(inputs[:1]).shape[2:]
    return Augmentation.of_size(height, width, flip=options.augment == "shift+flip")


def _parts(path: Path) -> dict[str, tuple[Tensor, list[Any]]]:
    """Inputs and targets of each part that a file has; the only one is "train"."""
    arrays = read_arrays(path)
    found: dict[str, tuple[str, str]] = {}
    for part in ("", *PARTS):
        names = _named(arrays, INPUTS, part), _named(arrays, TARGETS, part)
        if names[0] is not None and names[1] is not None:
            found[part or "train"] = names[0], names[1]
        elif names[0] is not None or names[1] is not None:
            lacking, has = ("targets", names[0]) if names[1] is None else ("inputs", names[1])
            known = TARGETS if names[1] is None else INPUTS
            raise DataError(f"{path}: expected {lacking} for {has}, such as {known[0]}, got {_list(arrays)}")
    if "train" not in found:
        raise DataError(f"{path}: expected arrays with the names x and y, or x_train and y_train, got {_list(arrays)}")
    named = with_test(found)
    return {part: _pair(arrays[x], arrays[y], f"{path}: {x}", f"{path}: {y}") for part, (x, y) in named.items()}


def array_targets(path: Path) -> list[Any]:
    """The targets of a file of arrays, one for each of the inputs that `TensorPreparation.read` takes from it.

    Raises:
        DataError: the file has no targets, or another number of them.
    """
    arrays = read_arrays(path)
    for part in ("", "test", "train", "validation"):
        inputs, targets = _named(arrays, INPUTS, part), _named(arrays, TARGETS, part)
        if inputs is not None and targets is not None:
            return _pair(arrays[inputs], arrays[targets], f"{path}: {inputs}", f"{path}: {targets}")[1]
        if inputs is not None:
            break
    raise DataError(f"{path}: expected targets under one of the names {', '.join(TARGETS)}, got {_list(arrays)}")


def _pair(inputs: Any, targets: Any, place: str, target_place: str) -> tuple[Tensor, list[Any]]:
    values = _numbers(inputs, place)
    shape = tuple(targets.shape)
    if len(shape) == 2 and shape[1] == 1:  # a column
        targets = targets.reshape(-1)
    if len(shape) not in (1, 2):
        raise DataError(f"{target_place}: expected one target for each sample, got the shape {shape}")
    if len(values) != shape[0]:
        raise DataError(f"{target_place}: expected {len(values)} targets as there are inputs, got {shape[0]}")
    rows = targets.tolist()
    if len(targets.shape) == 2:
        rows = [tuple(row) for row in rows]
        if all(sorted(row)[-1] == 1 and sum(row) == 1 and set(row) <= {0, 1} for row in rows):  # one-hot: classes
            rows = [row.index(1) for row in rows]
    return values, [row.decode() if isinstance(row, bytes) else row for row in rows]


def _numbers(values: Any, place: str) -> Tensor:
    """Inputs as a tensor, all finite."""
    import numpy as np

    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "biuf":
            raise DataError(f"{place}: expected numbers, got values of type {values.dtype}")
        if values.dtype.kind == "u" and values.dtype.itemsize > 1:
            values = values.astype(np.int64)
        values = torch.from_numpy(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="))))
    if values.is_complex():
        raise DataError(f"{place}: expected real numbers, got values of type {str(values.dtype)[6:]}")
    if values.ndim == 0 or len(values) == 0:
        raise DataError(f"{place}: expected at least 1 sample, got the shape {tuple(values.shape)}")
    broken = ~values.reshape(len(values), -1).isfinite().all(1)
    if broken.any():
        raise DataError(
            f"{place}: expected finite numbers, got NaN or infinity in {int(broken.sum())} of {len(values)} samples, "
            f"the first of them {int(broken.nonzero()[0])}"
        )
    return values.to(torch.uint8) if values.dtype == torch.bool else values


def _named(arrays: Mapping[str, Any], names: tuple[str, ...], part: str) -> str | None:
    """The array of this role and part, such as x_train, train_images or X; lower and upper case are the same."""
    lower = {name.lower(): name for name in arrays}
    for word in PARTS.get(part, ("",)):
        for name in names:
            for tried in (f"{name}_{word}", f"{word}_{name}", f"{name}{word}", f"{word}{name}") if word else (name,):
                if tried in lower:
                    return lower[tried]
    return None


def _list(arrays: Mapping[str, Any]) -> str:
    return ", ".join(list(arrays)[:10]) or "none"


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays or tensors of a file by their names; no code in it is run.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    import numpy as np

    if not path.is_file():
        raise DataError(f"{path}: expected a file with one of the suffixes {', '.join(SUFFIXES)}, got no such file")
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other pickle files; the error below reports them
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # numpy, torch and safetensors raise many types
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: cannot be read as arrays ({reason})") from error
    if isinstance(content, list | tuple) and len(content) == 2:
        content = dict(zip(("x", "y"), content, strict=True))
    if isinstance(content, Tensor):
        content = {"x": content}
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DataError(f"{path}: expected a pair or a dict of tensors, got a {type(content).__name__} of other values")
    return {str(name): value for name, value in content.items()}
