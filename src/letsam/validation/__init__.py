"""Validation data for a learned radius: splits of the training data.

- `division`: `split`, by class, group and time
- `rotation`: `RotatingFolds`
- `split`, `holding_out`: the splits of the built-in training loop
"""

from letsam.validation.holding_out import held_out_split, strata_of
from letsam.validation.rotation import RotatingFolds, Turn
from letsam.validation.split import stratified_split

from letsam.validation.division import split  # isort: skip  # last: it takes the name of the module above

__all__ = ["RotatingFolds", "Turn", "held_out_split", "split", "strata_of", "stratified_split"]
