"""The Python code and the commands of a page of the documentation."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def blocks_of(page: str) -> list[str]:
    """The blocks of a page, such as "README.md" or "docs/how-to/doctor.md"."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


def section_of(page: str, title: str) -> str:
    """The section of a page with this title, up to the next of its level."""
    return (ROOT / page).read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]


def commands_of(text: str) -> list[list[str]]:
    """The command lines in a text, without `letsam`."""
    return [shlex.split(command) for command in re.findall(r"^letsam (.*)$", text, re.M)]


def run_code(code: str, page: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run code of a page with these names; returns them with what the code has added."""
    exec(compile(code, page, "exec"), names)
    return names
