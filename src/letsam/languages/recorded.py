"""Sentences that records hold in English, translated where they are shown.

What a run or an audit has found is recorded as an English sentence with its numbers in it. `translated` finds the
message that the sentence was made of, and puts the same numbers into its translation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence

from letsam.languages.catalogues import ENGLISH, spoken_language
from letsam.languages.messages import gettext

__all__ = ["translated"]


def translated(text: str, messages: Sequence[str], within: Mapping[str, Sequence[str]] | None = None) -> str:
    """A recorded sentence in the language that is spoken; as it is, if it is made of no message.

    Args:
        text: in English.
        messages: it may be made of, with ``{name}`` for each value; the first that fits is taken.
        within: for placeholders whose values are translated as well: the messages that these may be made of. Other
            values, such as names of files and columns, stay as they are.

    Example:
        >>> from letsam.languages import speaking
        >>> with speaking("ja"):
        ...     print(translated("row 3", ("row {place}",)))
        行 3
    """
    if spoken_language() == ENGLISH:
        return text
    within = within or {}
    for message in messages:
        found = _pattern(message).fullmatch(text)
        if found is not None:
            values = found.groupdict()
            known = {name: translated(values[name], within[name], within) for name in values if name in within}
            return gettext(message, **(values | known))
    return text


@functools.cache
def _pattern(message: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", message)
    return re.compile(
        "".join(f"(?P<{part}>.+?)" if index % 2 else re.escape(part) for index, part in enumerate(parts)), re.DOTALL
    )
