"""Every message of the code is in every catalogue, translated, with the same values; and nothing else is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import letsam
from letsam.languages import check_language, gettext, known_languages, list_text, ngettext, sentences, speaking
from letsam.languages.catalogues import FOLDER, catalogue_of, script_messages, spoken_language

pytest.importorskip("babel")

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

from tools.update_catalogues import main, messages_of_code, updated

SOURCE = Path(letsam.__file__).parent
LANGUAGES = [language for language in known_languages() if language != "en"]


@pytest.fixture(scope="module")
def template() -> Catalog:
    return messages_of_code()


def read(language: str) -> Catalog:
    with (FOLDER / language / "letsam.po").open("rb") as file:
        return read_po(file, locale=language, abort_invalid=True)


def texts(message: object) -> tuple[str, ...]:
    return (message,) if isinstance(message, str) else tuple(message)  # type: ignore[arg-type]


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


def test_the_template_has_what_the_code_marks(template: Catalog) -> None:
    """An independent search: calls in Python, and calls in templates and scripts by their text."""
    marked: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                first = node.args[0]
                if node.func.id in {"gettext", "ngettext", "N_"} and isinstance(first, ast.Constant):
                    marked.add(str(first.value))
    for path, name in [
        *((one, "_") for one in SOURCE.rglob("*.j2")),
        *((one, "gettext") for one in SOURCE.rglob("*.js")),
    ]:
        marked |= set(re.findall(rf'\b{name}\("([^"]*)"', path.read_text(encoding="utf-8")))
    assert len(marked) > 400
    assert {texts(one.id)[0] for one in template if one.id} == marked


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_catalogue_has_every_message_and_no_other(language: str, template: Catalog) -> None:
    found = read(language)
    wanted, known = ({texts(one.id) for one in catalogue if one.id} for catalogue in (template, found))
    hint = "python tools/update_catalogues.py, then translate what is new"
    assert (sorted(wanted - known), sorted(known - wanted)) == ([], []), hint
    assert not found.obsolete
    for one in found:
        said = texts(one.string)
        assert all(said), f"no translation: {one.id}"
        assert not one.fuzzy, one.id
        if one.id:
            for text in said:
                assert placeholders(text) == placeholders(texts(one.id)[-1]), one.id
                assert "{}" not in text
                assert text == text.strip(), one.id


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_catalogue_is_as_the_tool_writes_it(
    language: str, template: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "src" / "letsam" / "languages" / language / "letsam.po"
    path.parent.mkdir(parents=True)
    path.write_bytes((FOLDER / language / "letsam.po").read_bytes())
    monkeypatch.setattr("tools.update_catalogues.LANGUAGES", path.parents[1])
    monkeypatch.setattr("tools.update_catalogues.SOURCE", path.parents[2])
    monkeypatch.setattr("tools.update_catalogues.messages_of_code", lambda: template)
    monkeypatch.setattr(sys, "argv", ["update_catalogues.py"])
    main()
    assert path.read_bytes() == (FOLDER / language / "letsam.po").read_bytes()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_catalogue_uses_the_terms_of_the_pages(language: str) -> None:
    """The last column of the page of terms has the words that are not used."""
    page = (Path(__file__).parents[2] / "docs" / language / "terms.md").read_text(encoding="utf-8")
    rows = [line.split("|")[3] for line in page.splitlines() if line.startswith("|")][2:]
    avoided = {word for row in rows for word in re.split("[、,] *", row.strip()) if word}
    assert len(avoided) > 20
    said = [text for one in read(language) if one.id for text in texts(one.string)]
    assert [(word, text) for word in sorted(avoided) for text in said if word in text] == []


def test_new_messages_come_without_a_translation_and_old_ones_go(tmp_path: Path) -> None:
    path = tmp_path / "ja" / "letsam.po"
    path.parent.mkdir()
    path.write_text('msgid ""\nmsgstr "Language: ja\\n"\n\nmsgid "kept"\nmsgstr "残る"\n\nmsgid "old"\nmsgstr "古い"\n')
    code = Catalog()
    code.add("kept")
    code.add("kept too")
    assert [(one.id, one.string or "") for one in updated(path, code) if one.id] == [("kept", "残る"), ("kept too", "")]


def test_templates_and_scripts_have_no_quotes_or_tags_in_messages(template: Catalog) -> None:
    """They stand in attributes as well, and a template does not escape its messages."""
    for language in (None, *LANGUAGES):
        for one in template if language is None else read(language):
            if any(place.endswith((".j2", ".js")) for place, _ in one.locations):
                for text in texts(one.string if language else one.id):
                    assert not set(text) & set('"<>&'), text


def test_a_language_is_a_folder(tmp_path: Path) -> None:
    for language in ("fr", "de"):
        (tmp_path / language).mkdir()
    (tmp_path / "fr" / "letsam.po").write_text(
        'msgid ""\nmsgstr "Language: fr\\nContent-Type: text/plain; charset=utf-8\\nPlural-Forms: nplurals=2; '
        'plural=(n > 1);\\n"\n\nmsgid "seed"\nmsgstr "graine"\n',
        encoding="utf-8",
    )
    assert known_languages(tmp_path) == ("en", "fr")
    french = catalogue_of("fr", tmp_path)
    assert (french.gettext("seed"), french.gettext("what it lacks")) == ("graine", "what it lacks")


def test_a_damaged_catalogue_is_named(tmp_path: Path) -> None:
    (tmp_path / "xx").mkdir()
    (tmp_path / "xx" / "letsam.po").write_text('msgid "a"\nmsgstr "b"\nno message\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"letsam\.po: not a catalogue of messages: "):
        catalogue_of("xx", tmp_path)


def test_the_language_is_that_of_the_context() -> None:
    assert gettext("Skip to the results") == "Skip to the results"
    with speaking("ja"):
        assert spoken_language() == "ja"
        assert gettext("Skip to the results") == "結果に移動"
        assert ngettext("{count} seed", "{count} seeds", 1) == "1 シード"
        assert list_text(["a", "b", "c"]) == "a、b、c"
        assert sentences("一。", "", "二。") == "一。二。"
        assert gettext("no catalogue has this {value}", value=3) == "no catalogue has this 3"
        with speaking("en"):
            assert list_text(["a", "b", "c"]) == "a, b and c"
        assert spoken_language() == "ja"
    assert (spoken_language(), gettext("")) == ("en", "")


def test_values_are_not_messages() -> None:
    """A value with braces, or with the text of a message, stays as it is."""
    with speaking("ja"):
        assert gettext("{method} diverged", method="{seed} seeds") == "{seed} seeds 発散"


def test_an_unknown_language_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"`language` must be en or ja, got 'jp'(\n|$)"):
        check_language("jp")
    with pytest.raises(ValueError, match="`language` must be en or ja, got 'JA'"), speaking("JA"):
        pass
    assert spoken_language() == "en"


def test_without_babel_only_english_is_there() -> None:
    code = (
        "import sys; sys.modules['babel.messages.mofile'] = None\n"
        "from letsam.languages import check_language, gettext\n"
        "assert gettext(check_language('en')) == 'en'\n"
        "try:\n    check_language('ja')\nexcept ImportError as error:\n    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "`language`: 'ja' needs the package Babel: pip install \"letsam[trial]\"\n"


def test_messages_of_a_script() -> None:
    script = 'const a = gettext("epoch"), b = `${gettext("seed {seed}", { seed: 3 })}`; f("method");'
    assert script_messages(script) == {}
    with speaking("ja"):
        assert script_messages(script) == {"epoch": "エポック", "seed {seed}": "シード {seed}"}
