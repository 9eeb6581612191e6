"""Models in operation: watched, re-tuned, compared with their successors, and kept as versions.

Each part works on folders of models (``docs/model-folder.md``) and writes plain files, for a scheduler to call.
"""

from letsam.operation.assignment import assigned
from letsam.operation.retuning import RetuneReport, retune
from letsam.operation.rolling_out import rollout
from letsam.operation.rollout_log import RolloutDecision, read_rollout
from letsam.operation.rollout_plan import RolloutPlan
from letsam.operation.shadow_report import ShadowReport
from letsam.operation.shadowing import shadow
from letsam.operation.watch import Watch
from letsam.operation.watch_record import Alarm, WatchError, WatchRecord, read_watch

__all__ = [
    "Alarm",
    "RetuneReport",
    "RolloutDecision",
    "RolloutPlan",
    "ShadowReport",
    "Watch",
    "WatchError",
    "WatchRecord",
    "assigned",
    "read_rollout",
    "read_watch",
    "retune",
    "rollout",
    "shadow",
]
