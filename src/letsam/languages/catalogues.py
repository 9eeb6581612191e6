"""Which languages there are, and which one is spoken."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from gettext import GNUTranslations, NullTranslations
from pathlib import Path

__all__ = ["ENGLISH", "check_language", "known_languages", "script_messages", "speaking", "spoken", "spoken_language"]

ENGLISH = "en"
CATALOGUE = "letsam.po"
FOLDER = Path(__file__).parent

_current: ContextVar[str] = ContextVar("language", default=ENGLISH)


def known_languages(folder: Path = FOLDER) -> tuple[str, ...]:
    """The codes of the languages: English, and each folder with a catalogue.

    Example:
        >>> "ja" in known_languages()
        True
    """
    return (ENGLISH, *sorted(path.parent.name for path in folder.glob(f"*/{CATALOGUE}")))


def check_language(language: str) -> str:
    """Return the language if reports can be written in it.

    Raises:
        ValueError: there is no such language, or its catalogue is damaged.
        ImportError: Babel is not installed, and the language is not English.
    """
    known = known_languages()
    if language not in known:
        raise ValueError(f"`language` must be {' or '.join(known)}, got {language!r}")
    catalogue_of(language)
    return language


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Within this context, messages are in this language.

    Raises:
        ValueError: there is no such language, or its catalogue is damaged.
        ImportError: Babel is not installed, and the language is not English.
    """
    token = _current.set(check_language(language))
    try:
        yield
    finally:
        _current.reset(token)


def spoken_language() -> str:
    """The code of the language that messages are in.

    Example:
        >>> spoken_language()
        'en'
    """
    return _current.get()


def spoken() -> NullTranslations:
    """The catalogue of the language that messages are in."""
    return catalogue_of(_current.get())


@functools.cache
def catalogue_of(language: str, folder: Path = FOLDER) -> NullTranslations:
    """The messages of a language; what it lacks stays English."""
    if language == ENGLISH:
        return NullTranslations()
    try:
        from babel.messages.mofile import write_mo
        from babel.messages.pofile import PoFileError, read_po
    except ImportError as error:
        raise ImportError(f'`language`: {language!r} needs the package Babel: pip install "letsam[trial]"') from error
    path = folder / language / CATALOGUE
    compiled = io.BytesIO()
    try:
        with path.open("rb") as file:
            write_mo(compiled, read_po(file, locale=language, abort_invalid=True))
    except (PoFileError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a catalogue of messages: {error}") from error
    compiled.seek(0)
    return GNUTranslations(compiled)


def script_messages(script: str) -> dict[str, str]:
    """The messages of a script of a page, with their translations; empty in English.

    Args:
        script: JavaScript, in which messages are the arguments of ``gettext("...")``.
    """
    if spoken_language() == ENGLISH:
        return {}
    from babel.messages.extract import extract_javascript

    # Template strings, which hold most of the messages, are searched as well.
    found = extract_javascript(
        io.BytesIO(script.encode()), {"gettext": None}, (), {"encoding": "utf-8", "parse_template_string": True}
    )
    # A call with values is found as a list of the message and an empty place.
    messages = [said if isinstance(said, str) else next(iter(said), None) for _, _, said, _ in found]
    return {message: spoken().gettext(message) for message in messages if isinstance(message, str)}
