"""Radii: fixed, scheduled and learned, and the parts of a learned one (objective, rule, prior).

A radius is given scalars only (0-dim tensors, or one value per block of weights), never weights or gradients.
`letsam` exports the names in `__all__`; the names imported with `as` are for subclasses and are exported here alone.
"""

from .base import Ascent as Ascent
from .base import Evidence as Evidence
from .base import Radius
from .base import Wants as Wants
from .calibrated_loss import CalibratedLoss
from .doubts import radius_warning
from .excess_noise import ExcessNoise as ExcessNoise
from .fixed import FixedRadius
from .learned import LearnedRadius
from .log_adam import LogAdam
from .loss_budget import LossBudgetRadius
from .objective import Objective
from .one_sided_gap import OneSidedGap
from .prior import Prior
from .relative import layerwise, relative
from .rule import Rule
from .rule import Update as Update
from .scheduled import CosineRadius, LinearRadius, ProportionalRadius, ReplayedRadius
from .scheduled import ScheduledRadius as ScheduledRadius
from .squared_gap import SquaredGap
from .validation_guard import ValidationGuard
from .validation_loss import ValidationLoss

__all__ = [
    "CalibratedLoss",
    "CosineRadius",
    "FixedRadius",
    "LearnedRadius",
    "LinearRadius",
    "LogAdam",
    "LossBudgetRadius",
    "Objective",
    "OneSidedGap",
    "Prior",
    "ProportionalRadius",
    "Radius",
    "ReplayedRadius",
    "Rule",
    "SquaredGap",
    "ValidationGuard",
    "ValidationLoss",
    "layerwise",
    "radius_warning",
    "relative",
]
