"""How inputs are made of files: fitted on the training data, saved without pickles, the same bit for bit when loaded.

A preparation is a folder with ``preparation.json``, ``preparation.safetensors`` where it has tensors, and files that a
library writes itself, such as ``tokenizer.json``.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from torch.utils.data import Dataset

from letsam.data.problems import DataError
from letsam.results import write_atomically

VALUES, TENSORS = "preparation.json", "preparation.safetensors"

# A new modality needs a file and a line here. Names, so that the libraries of a modality are imported when it is used.
_CLASSES: dict[str, str] = {
    "audio": "letsam.data.audio_folders:AudioPreparation",
    "image": "letsam.data.image_folders:ImagePreparation",
    "table": "letsam.data.tables:TablePreparation",
    "text": "letsam.data.text_files:TextPreparation",
    "tensors": "letsam.data.tensor_files:TensorPreparation",
}


class InputRows(Dataset[Any]):
    """Prepared inputs in memory: the rows of a tensor, or of each tensor of a dict.

    Args:
        inputs: shape ``(n, ...)``.
    """

    def __init__(self, inputs: Tensor | Mapping[str, Tensor]) -> None:
        self.inputs = inputs

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.inputs if isinstance(self.inputs, Tensor) else next(iter(self.inputs.values())))

    def __getitem__(self, index: int) -> Any:
        """The input of one row."""
        if isinstance(self.inputs, Tensor):
            return self.inputs[index]
        return {name: rows[index] for name, rows in self.inputs.items()}


class Preparation:
    """Makes inputs of files of one modality.

    A subclass has a line in the registry of this module, sets `modality`, and overrides `values`, `restored` and
    `read`. With tensors it overrides `tensors`, with other files `save_files`.
    """

    modality: ClassVar[str]
    classes: tuple[str, ...] = ()
    collate: Callable[[list[Any]], Any] | None = None
    """Makes a batch of inputs alone; None: tensors are stacked."""

    def values(self) -> dict[str, Any]:
        """What was fitted, as JSON values."""
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """What was fitted, in tensors."""
        return {}

    def save_files(self, folder: Path) -> None:
        """Write the files of another library."""

    @classmethod
    def restored(cls, values: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> Preparation:
        """The preparation with these `values` and `tensors`; `folder` has the files of `save_files`."""
        raise NotImplementedError

    def read(self, path: str) -> Dataset[Any]:
        """The inputs of a new file of the same form; targets are not needed.

        Raises:
            DataError: the file lacks something that the training data had; one line that names it.
        """
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write it to a folder, which is made if it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = self.tensors()
        if tensors:
            from safetensors.torch import save_file

            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / TENSORS)
        self.save_files(folder)
        content = {"modality": self.modality, "classes": list(self.classes), "values": self.values()}
        write_atomically(folder / VALUES, json.dumps(content, ensure_ascii=False, indent=1))


def load_preparation(folder: Path) -> Preparation:
    """Read what `Preparation.save` wrote.

    Raises:
        DataError: the folder holds no preparation, or one of a later version.
    """
    try:
        content = json.loads((folder / VALUES).read_text(encoding="utf-8"))
        modality, classes, values = content["modality"], tuple(content["classes"]), content["values"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / VALUES}: expected a preparation of data, got {error!r}") from error
    if modality not in _CLASSES:
        raise DataError(f"{folder / VALUES}: expected one of {', '.join(_CLASSES)}, got {modality!r}")
    module, _, name = _CLASSES[modality].partition(":")
    kind: type[Preparation] = getattr(importlib.import_module(module), name)
    tensors: dict[str, Tensor] = {}
    if (folder / TENSORS).exists():
        from safetensors.torch import load_file

        tensors = load_file(folder / TENSORS)
    preparation = kind.restored(values, tensors, folder)
    preparation.classes = classes
    return preparation
