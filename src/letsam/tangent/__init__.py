"""The tangent Z = d theta' / d rho of one step: how the new weights depend on the radius.

`tangent` builds it during a step. `secant`, `finite_difference` and `diagonal` estimate its curvature term (public as
`letsam.hypergradient`). `update_rules` differentiates the base optimizer. `blocks` sums by group or layer.
"""

from .estimator import Hypergradient
from .tangent import Slope, Tangent

__all__ = ["Hypergradient", "Slope", "Tangent"]
