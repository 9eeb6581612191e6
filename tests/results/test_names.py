"""What the name of a method says."""

import pytest

from letsam.results import MethodName


@pytest.mark.parametrize(
    ("text", "search", "family", "learned", "refit"),
    [
        ("sgd", "sgd", "sgd", False, False),
        ("sam:0.1", "sam:0.1", "sam", False, False),
        ("sam:1e+3", "sam:1e+3", "sam", False, False),
        ("lets-sam", "lets-sam", "lets-sam", True, False),
        ("lets-asam:0.1", "lets-asam:0.1", "lets-asam", True, False),
        ("lets-sam+refit", "lets-sam", "lets-sam", True, True),
        ("lets-sam:1e+3+refit", "lets-sam:1e+3", "lets-sam", True, True),
        ("outlets-sam", "outlets-sam", "outlets-sam", False, False),
        ("lets", "lets", "lets", False, False),
        ("", "", "", False, False),
        ("<b>x</b>\n& +refit of it", "<b>x</b>\n& +refit of it", "<b>x</b>\n& +refit of it", False, False),
    ],
)
def test_the_parts_of_a_name(text: str, search: str, family: str, learned: bool, refit: bool) -> None:
    assert MethodName.parse(text) == MethodName(text, search, family, learned, refit)


def test_the_name_of_a_refit() -> None:
    assert MethodName.parse("lets-sam:0.1").refitted == "lets-sam:0.1+refit"
    assert MethodName.parse("lets-sam:0.1+refit").refitted == "lets-sam:0.1+refit"
