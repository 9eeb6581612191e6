"""The network as one file for other programs: `torch.export` or ONNX, kept only if its outputs are the network's."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from letsam import checks
from letsam.tasks.model_outputs import logits_of, model_outputs

FOLDER = "exported"
EXPORTS = {"torch": "model.pt2", "onnx": "model.onnx"}
TOLERANCE = 1e-4


class ExportError(ValueError):
    """A network cannot be exported; the message is one line."""


def check_export(export: str | None) -> None:
    """Check the option `--export` before anything is trained.

    Raises:
        ValueError: an unknown format, or a package is missing.
    """
    if export is None:
        return
    checks.choice("export", export, tuple(EXPORTS))
    if export == "onnx":
        for package in ("onnx", "onnxscript"):
            try:
                importlib.import_module(package)
            except ImportError:
                raise ValueError(
                    f'`export` onnx needs the package {package}; install it with `pip install "letsam[export]"`'
                ) from None


def exported_file(folder: Path, export: str) -> Path:
    """Where the network of a model's folder is exported to."""
    return folder / FOLDER / EXPORTS[export]


def export_model(network: nn.Module, example: Any, folder: Path, export: str) -> str:
    """Write the network as another program can read it; the number of samples in a batch stays free.

    Args:
        network: on the CPU, in evaluation mode.
        example: a batch of inputs, a tensor or a dict of tensors; for texts, their length stays free as well.
        folder: of the model.
        export: "torch" (a file for `torch.export.load`) or "onnx".

    Returns:
        The name of the file within the folder.

    Raises:
        ExportError: the network cannot be exported, or the outputs of the file differ from its own by more than 1e-4
            of their size.
    """
    path = exported_file(folder, export)
    path.parent.mkdir(parents=True, exist_ok=True)
    wrapped = _LogitsOnly(network).eval()
    other = _shuffled(example)
    try:
        with torch.no_grad(), _silence():
            expected = wrapped(other)
            outputs = (
                _exported(wrapped, example, other, path) if export == "torch" else _onnx(wrapped, example, other, path)
            )
    except Exception as error:
        path.unlink(missing_ok=True)
        cause: BaseException = error
        while cause.__cause__ is not None:  # what the exporters wrap into pages of advice
            cause = cause.__cause__
        text = " ".join(str(cause).split())[:300]
        raise ExportError(f"the network cannot be exported to {export}: {type(cause).__name__}: {text}") from error
    size = max(float(expected.abs().max()), 1.0)
    difference = float((outputs - expected).abs().max())
    if not difference <= TOLERANCE * size:
        path.unlink(missing_ok=True)
        raise ExportError(f"the outputs of the {export} file differ from the network's by {difference:g}")
    return path.relative_to(folder).as_posix()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the warnings and log lines of the exporters, which are about their own internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _LogitsOnly(nn.Module):
    """The network as a function of its inputs that returns a tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Any) -> Any:
        return logits_of(model_outputs(self.network, inputs))


def _exported(network: nn.Module, example: Any, other: Any, path: Path) -> Tensor:
    program = torch.export.export(network, (example,), dynamic_shapes=(_free(example),))
    torch.export.save(program, path)
    return torch.export.load(path).module()(other)


def _onnx(network: nn.Module, example: Any, other: Any, path: Path) -> Tensor:
    import numpy as np
    from onnx.reference import ReferenceEvaluator

    names = list(example) if isinstance(example, Mapping) else ["inputs"]
    torch.onnx.export(
        network,
        (),
        path,
        kwargs={"inputs": example},  # a dict among the positional arguments would be taken for keywords
        input_names=names,
        output_names=["outputs"],
        dynamic_shapes={"inputs": _free(example)},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    values = list(other.values()) if isinstance(other, Mapping) else [other]
    found: Any = ReferenceEvaluator(str(path)).run(None, {n: v.numpy() for n, v in zip(names, values, strict=True)})
    return torch.from_numpy(np.asarray(found[0]))


def _free(example: Any) -> Any:
    """The dimensions that another batch may have of another size."""
    if isinstance(example, Mapping):
        batch, length = torch.export.Dim.DYNAMIC, torch.export.Dim.DYNAMIC
        return {name: {0: batch, 1: length} if value.ndim == 2 else {0: batch} for name, value in example.items()}
    free: Any = {0: torch.export.Dim.DYNAMIC}
    return free


def _shuffled(example: Any) -> Any:
    """Another batch, of three samples in another order, so that a file that has frozen its inputs is found out."""
    if isinstance(example, Mapping):
        return {name: _shuffled(value) for name, value in example.items()}
    return torch.cat([example.flip(0), example[:1]])
