"""Docstrings of letsam as griffe reads them; mkdocstrings loads this for the reference (`mkdocs.yml`)."""

from __future__ import annotations

import re
from typing import Any

import griffe


class LetsamDocstrings(griffe.Extension):
    """Doctests stand under `Example:`, which griffe calls `Examples:`; a text may begin with `>` for larger than."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)


def readable(text: str) -> str:
    """The docstring as griffe and Markdown expect it."""
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.M)
    return re.sub(r"^( +\*{0,2}\w+: )>", r"\1\\>", text, flags=re.M)
