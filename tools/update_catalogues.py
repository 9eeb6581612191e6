"""Bring the catalogues of `letsam.languages` up to date with the messages of the code.

    python tools/update_catalogues.py        # all languages
    python tools/update_catalogues.py fr     # a new language: makes its folder

Messages that the code no longer has are removed, new ones are added without a translation, which is for a person to
write. ``tests/languages/test_catalogues.py`` fails while one is missing. It needs Babel.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from letsam.languages import ENGLISH, known_languages

SOURCE = Path(__file__).parents[1] / "src" / "letsam"
LANGUAGES = SOURCE / "languages"
METHODS = [("**.py", "python"), ("**.j2", "jinja2.ext.babel_extract"), ("reports/script/**.js", "javascript")]
HEAD = r"""msgid ""
msgstr ""
"Language: {language}\n"
"Plural-Forms: {plurals}\n"
"Content-Type: text/plain; charset=utf-8\n"

"""
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "N_": None}


def messages_of_code(source: Path = SOURCE) -> Catalog:
    """The messages in the code, with the files that they are in."""
    options = {
        "**.j2": {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"},
        "reports/script/**.js": {"parse_template_string": "true"},
    }
    found = Catalog(project="letsam", fuzzy=False)
    for file, line, message, comments, context in extract_from_dir(source, METHODS, options, KEYWORDS):
        found.add(message, None, [(f"src/letsam/{file}", line)], auto_comments=comments, context=context)
    return found


def updated(path: Path, template: Catalog) -> Catalog:
    """The catalogue in this file with the messages of the template alone."""
    language = path.parent.name
    catalogue = Catalog(language, project="letsam", fuzzy=False)
    if path.exists():
        with path.open("rb") as file:
            catalogue = read_po(file, locale=language)
    catalogue.update(template, no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    return catalogue


def main() -> None:
    """Update the catalogues of all languages, and of those that are named."""
    template = messages_of_code()
    for language in sorted(set(known_languages()) - {ENGLISH} | set(sys.argv[1:])):
        path = LANGUAGES / language / "letsam.po"
        path.parent.mkdir(exist_ok=True)
        catalogue = updated(path, template)
        text = io.BytesIO()
        write_po(text, catalogue, width=100, sort_by_file=True, omit_header=True, include_lineno=False)
        path.write_bytes(HEAD.format(language=language, plurals=catalogue.plural_forms).encode() + text.getvalue())
        missing = sum(1 for message in catalogue if message.id and not all(message.string or [""]))
        print(f"{path.relative_to(SOURCE.parents[1])}: {len(catalogue)} messages, {missing} without a translation")


if __name__ == "__main__":
    main()
