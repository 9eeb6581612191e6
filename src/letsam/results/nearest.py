"""What a name that is not known may have been meant as."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(given: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of an error that names the known name nearest to the given one, or nothing if none is near.

    Args:
        given: what the user wrote.
        known: the names that there are.
        cutoff: how similar they must be, from 0 to 1, as in `difflib.get_close_matches`.

    Example:
        >>> did_you_mean("lets-sma", ["sgd", "sam", "lets-sam"]), did_you_mean("SGD", ["sgd"]), did_you_mean("x", ["y"])
        (", did you mean 'lets-sam'?", ", did you mean 'sgd'?", '')
    """
    by_lower = {name.lower(): name for name in reversed([*known])}
    near = difflib.get_close_matches(str(given).lower(), by_lower, n=1, cutoff=cutoff)
    return f", did you mean {by_lower[near[0]]!r}?" if near else ""
