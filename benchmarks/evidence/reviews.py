"""A text task for the final check: sentences of Amazon reviews, from the same package as the movie snippets.

letsam trial benchmarks/evidence/reviews.py:reviews
"""

from __future__ import annotations

from pathlib import Path

from letsam.tasks import Task
from letsam.tasks.movie_snippets import sentiment

TABLE = "amazonReviewSnippets_GroundTruth.txt"
TEST_SIZE = 700


def reviews(train_size: int | None = None, data_dir: Path | None = None, model: str = "small") -> Task:
    """2,000 training and 700 test sentences, and a small transformer from scratch; options as for `movie-snippets`."""
    return sentiment("reviews", "sentences of Amazon reviews", TABLE, TEST_SIZE, train_size, data_dir, model)
