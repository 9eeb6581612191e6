"""Train one method on one setting and measure the flatness of what it finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.data import TensorDataset

from letsam.sharpness import ascent_sharpness, hessian_spectrum, landscape_slice
from letsam.tasks import Task, load_task
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import Method
from letsam.training.sampling import make_splits

RADII = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
OFFSETS, DIRECTIONS = 21, 3
BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A task as it is trained here.

    Attributes:
        task: name of a built-in task.
        train_size: its training samples; None: all.
        label_noise: share of wrong training labels.
        methods: SGD, SAM at its default and at a larger radius, and the learned radius.
        seeds: of the runs.
        samples: training samples that the measures see; None: all that every method has trained on.
    """

    task: str
    train_size: int | None = None
    label_noise: float
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    samples: int | None = None


DIGITS = ("sgd", "sam:0.05", "sam:0.2", "lets-sam:0.05")
SETTINGS: dict[str, Setting] = {
    "digits-0.4": Setting(task="digits", label_noise=0.4, methods=DIGITS, seeds=(0, 1, 2)),
    "digits-0.0": Setting(task="digits", label_noise=0.0, methods=DIGITS, seeds=(0, 1, 2)),
    "fashion-mnist-0.4": Setting(
        task="fashion-mnist",
        train_size=2000,
        label_noise=0.4,
        methods=("sgd", "sam:0.05", "sam:0.1", "lets-sam:0.05"),
        seeds=(0, 1),
        samples=250,
    ),
}


@dataclass(frozen=True)
class Measured:
    """One solution: how good it is and how flat.

    Attributes:
        setting: a key of `SETTINGS`.
        method: as `letsam trial` names it.
        seed: of the run.
        epochs: of the training.
        rho_final: the last radius; None for SGD.
        test_accuracy: share of the test samples, 0 to 1.
        train_loss: mean loss on the samples that the measures see.
        eigenvalue: the largest of the Hessian.
        residual: how far it may be off.
        trace: of the Hessian.
        trace_error: its standard error.
        ascent: `ascent_sharpness` at each of `RADII`.
        slice: loss along filter-normalized random directions, mean over `DIRECTIONS`, at `OFFSETS` offsets in [-1, 1].
    """

    setting: str
    method: str
    seed: int
    epochs: int
    rho_final: float | None
    test_accuracy: float
    train_loss: float
    eigenvalue: float
    residual: float
    trace: float
    trace_error: float
    ascent: list[float]
    slice: list[float]

    def as_json(self) -> dict[str, Any]:
        """Rounded to 5 digits: the file is committed."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def load(setting: Setting) -> Task:
    """The task of a setting."""
    return load_task(setting.task, train_size=setting.train_size)


def train_and_measure(task: Task, name: str, method: str, seed: int) -> Measured:
    """One run of a setting.

    Args:
        task: from `load`.
        name: key of the setting.
        method: as `letsam trial` names it.
        seed: of the run.

    Returns:
        What was measured, on the training samples (wrong labels included) that all methods have trained on: those that
        a learned radius holds out are left out for everybody.
    """
    setting = SETTINGS[name]
    parsed = Method.parse(method)
    config = TrialConfig(
        task=setting.task,
        methods=(parsed,),
        seeds=(seed,),
        label_noise=setting.label_noise,
        train_size=setting.train_size,
        refit=False,
    )
    training = Training(task, parsed, seed, config, make_fabric("cpu"))
    while not training.finished:
        training.advance()
    run = training.result()
    splits = make_splits(
        task, seed, label_noise=setting.label_noise, validation_share=config.validation_share, hold_out=True
    )
    data = splits.train
    assert isinstance(data, TensorDataset)
    pairs = zip(*(tensor[: setting.samples].split(BATCH) for tensor in data.tensors), strict=True)
    return measure(training.model, task, list(pairs), name, method, seed, run.rho_final, run.test_accuracy)


def measure(
    model: torch.nn.Module,
    task: Task,
    batches: list[tuple[Any, ...]],
    name: str,
    method: str,
    seed: int,
    rho_final: float | None,
    test_accuracy: float,
) -> Measured:
    """All measures of one solution; the random directions and vectors are the same for every solution."""
    spectrum = hessian_spectrum(model, task.loss, batches, top=1, iterations=20, trace_products=30)
    slices = [landscape_slice(model, task.loss, batches, points=OFFSETS, seed=seed) for seed in range(DIRECTIONS)]
    return Measured(
        setting=name,
        method=method,
        seed=seed,
        epochs=task.epochs,
        rho_final=rho_final,
        test_accuracy=test_accuracy,
        train_loss=slices[0].losses[OFFSETS // 2].item(),
        eigenvalue=spectrum.eigenvalues[0],
        residual=spectrum.residuals[0],
        trace=spectrum.trace,
        trace_error=spectrum.trace_error,
        ascent=ascent_sharpness(model, task.loss, batches, RADII),
        slice=(sum(one.losses for one in slices) / DIRECTIONS).tolist(),  # pyright: ignore[reportAttributeAccessIssue]
    )
