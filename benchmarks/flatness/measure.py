"""What is measured of a solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from letsam.sharpness import ascent_sharpness, hessian_spectrum, landscape_slice
from letsam.tasks import Task

RADII = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
OFFSETS, DIRECTIONS = 21, 3


@dataclass(frozen=True)
class Measured:
    """One solution: how good it is and how flat."""

    setting: str
    method: str
    seed: int
    epochs: int
    rho_final: float | None  # None for SGD
    test_accuracy: float  # 0 to 1
    train_loss: float  # on the samples that the measures see
    eigenvalue: float  # the largest of the Hessian
    residual: float  # how far it may be off
    trace: float  # of the Hessian
    trace_error: float  # its standard error
    ascent: list[float]  # `ascent_sharpness` at each of `RADII`
    slice: list[float]  # loss along filter-normalized random directions, their mean at `OFFSETS` offsets in [-1, 1]

    @property
    def key(self) -> str:
        """The name of its unit."""
        return f"{self.setting}/{self.method}/{self.seed}"


def flatness(model: nn.Module, task: Task, batches: list[tuple[Any, ...]]) -> dict[str, Any]:
    """The last fields of `Measured`; the random directions and vectors are the same for every solution."""
    spectrum = hessian_spectrum(model, task.loss, batches, top=1, iterations=20, trace_products=30)
    slices = [landscape_slice(model, task.loss, batches, points=OFFSETS, seed=seed) for seed in range(DIRECTIONS)]
    return {
        "train_loss": slices[0].losses[OFFSETS // 2].item(),
        "eigenvalue": spectrum.eigenvalues[0],
        "residual": spectrum.residuals[0],
        "trace": spectrum.trace,
        "trace_error": spectrum.trace_error,
        "ascent": ascent_sharpness(model, task.loss, batches, RADII),
        "slice": (sum(one.losses for one in slices) / DIRECTIONS).tolist(),  # pyright: ignore[reportAttributeAccessIssue]
    }
