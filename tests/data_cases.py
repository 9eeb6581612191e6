"""Reading data in tests: what is read, and why it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from letsam.data import DataError, DataOptions, LoadedData, read_data


def loaded(path: Path | str, **options: Any) -> LoadedData:
    """The data of a file or folder."""
    return read_data(DataOptions(path=str(path), **options))


def error(path: Path, place: str = "FOLDER", **options: Any) -> str:
    """Why the data are refused, in one line; `place` stands for the path."""
    with pytest.raises(DataError) as caught:
        loaded(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text.replace(str(path), place)
