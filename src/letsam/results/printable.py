"""Text that may come from anywhere, made safe to show and to store."""

from __future__ import annotations

import re
from typing import TypeVar

__all__ = ["csv_cell", "encodable", "printable"]

Cell = TypeVar("Cell")

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str, *, page: bool = False) -> str:
    r"""Write every character that a terminal would act on as an escape.

    Args:
        text: such as the name of a task or a method from a file.
        page: escape control characters and lone surrogates only, and keep line breaks, as for a whole HTML page.

    Example:
        >>> print(printable("\x1b[31mred"), printable("two\nlines"))
        \x1b[31mred two\nlines
    """
    if page:
        return _CONTROLS.sub(lambda found: _escaped(found[0]), text)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


def encodable(text: str) -> str:
    r"""Write lone surrogates, which UTF-8 does not have, as escapes.

    Python makes them of a file's name or a command line that is not UTF-8.

    Example:
        >>> print(encodable("a\udcff"))
        a\udcff
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def csv_cell(value: Cell) -> Cell | str:
    """The value for a CSV file; a text that a spreadsheet would take for a formula gets an apostrophe before it.

    A formula could do anything, and names of files come from anywhere.

    Example:
        >>> csv_cell("=1+2"), csv_cell("cat"), csv_cell(-3)
        ("'=1+2", 'cat', -3)
    """
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
