"""Messages in the language that is spoken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from letsam.languages.catalogues import spoken

__all__ = ["N_", "gettext", "list_text", "ngettext", "sentences"]


def gettext(message: str, /, **values: Any) -> str:
    """The message in the language that is spoken, with values in the place of its placeholders.

    Args:
        message: in English, with ``{name}`` for each value. Code has it as a literal, where catalogues find it.
        values: by their names in the message.

    Example:
        >>> gettext("test {metric}", metric="accuracy")
        'test accuracy'
    """
    text = spoken().gettext(message) if message else ""  # a catalogue has its head under ""
    return text.format(**values) if values else text


def ngettext(singular: str, plural: str, count: int, /, **values: Any) -> str:
    """The message for one or for several, in the language that is spoken.

    Args:
        singular: in English, for a count of 1.
        plural: in English, for other counts.
        count: decides which; it is the value ``{count}``, unless `values` has another text for it.
        values: by their names in the messages.

    Example:
        >>> ngettext("{count} seed", "{count} seeds", 3)
        '3 seeds'
    """
    return spoken().ngettext(singular, plural, count).format(**{"count": count, **values})


def N_(message: str) -> str:
    """The message as it is: it is marked for catalogues here, and translated where it is shown."""
    return message


def list_text(texts: Iterable[str]) -> str:
    """The texts as a list within a sentence.

    Example:
        >>> list_text(["sgd", "sam", "asam"])
        'sgd, sam and asam'
    """
    names = list(texts)
    if len(names) < 2:
        return "".join(names)
    first = names[0]
    for name in names[1:-1]:
        first = gettext("{first}, {second}", first=first, second=name)
    return gettext("{first} and {last}", first=first, last=names[-1])


def sentences(*texts: str) -> str:
    """Whole sentences one after another; empty ones are left out.

    Example:
        >>> sentences("It learns.", "", "It does not drift.")
        'It learns. It does not drift.'
    """
    said = [text for text in texts if text]
    joined = said[0] if said else ""
    for text in said[1:]:
        joined = gettext("{sentence} {next_sentence}", sentence=joined, next_sentence=text)
    return joined
