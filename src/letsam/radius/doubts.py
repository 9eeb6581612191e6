"""What a run has shown about its learned radius that its user should know."""

from __future__ import annotations

import logging
from typing import Any

import torch

from .log_adam import LogAdam
from .validation_guard import FAULTS

NEAR = 1e-3  # relative distance from a bound


def radius_warning(optimizer: Any) -> str | None:
    """What is wrong with the learned radius of an optimizer, or with the data that it is learned from.

    Waits for the device, so it is for the end of an epoch or of a run. The adapters and `letsam trial` call it.

    Args:
        optimizer: a letsam optimizer, or a radius.

    Returns:
        One line that says what was found and what to change; None: nothing, or no learned radius.

    Example:
        >>> import torch, letsam
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> radius = letsam.LearnedRadius(10.0)
        >>> print(radius_warning(letsam.SAM(torch.optim.SGD([weight], lr=0.1), radius)))
        the learned radius is at its upper bound, 10: it would be larger if it could (`LogAdam(bounds=...)`)
    """
    radius = getattr(optimizer, "radius", optimizer)
    rule = getattr(radius, "rule", None)
    if rule is None:
        return None
    if isinstance(rule, LogAdam) and rule.guard is not None and (fault := rule.guard.fault) is not None:
        advice = (
            "use `CalibratedLoss`, which is made for such validation data"
            if fault == "cleaner"
            else "hold out samples of the training data, with their labels"
        )
        effect = "may be too large" if fault == "noisier" else "goes to its prior, and nothing is learned"
        return f"the validation loss {FAULTS[fault]}; the radius {effect}: {advice}"
    low, high = rule.bounds
    rho: torch.Tensor = radius.rho
    for name, bound, there in (("upper", high, rho >= high * (1 - NEAR)), ("lower", low, rho <= low * (1 + NEAR))):
        if bool(there.any()):
            other = "larger" if name == "upper" else "smaller"
            return f"the learned radius is at its {name} bound, {bound:g}: it would be {other} if it could " + (
                "(`LogAdam(bounds=...)`)"
            )
    return None


def warn_once(optimizer: Any) -> None:
    """Log the warning of a learned radius, once for each text, to the logger `letsam`."""
    text = radius_warning(optimizer)
    radius = getattr(optimizer, "radius", optimizer)
    if text is not None and radius.__dict__.get("_warned") != text:
        radius.__dict__["_warned"] = text
        logging.getLogger("letsam").warning("%s", text)
