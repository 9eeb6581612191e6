"""Validation data for a learned radius: splits of the training data, simulated drift, audits.

- `division`: `split`, by class, group and time
- `rotation`: `RotatingFolds`
- `release`: `ReleaseSampler`, which gives held-out samples back to the training
- `drift`: `shifted`, validation data as they may arrive in operation
- `class_shares`: `class_shift`, for validation data with other shares of the classes
- `auditing`: `audit`, what is wrong with validation data
- `split`, `holding_out`: the splits of the built-in training loop
"""

from letsam.validation.auditing import Audit, AuditFinding, audit
from letsam.validation.class_shares import class_shift
from letsam.validation.drift import Mixture, ShiftedDataset, available_shifts, shifted
from letsam.validation.holding_out import held_out_split, strata_of
from letsam.validation.release import ReleaseSampler
from letsam.validation.rotation import RotatingFolds, Turn
from letsam.validation.split import stratified_split

from letsam.validation.division import split  # isort: skip  # last: it takes the name of the module above

__all__ = [
    "Audit",
    "AuditFinding",
    "Mixture",
    "ReleaseSampler",
    "RotatingFolds",
    "ShiftedDataset",
    "Turn",
    "audit",
    "available_shifts",
    "class_shift",
    "held_out_split",
    "shifted",
    "split",
    "strata_of",
    "stratified_split",
]
