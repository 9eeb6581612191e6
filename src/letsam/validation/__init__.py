"""Splits of the training data, which give a learned radius its validation data."""

from letsam.validation.split import stratified_split

__all__ = ["stratified_split"]
