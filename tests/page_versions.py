"""Whether a page in a further language says what the English page says: what can be compared without reading it."""

from __future__ import annotations

import calendar
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from page_code import ROOT

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[(?:[^][]|\[[^][]*\])*\]\(([^)\s]+)\)")
NAME = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]*[A-Z][A-Za-z]*[A-Z][A-Za-z]*")
NUMBER = re.compile(r"(?<![A-Za-z0-9_.,])[-+]?\d+(?:[.,]\d+)*")
COMMENT = re.compile(r"( {2,}# ).*$", re.M)  # may be translated
ITEM = re.compile(r"^ *(?:[-*]|\d+\.) ", re.M)
ROW = re.compile(r"^ *\|.*\|$", re.M)
QUOTE = re.compile(r"^> .*$", re.M)
# English numbers in words, which other languages write as digits. "A minute" is 1 minute, too.
CARDINALS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
MONTHS = list(calendar.month_name)[1:]
WORDS = {word: str(value) for words in (CARDINALS, ORDINALS, MONTHS) for value, word in enumerate(words, 1)}
WORDS |= {"once": "1", "twice": "2", "half": "2", "hundred": "100", "thousand": "1,000"}


@dataclass(frozen=True)
class Version:
    """A page in one language.

    Args:
        language: the folder of the language in `docs`; "en" is `docs` itself.
        name: of the page in that folder; "README.md" is the README.
        text: the page.
    """

    language: str
    name: str
    text: str

    @property
    def path(self) -> str:
        """The page in the repository."""
        return path_of(self.language, self.name)


def path_of(language: str, name: str) -> str:
    """Where a page is in the repository."""
    if language != "en":
        return f"docs/{language}/{name}"
    return name if name == "README.md" else f"docs/{name}"


def version(language: str, name: str) -> Version:
    """A page as it is in the repository."""
    return Version(language, name, (ROOT / path_of(language, name)).read_text(encoding="utf-8"))


def differences(english: Version, other: Version) -> Iterator[str]:
    """A line for everything that the other version has not as the English one has it."""
    ours, theirs = sections(english.text), sections(other.text)
    if [level for level, _ in ours] != [level for level, _ in theirs]:
        yield f"headings: {[level for level, _ in ours]} are {[level for level, _ in theirs]}"
        return
    for (_, text), (_, translated) in zip(ours, theirs, strict=True):
        place = translated.partition("\n")[0]
        for what, left, right in [
            ("code", code(text), code(translated)),
            ("quotes", QUOTE.findall(text), QUOTE.findall(translated)),
            ("code in the text", spans(text), spans(translated)),
            ("names that are missing", [], missing_names(text, translated)),
            ("items of lists", [len(ITEM.findall(text))], [len(ITEM.findall(translated))]),
            ("cells of tables", cells(text), cells(translated)),
        ]:
            if left != right:
                yield f"{place}: {what}: {left} are {right}"
        yield from (f"{place}: number {one}" for one in different_numbers(text, translated))
        yield from (f"{place}: link {one}" for one in different_links(text, english, translated, other))


def sections(text: str) -> list[tuple[int, str]]:
    """The level of each heading, and the text from it to the next; what stands before the first has level 0."""
    hidden = FENCE.sub(lambda block: re.sub(r"[^\n]", "x", block[0]), text)
    starts = [0, *(found.start() for found in re.finditer(r"^#+ ", hidden, re.M))]
    parts = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    return [(len(re.match(r"#*", part)[0]), part) for part in parts]  # pyright: ignore[reportOptionalSubscript]


def code(text: str) -> list[tuple[str, str]]:
    """Language and lines of each block, without the words of comments."""
    return [(kind, re.sub(COMMENT, r"\1", lines)) for kind, lines in FENCE.findall(text)]


def spans(text: str) -> list[str]:
    """The code in the text, each once, in order of the alphabet."""
    return sorted({" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text))})


def missing_names(english: str, other: str) -> list[str]:
    """Names with two capitals or more, such as CUDA, that only the English text has."""
    texts = (SPAN.sub("", FENCE.sub("", LINK.sub(_text_of_link, text))) for text in (english, other))
    ours, theirs = ({name.removesuffix("s") for name in NAME.findall(text)} for text in texts)  # CPUs
    return sorted(ours - theirs)


def cells(text: str) -> list[int]:
    """How many cells each row has."""
    return [row.count("|") for row in ROW.findall(FENCE.sub("", text))]


def different_numbers(english: str, other: str) -> list[str]:
    """The numbers of the English text that the other has less often, and those that the other has alone."""
    ours, theirs = (Counter(NUMBER.findall(LINK.sub(_text_of_link, one))) for one in (english, other))
    written = {WORDS[word] for word in re.findall(r"[A-Za-z]+", english.replace("-", " ")) if word in WORDS}
    written |= {WORDS[word.lower()] for word in re.findall(r"\b[A-Z][a-z]+", english) if word.lower() in WORDS}
    return [*(ours - theirs), *(number for number in theirs - ours if number not in {*written, "1"})]


def _text_of_link(link: re.Match[str]) -> str:
    return link[0].rpartition("](")[0]


def different_links(english: str, page: Version, other: str, translated: Version) -> list[str]:
    """The targets in the repository that only one of the two texts links.

    A link of the other version leads to the version of its target in the same language, if there is one. It may lead to
    more pages of its language. Links from a page to its own versions do not count.
    """
    versions = {path_of(one.language, one.name) for one in (page, translated)}
    own = Counter(targets(other, translated.path))
    wanted = Counter(_in_language(target, translated.language) for target in targets(english, page.path))
    missing = [target for target in wanted - own if not _is_version(target, page.name)]
    added = [target for target in own - wanted if not target.startswith(f"docs/{translated.language}/")]
    return [*missing, *(target for target in added if target not in versions)]


def targets(text: str, path: str) -> Iterator[str]:
    """What the links of a page lead to, in the repository; addresses as they are."""
    for target in LINK.findall(FENCE.sub("", text)):
        yield target if ":" in target else posixpath.normpath(posixpath.join(posixpath.dirname(path), target))


def _in_language(target: str, language: str) -> str:
    name = target if target == "README.md" else target.removeprefix("docs/")
    translated = path_of(language, name)
    return translated if name.endswith(".md") and (ROOT / translated).is_file() else target


def _is_version(target: str, name: str) -> bool:
    """Whether a path is that of a page in a further language."""
    return (
        re.fullmatch(rf"docs/[^/]+/{re.escape(name)}", target) is not None
        and (ROOT / posixpath.dirname(target) / "site.yml").is_file()
    )
