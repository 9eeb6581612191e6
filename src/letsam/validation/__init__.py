"""Validation data for a learned radius: splits of the training data, and data under simulated drift.

- `division`: `split`, by class, group and time
- `rotation`: `RotatingFolds`
- `drift`: `shifted`, validation data as they may arrive in operation
- `split`, `holding_out`: the splits of the built-in training loop
"""

from letsam.validation.drift import Mixture, ShiftedDataset, available_shifts, shifted
from letsam.validation.holding_out import held_out_split, strata_of
from letsam.validation.rotation import RotatingFolds, Turn
from letsam.validation.split import stratified_split

from letsam.validation.division import split  # isort: skip  # last: it takes the name of the module above

__all__ = [
    "Mixture",
    "RotatingFolds",
    "ShiftedDataset",
    "Turn",
    "available_shifts",
    "held_out_split",
    "shifted",
    "split",
    "strata_of",
    "stratified_split",
]
