"""Sentences of records in other languages: the numbers stay, and what is the user's own."""

from letsam.languages import speaking, translated

MESSAGES = ("among {count} by the highest mean test {metric} over {seeds} seeds", "row {place}")


def test_the_values_of_a_sentence_stay() -> None:
    sentence = "among 4 by the highest mean test my score over 3 seeds"
    assert translated(sentence, MESSAGES) == sentence
    with speaking("ja"):
        said = translated(sentence, MESSAGES)
        assert said == "4 個の手法のうちテストmy scoreの平均が最も高いため（3 シード）"
        assert translated(sentence, MESSAGES, {"metric": ("accuracy",)}) == said
        accuracy = translated(sentence.replace("my score", "accuracy"), MESSAGES, {"metric": ("accuracy",)})
        assert accuracy == said.replace("my score", "正解率")


def test_what_no_message_makes_stays() -> None:
    with speaking("ja"):
        for text in ("among 4", "row", "arrow 3", "", "row 3 "):
            assert translated(text, ("row {place}x", *MESSAGES[:1])) == text
        assert translated("row a {place}", MESSAGES) == "行 a {place}"  # a value is no message
