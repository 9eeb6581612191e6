"""Splits of the training data, which give a learned radius its validation data."""

from letsam.validation.holding_out import held_out_split, strata_of
from letsam.validation.split import stratified_split

__all__ = ["held_out_split", "strata_of", "stratified_split"]
