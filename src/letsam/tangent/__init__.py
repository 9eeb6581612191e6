"""The tangent Z = d theta' / d rho of one step: how the new weights depend on the radius.

`tangent` builds it during a step. `secant`, `finite_difference` and `diagonal` estimate its curvature term (public as
`letsam.hypergradient`). `update_rules` differentiates the base optimizer; `registered_rules` has the rules that users
and `muon` register. `blocks` sums by group or layer.
"""

from . import muon as muon  # registers its rule
from .estimator import Hypergradient
from .registered_rules import register_update_rule
from .tangent import Slope, Tangent

__all__ = ["Hypergradient", "Slope", "Tangent", "register_update_rule"]
