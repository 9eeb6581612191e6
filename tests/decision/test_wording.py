"""What a verdict says: what a manager needs, and nothing that the numbers do not show."""

import dataclasses
import math

import pytest

from decision_cases import BASE, changed, plus
from letsam.decision import decide, explanation, headline, numbers_beneath
from report_cases import trial


def made(*gains, learned=("lets-sam",), **options):
    return decide(trial({"sgd": BASE[: len(gains)], **dict.fromkeys(learned, plus(*gains))}), **options)


def text_of(found):
    return " ".join((headline(found), *explanation(found)))


def test_go():
    found = made(5.0, 5.5, 4.8, 5.2, minimum_effect=1.0, cost_per_pass=0.01)
    text = text_of(found)
    assert text.startswith(
        "Go: use lets-sam instead of sgd. The mean test accuracy of lets-sam is 5.13 points higher over 4 seeds. "
        f"The true gain is at least {found.lower:.2f} points, which is more than the 1.00 points asked for."
    )
    assert "3.00 times the gradient passes (300 instead of 100)" in text
    assert "At 0.01 for a pass, a training costs 2.00 more." in text
    assert "Each bound is wrong with a probability of at most 5 %" in text
    assert "They hold for this test set" in text
    assert "seeds and --resume" not in text


def test_the_rounding_of_accuracies_is_no_gain():
    found = made(1.5, -1.5, 1e-6, 0.0)
    assert 0 < abs(found.gain) < 1e-6
    assert "The mean test accuracy is the same over 4 seeds." in text_of(found)
    assert dict(numbers_beneath(found))["mean gain"] == "0 points"


def test_no_go_of_a_loss():
    text = text_of(made(-5.0, -5.5, -4.8, -5.2))
    assert text.startswith(
        "No-go: do not use lets-sam instead of sgd. The mean test accuracy of lets-sam is 5.13 points lower"
    )
    assert "The true difference is a loss of at least" in text


def test_no_go_of_a_gain_that_is_too_small():
    found = made(0.5, 0.6, 0.4, 0.5, minimum_effect=3.0)
    assert f"The true gain is at most {found.upper:.2f} points." in text_of(found)


def test_no_go_that_was_not_shown_says_what_could_have_been_seen():
    found = made(1.0, 5.0, 0.0, 3.0, planned_seeds=4)
    text = text_of(found)
    assert f"the true gain lies between {found.lower:+.2f} and {found.upper:+.2f} points" in text
    assert "The trial was planned with at most 4 seeds." in text
    assert f"a true gain of {found.detectable:.2f} points or more is shown with a probability of 80 %" in text
    assert "a smaller one may be there and not be seen" in text


def test_hopeless():
    found = made(1.0, -1.1, 0.4, -0.5, minimum_effect=1.2)
    assert "The probability that more seeds, up to 10, would show it is below 5 %." in text_of(found)
    assert "That does not show a gain of more than 1.20 points" in text_of(found)


def test_more_seeds():
    found = made(1.0, 5.0, 0.0, 3.0, cost_per_pass=0.5)
    text = text_of(found)
    more, total = found.more_seeds, 4 + found.more_seeds
    assert text.startswith(f"{more} more seeds needed: it is open whether to use lets-sam instead of sgd.")
    assert f"Run the same command with {total} seeds and --resume." in text
    assert f"For these two methods, that takes {400 * more:,} gradient passes, {200 * more:,}.00." in text
    few = made(5.0, 5.5)
    assert headline(few).startswith("1 more seed needed")
    assert "With fewer than 3 seeds, nothing can be told from chance." in text_of(few)
    assert "wrong with a probability" not in text_of(few)


def test_diverged():
    results = trial({"sgd": BASE, "lets-sam": plus(5, 5, 5, 5)})
    found = decide(changed(results, "lets-sam", test_loss=[0.5, 0.5, 0.5, math.nan]))
    assert "lets-sam diverged in 1 of 4 runs. A method that diverges is not adopted" in text_of(found)


def test_what_chose_the_candidate_is_told():
    several = made(5.0, 5.5, 4.8, 5.2, learned=("lets-sam", "lets-asam"))
    assert "was chosen among the methods with a learned radius by its validation loss, not by the test set" in text_of(
        several
    )
    assert ("error rate of a bound", "5 %, shared by 2 comparisons") in numbers_beneath(several)
    assert "validation" not in text_of(made(5.0, 5.5, 4.8, 5.2))


def test_an_error_has_its_own_unit():
    results = changed(
        trial({"sgd": [3.0, 3.1, 3.2], "lets-sam": [2.0, 2.15, 2.18]}), metric="RMSE", lower_is_better=True
    )
    text = text_of(decide(results))
    assert "The mean test RMSE of lets-sam is 0.99 lower over 3 seeds." in text
    assert "points" not in text
    worse = changed(trial({"sgd": [2.0, 2.15], "lets-sam": [3.0, 3.1]}), metric="RMSE", lower_is_better=True)
    assert "is 0.98 higher over 2 seeds" in text_of(decide(worse))


@pytest.mark.parametrize("gains", [(5.0,), (5.0, 5.5), (5.0, 5.5, 4.8, 5.2), (0.0, 0.0, 0.0), (-1.0, 2.0, 0.5)])
def test_the_numbers_are_beneath(gains):
    found = made(*gains)
    numbers = dict(numbers_beneath(found))
    assert numbers["pairs of runs"] == f"{len(gains)}, one for each seed"
    assert all(isinstance(value, str) and value for value in numbers.values())
    assert "nan" not in str(numbers)
    assert numbers["gradient passes of a training"] == "100 (sgd), 300 (lets-sam)"
    assert numbers["standard error from the test samples"] == "not considered"
    assert dict(numbers_beneath(dataclasses.replace(found, sample_error=0.2)))[
        "standard error from the test samples"
    ] == ("0.20 points")
    assert "for other test samples like these as well" in text_of(
        dataclasses.replace(made(1, 2, 1.5), sample_error=0.2)
    )
