"""Reports in other languages: messages are English, and a catalogue per language translates them.

    from letsam.languages import gettext, speaking

    with speaking("ja"):
        gettext("Skip to the results")  # '結果へ移動'
        gettext("Seed {seed} diverged.", seed=3)  # the English text, if the catalogue lacks the message

A language is a folder here with a catalogue ``letsam.po`` (gettext); nothing else names it. Babel reads the catalogue;
English needs none. ``python tools/update_catalogues.py`` brings the catalogues up to date with the code.

A message is a whole sentence or label with named placeholders, so that a language can order its words. Sentences are
put together by `sentences` and `list_text`, not by ``+``, as languages differ in what stands between them.
"""

from letsam.languages.catalogues import (
    ENGLISH,
    check_language,
    known_languages,
    script_messages,
    speaking,
    spoken_language,
)
from letsam.languages.messages import N_, gettext, list_text, ngettext, sentences
from letsam.languages.recorded import translated

__all__ = [
    "ENGLISH",
    "N_",
    "check_language",
    "gettext",
    "known_languages",
    "list_text",
    "ngettext",
    "script_messages",
    "sentences",
    "speaking",
    "spoken_language",
    "translated",
]
