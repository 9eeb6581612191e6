"""Text from files, made safe to show and to store."""

import pytest

from letsam.results import encodable, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lets-sam:0.1 \N{EN DASH} µ 漢字", "lets-sam:0.1 \N{EN DASH} µ 漢字"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b31m", r"\x9b31m"),  # one character that is ESC and [
        ("\u202egpj.exe", r"\u202egpj.exe"),  # reverses what follows
        ("\ud800", r"\ud800"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_page_keeps_its_lines() -> None:
    page = "<p>\n\ta\x1b[31m\x00\ud800\u200d</p>\r\n"
    assert printable(page, page=True) == "<p>\n\ta\\x1b[31m\\x00\\ud800\u200d</p>\r\n"


def test_encodable_text_is_unicode() -> None:
    assert encodable("µ\udcff\ud800") == r"µ\udcff\ud800"
    assert encodable("µ 漢字\x1b") == "µ 漢字\x1b"
