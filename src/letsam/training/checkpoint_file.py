"""Checkpoints of a run: one file, written atomically. Only tensors and plain values are read from it, no code."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from letsam.results import replacing
from letsam.training.data_record import DataRecord

FORMAT = "letsam checkpoint 1"


def save_checkpoint(path: Path, state: dict[str, Any], identity: dict[str, Any]) -> None:
    """Write `state` so that a reader sees either the old file or the new one.

    Args:
        path: the file; its folder is made if it is missing.
        state: tensors, numbers, strings, lists and dictionaries.
        identity: which run it is (task, method, seed, options); `load_checkpoint` compares it.

    Raises:
        OSError: the file cannot be written, such as on a full disk; one line that names it.
    """
    with replacing(path) as temporary:
        try:
            torch.save({"format": FORMAT, "identity": identity, "state": state}, temporary)
        except RuntimeError as error:  # torch's writer does not say which error of the system it met
            raise OSError(" ".join(str(error).split("\n")[0].split())) from error


def load_checkpoint(
    path: Path, identity: dict[str, Any], data: DataRecord | None = None, *, more_epochs: bool = False
) -> dict[str, Any]:
    """Read a checkpoint of the same run.

    Args:
        path: the file.
        identity: which run it must be.
        data: the data that it must have been trained on; None: any.
        more_epochs: whether it may have been made with fewer epochs than `identity` has.

    Returns:
        The state.

    Raises:
        ValueError: no checkpoint, a damaged one, or one of another run; one line that names the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch writes checksums but does not compare them
        if damaged is not None:
            raise zipfile.BadZipFile(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about other pickle files; the error below reports them
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises depends on the damage
        raise ValueError(f"{path}: expected a letsam checkpoint, got a file that cannot be read as one") from error
    complete = isinstance(content, dict) and all(isinstance(content.get(name), dict) for name in ("identity", "state"))
    if not complete or content.get("format") != FORMAT:
        raise ValueError(f"{path}: expected a letsam checkpoint, got another file")
    for name, value in identity.items():
        found = content["identity"].get(name)
        if name == "epochs" and more_epochs and isinstance(found, int) and found < value:
            continue
        if found != value and name != "data":
            raise ValueError(f"{path}: expected a checkpoint with {name} {value!r}, got {found!r}")
    if data is not None and (difference := data.difference(content["identity"].get("data"))):
        raise ValueError(f"{path}: holds a run on other data: {difference}")
    return content["state"]
