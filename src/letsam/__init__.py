"""Sharpness-aware training for PyTorch with a perturbation radius that is learned.

    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    opt = letsam.SAM(base, rho=letsam.LearnedRadius(0.05))
    loss = opt.step(closure, validation_closure)

`letsam.optimizer` describes how a step works, `letsam.radius.learned` how the radius is learned.
"""

from typing import TYPE_CHECKING, Any

from . import interrupts  # isort: split

from . import hypergradient, perturbations, radius, variants
from ._version import __version__
from .checkpoint import DistributedState
from .closures.accumulation import accumulated
from .closures.batches import endless
from .closures.returned import SkipStep
from .closures.selection import selected
from .closures.subset_ascent import subset_ascent
from .doctor import check
from .groups import param_groups
from .hypergradient import Diagonal, FiniteDifference, Secant
from .optimizer import SharpnessAware
from .radius import *  # noqa: F403
from .recording import RadiusRecord
from .step.gap_onset import GapOnset
from .step.replay import ReplayedRandomness
from .step.snapshot import frozen_statistics
from .tangent import register_update_rule
from .variants import *  # noqa: F403

if TYPE_CHECKING:
    from .model_folder import load

__all__ = [
    "Diagonal",
    "DistributedState",
    "FiniteDifference",
    "GapOnset",
    "RadiusRecord",
    "ReplayedRandomness",
    "Secant",
    "SharpnessAware",
    "SkipStep",
    "__version__",
    "accumulated",
    "check",
    "endless",
    "frozen_statistics",
    "hypergradient",
    "load",
    "param_groups",
    "perturbations",
    "radius",
    "register_update_rule",
    "selected",
    "subset_ascent",
]
__all__ += radius.__all__
__all__ += variants.__all__


def __getattr__(name: str) -> Any:
    """Import `load` when it is asked for: it needs the packages of data and models, which training does not."""
    if name == "load":
        from .model_folder import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


interrupts.raise_again()
