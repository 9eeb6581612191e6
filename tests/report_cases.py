"""Records of trials for the tests of the reports, without training."""

import dataclasses

import numpy as np

from letsam.results import MethodName, Results, Run
from letsam.results.predicted import Predictions


def make_run(method, seed, accuracy, *, passes=100, rho=0.05, loss=0.5):
    learned = MethodName.parse(method).learned
    rho = None if method == "sgd" else rho
    final = rho * 4 if learned else rho
    return Run(
        method=method,
        seed=seed,
        rho_initial=rho,
        rho_final=final,
        test_accuracy=accuracy,
        test_loss=loss,
        train_loss=0.3,
        validation_loss=0.6 if learned else None,
        generalization_gap=loss - 0.3,
        gradient_passes=passes,
        seconds=2.0,
        history={
            "epoch": [1.0, 2.0, 3.0],
            "train_loss": [0.9, 0.5, 0.3],
            "test_loss": [1.0, 0.7, loss],
            "test_accuracy": [0.5, 0.7, accuracy],
            "validation_loss": [1.1, 0.8, 0.6] if learned else [None] * 3,
            "generalization_gap": [0.1, 0.2, loss - 0.3],
            "rho": [rho, rho, final],
            "hypergradient": [-1.0, 0.001, 0.0] if learned else [None] * 3,
            **({"rho_schedule": [rho + (final - rho) * step / 8 for step in range(9)]} if learned else {}),
        },
    )


def trial(accuracies, **options):
    """Results from {method: accuracy of each seed}; a passes_{method} option sets the cost."""
    passes = {"sgd": 100, "sam": 200, "asam": 200}
    runs = tuple(
        make_run(method, seed, accuracy, passes=passes.get(method.split(":")[0], 300))
        for method, row in accuracies.items()
        for seed, accuracy in enumerate(row)
    )
    return Results("digits", {"methods": list(accuracies), "epochs": 3, **options}, {"torch": "2.9"}, runs)


def predictions_of(results, kind="classification", *, classes=(), outputs=4, samples=60):
    """Predictions of all runs on one test set; the better a run's metric, the closer they are to the targets."""
    random = np.random.default_rng(0)
    if kind == "classification":
        targets = random.integers(0, outputs, samples)
        wanted = np.eye(outputs)[targets]
    else:
        wanted = (
            random.normal(size=(samples, outputs))
            if kind == "regression"
            else random.integers(0, 2, (samples, outputs))
        )
        targets = wanted.astype(np.float32)
    made = []
    for place, run in enumerate(results.runs):
        noise = np.random.default_rng(place).normal(size=(samples, outputs)) * (1.2 - run.test_accuracy)
        scores = 4 * (wanted - 0.5) + 4 * noise if kind != "regression" else wanted + noise
        made.append(Predictions(run.method, run.seed, kind, scores.astype(np.float32), targets, classes))
    return tuple(made)


def with_shifts(results, kinds=("noise", "blur"), severities=range(1, 6), extra=(), errors=True):
    """The same runs, tested under shift: the metric falls with the severity, loss and calibration error rise."""
    runs = []
    for run in results.runs:
        shifted = {"clean": shift_test(run, 0, 0, errors=errors)}
        for place, kind in enumerate(kinds):
            shifted |= {f"{kind}:{s}": shift_test(run, s, place, errors=errors) for s in severities}
        shifted |= {name: shift_test(run, 5, 9, errors=errors) for name in extra}
        runs.append(dataclasses.replace(run, shifted=shifted))
    return dataclasses.replace(results, runs=tuple(runs))


def shift_test(run, severity, place, *, errors=True):
    change = severity * (1 + place) / 50
    error = 0.05 + change + run.seed / 100
    metric = run.test_accuracy - change
    return {"metric": metric, "loss": run.test_loss + change, "calibration_error": error if errors else None}
