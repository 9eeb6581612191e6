"""Shifts of texts. Texts are words; token rows can lose words, but have no letters."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

from letsam.validation.drift.draws import Draws
from letsam.validation.drift.known_shifts import table_of
from letsam.validation.drift.shift import Reference, Shift, by_severity

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {  # of keys, to the left and to the right
    key: [row[i] for i in (place - 1, place + 1) if 0 <= i < len(row)] for row in _ROWS for place, key in enumerate(row)
}


# Han, kana and Thai are written without spaces: each of their letters counts as a word, as for many tokenizers.
_UNSPACED = "\u0e00-\u0e7f\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"(?:[{_UNSPACED}]|[^\s{_UNSPACED}]+)\s*")


def typos(texts: list[str], severity: int, draws: Draws, _: Reference) -> list[str]:
    """Letters that are swapped, left out, doubled or replaced by the key beside."""
    return _each(texts, draws, lambda text, drawn: mistyped(text, by_severity(severity, *TYPOS), drawn))


TYPOS = (0.01, 0.03, 0.06, 0.1, 0.15)  # of the letters


def mistyped(text: str, rate: float, drawn: random.Random) -> str:
    """The text with typing errors in this fraction of its letters."""
    letters, place = list(text), 0
    while place < len(letters):
        letter = letters[place]
        if letter.isalpha() and drawn.random() < rate:
            kind = drawn.randrange(4)
            if kind == 0 and place + 1 < len(letters) and letters[place + 1].isalpha():
                letters[place : place + 2] = letters[place + 1], letter
                place += 1
            elif kind == 1:
                letters[place] = ""
            elif kind == 2 or letter.lower() not in NEIGHBOURS:
                letters[place] = letter * 2
            else:
                near = drawn.choice(NEIGHBOURS[letter.lower()])
                letters[place] = near.upper() if letter.isupper() else near
        place += 1
    return "".join(letters)


def dropped(texts: list[Any], severity: int, draws: Draws, _: Reference) -> list[Any]:
    """Words that are missing; one is left."""
    rate = by_severity(severity, 0.05, 0.1, 0.2, 0.3, 0.45)

    def drop(words: list[Any], drawn: random.Random) -> list[Any]:
        kept = [word for word in words if drawn.random() >= rate]
        return kept or [drawn.choice(words)]

    return _words(texts, draws, drop)


def casing(texts: list[str], severity: int, draws: Draws, _: Reference) -> list[str]:
    """Words in capitals."""
    rate = by_severity(severity, 0.1, 0.25, 0.5, 0.75, 1.0)
    return _words(
        texts, draws, lambda words, drawn: [word.upper() if drawn.random() < rate else word for word in words]
    )


def truncated(texts: list[Any], severity: int, draws: Draws, _: Reference) -> list[Any]:
    """The end of the text is missing; one word is left."""
    share = by_severity(severity, 0.85, 0.7, 0.5, 0.35, 0.2)
    return _words(texts, draws, lambda words, _: words[: max(1, round(share * len(words)))])


def _each(texts: list[str], draws: Draws, change: Callable[[str, random.Random], str]) -> list[str]:
    return [change(text, drawn) for text, drawn in zip(texts, draws.generators(), strict=True)]


def _words(texts: list[Any], draws: Draws, change: Callable[[list[Any], random.Random], list[Any]]) -> list[Any]:
    """Change the words of texts, or the tokens of rows."""
    found: list[Any] = []
    for text, drawn in zip(texts, draws.generators(), strict=True):
        words = _WORD.findall(text) if isinstance(text, str) else list(text)  # each with the space after it
        if not words:
            found.append(text)
            continue
        changed = change(words, drawn)
        if isinstance(text, str):
            kept = "".join(changed)
            changed = kept if changed[-1] == words[-1] else kept.rstrip()
        found.append(changed)
    return found


TOKEN_SHIFTS = ("dropped", "truncated")  # that rows of tokens can have

TEXT_SHIFTS = table_of(
    [
        Shift("typos", "text", "letters swapped, left out, doubled, or the key beside", typos),
        Shift("dropped", "text", "words that are missing", dropped),
        Shift("casing", "text", "words in capitals", casing),
        Shift("truncated", "text", "the end is missing", truncated),
    ]
)
