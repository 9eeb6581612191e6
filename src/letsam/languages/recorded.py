"""Sentences that records hold in English, translated where they are shown.

What a run or an audit has found is recorded as an English sentence with its numbers in it. `translated` finds the
message that the sentence was made of, and puts the same numbers into its translation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from letsam.languages.catalogues import ENGLISH, spoken_language
from letsam.languages.messages import gettext

__all__ = ["translated"]


def translated(text: str, messages: Sequence[str]) -> str:
    """A recorded sentence in the language that is spoken; as it is, if it is made of no message.

    Args:
        text: in English.
        messages: it may be made of, with ``{name}`` for each value; the first that fits is taken. A value that is a
            message itself, such as the name of a bound, is translated as well.

    Example:
        >>> translated("held out 3 rows", ("held out {count} rows",))
        'held out 3 rows'
    """
    if spoken_language() == ENGLISH:
        return text
    for message in messages:
        found = _pattern(message).fullmatch(text)
        if found is not None:
            return gettext(message, **{name: translated(value, messages) for name, value in found.groupdict().items()})
    return text


@functools.cache
def _pattern(message: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", message)
    return re.compile(
        "".join(f"(?P<{part}>.+?)" if index % 2 else re.escape(part) for index, part in enumerate(parts)), re.DOTALL
    )
