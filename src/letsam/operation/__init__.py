"""Models in operation: watched, re-tuned, compared with their successors, and kept as versions.

Each part works on folders of models (``docs/model-folder.md``) and writes plain files, for a scheduler to call.
"""

from letsam.operation.assignment import assigned
from letsam.operation.retuning import RetuneReport, retune
from letsam.operation.shadow_report import ShadowReport
from letsam.operation.shadowing import shadow

__all__ = ["RetuneReport", "ShadowReport", "assigned", "retune", "shadow"]
