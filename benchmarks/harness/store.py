"""JSON files of results: committed, so rounded, with one row per line, and replaced as a whole."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letsam.results import write_atomically


@dataclass(frozen=True)
class Store:
    """The files of a benchmark."""

    folder: Path  # where they are
    digits: int | None = 4  # significant digits of what is kept; None: all
    depth: int = 2  # how many levels of containers have a line for each of their elements

    def read(self, stem: str) -> dict[str, Any] | None:
        """The content of a file; None where there is none."""
        path = self.folder / f"{stem}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write(self, stem: str, content: dict[str, Any] | None) -> None:
        """Replace a file, at once and as a whole; without content, remove it."""
        path = self.folder / f"{stem}.json"
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, laid_out(plain(content, self.digits), self.depth) + "\n")


def plain(value: Any, digits: int | None) -> Any:
    """The value for JSON: floats rounded, null for those that are not finite, lists for tuples."""
    if isinstance(value, dict):
        return {name: plain(one, digits) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, digits) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}") if isinstance(value, float) and digits else value


def laid_out(value: Any, depth: int, indent: int = 0) -> str:
    """JSON with a line for each element of the outer containers that hold containers.

    Example:
        >>> print(laid_out({"schema": 1, "rows": [{"a": [1]}, {"a": [2]}]}, depth=2))
        {
         "schema": 1,
         "rows": [
          {"a": [1]},
          {"a": [2]}
         ]
        }
    """
    elements = list(value.values() if isinstance(value, dict) else value) if isinstance(value, dict | list) else []
    if not depth or not any(isinstance(one, dict | list) for one in elements):
        return json.dumps(value)
    names = [f"{json.dumps(name)}: " for name in value] if isinstance(value, dict) else [""] * len(elements)
    margin = " " * (indent + 1)
    texts = (laid_out(one, depth - 1, indent + 1) for one in elements)
    lines = ",\n".join(f"{margin}{name}{text}" for name, text in zip(names, texts, strict=True))
    start, end = "{}" if isinstance(value, dict) else "[]"
    return f"{start}\n{lines}\n{' ' * indent}{end}"
