"""Validation data for a learned radius: splits of the training data.

- `division`: `split`, by class, group and time
- `rotation`: `RotatingFolds`
- `split`, `holding_out`: the splits of the built-in training loop
"""

from letsam.validation.holding_out import held_out_split, strata_of
from letsam.validation.split import stratified_split  # isort: skip  # its module is named as the function below
from letsam.validation.division import split
from letsam.validation.rotation import RotatingFolds, Turn

__all__ = ["RotatingFolds", "Turn", "held_out_split", "split", "strata_of", "stratified_split"]
