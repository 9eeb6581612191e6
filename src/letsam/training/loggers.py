"""Live logging of runs: TensorBoard, CSV, MLflow and Weights & Biases, through the loggers of Lightning and Fabric.

The metrics have the same names as in the adapters (`letsam.integrations.logged_metrics`); docs/how-to/logging.md lists
them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from letsam.results.nearest import did_you_mean
from letsam.results.predicted import predictions_file

if TYPE_CHECKING:
    from letsam.training.loop import Training

__all__ = ["LOGGERS", "LogTo", "finish_logger", "logged", "logged_point", "quiet_loggers"]

LOGGERS: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "csv": (),
    "mlflow": ("mlflow", "lightning"),
    "wandb": ("wandb", "lightning"),
}
"""The packages that each needs."""

Logger = Any
"""One of Fabric, or one of Lightning, which does not inherit from Fabric's but has the same methods."""

_RENAMED = {"train_loss": "training_loss"}  # of the columns of the history


@dataclass(frozen=True)
class LogTo:
    """Where the runs of a trial are logged; workers on other machines get it with their run.

    Args:
        names: of the loggers, from `LOGGERS`.
        folder: for what they write on this machine.
        project: the name of the experiment (MLflow) or project (W&B).

    Raises:
        ValueError: an unknown or repeated name.
    """

    names: tuple[str, ...]
    folder: str
    project: str

    def __post_init__(self) -> None:
        known = all(name in LOGGERS for name in self.names)
        if not known or not self.names or len(set(self.names)) < len(self.names):
            given = ",".join(self.names)
            hint = "".join(did_you_mean(name, LOGGERS) for name in self.names if name not in LOGGERS)
            raise ValueError(
                f"`log` must be of {', '.join(LOGGERS)}, each once and separated by commas, got {given!r}{hint}"
            )

    def check_packages(self) -> None:
        """Raise ValueError where a package is missing: one line, before anything is trained."""
        for name in self.names:
            missing = [package for package in LOGGERS[name] if importlib.util.find_spec(package) is None]
            if missing:
                needed = " and ".join(missing)
                raise ValueError(f'`log` {name} needs the package {needed}: install it with pip install "letsam[log]"')

    def prepare(self) -> None:
        """Make what workers would otherwise make at the same time: the database of MLflow and its experiment."""
        if "mlflow" in self.names:
            with quiet_loggers():
                from mlflow.tracking import MlflowClient

                place, artifacts = self._mlflow_store()
                client = MlflowClient(place)
                if client.get_experiment_by_name(self.project) is None:
                    client.create_experiment(self.project, artifacts)

    def loggers(self, training: Training) -> dict[str, Logger]:
        """The loggers of one run by name, with its hyperparameters."""
        run = Path(predictions_file(training.name, training.seed)).stem
        loggers = {name: self.logger(name, run) for name in self.names}
        for name, logger in loggers.items():
            if name != "csv":  # which keeps none
                logger.log_hyperparams(_hyperparameters(training))
        return loggers

    def logger(self, name: str, run: str, *, key: str | None = None, run_id: str | None = None) -> Logger:
        """A logger.

        Args:
            name: of `names`.
            run: what it is shown as.
            key: of a run that several processes log to, one after another; None: each process has a run of its own.
            run_id: what MLflow has called that run, once it has begun.
        """
        folder = Path(self.folder)
        version = None if key is None else ""
        if name == "tensorboard":
            from lightning_fabric.loggers.tensorboard import TensorBoardLogger

            return TensorBoardLogger(folder / "tensorboard", name=run, version=version)
        if name == "csv":
            from lightning_fabric.loggers.csv_logs import CSVLogger

            return CSVLogger(folder / "csv", name=run, version=version, flush_logs_every_n_steps=1)
        if name == "mlflow":
            return self._mlflow(run, run_id)
        from lightning.pytorch.loggers import WandbLogger

        os.environ.setdefault("WANDB_SILENT", "true")
        folder.mkdir(parents=True, exist_ok=True)
        return WandbLogger(project=self.project, name=run, group=self.folder, save_dir=folder, id=key)

    def _mlflow(self, run: str, run_id: str | None) -> Logger:
        from lightning.pytorch.loggers import MLFlowLogger

        place, artifacts = self._mlflow_store()
        return MLFlowLogger(self.project, run_name=run, tracking_uri=place, artifact_location=artifacts, run_id=run_id)

    def _mlflow_store(self) -> tuple[str, str | None]:
        """The server that the environment names, or a database in the folder; and where files would go."""
        if named := os.environ.get("MLFLOW_TRACKING_URI"):
            return named, None
        folder = Path(self.folder).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{folder / 'mlflow.db'}", str(folder / "mlruns")


@contextmanager
def logged(logs: LogTo | None, training: Training) -> Iterator[Callable[[], None]]:
    """Log a run while it is trained; whatever ends it, the loggers are told how.

    Args:
        logs: where; None: nowhere. Of several ranks, the first one logs.
        training: the run. Evaluations that it has had already, since it was resumed, are not logged again.

    Yields:
        A function that logs the evaluation that there has been since its last call, if any.
    """
    if logs is None or not training.fabric.is_global_zero:
        yield lambda: None
        return
    count = len(training.history["epoch"])
    with quiet_loggers():
        loggers = logs.loggers(training)

        def log() -> None:
            nonlocal count
            if len(training.history["epoch"]) > count:
                count = len(training.history["epoch"])
                for logger in loggers.values():
                    logger.log_metrics(logged_point(training), training.step)

        status = "failed"
        try:
            yield log
            status = "success"
        finally:
            for name, logger in loggers.items():
                finish_logger(name, logger, status)


def finish_logger(name: str, logger: Logger, status: str) -> None:
    """Tell a logger that its run has ended: with the status "success" or "failed"."""
    logger.finalize(status)
    if name == "wandb":  # else the next run of this process would go on with this one
        logger.experiment.finish(exit_code=int(status == "failed"))


def logged_point(training: Training) -> dict[str, float]:
    """The metrics of the last evaluation by name, without those that the run does not have."""
    point = {name: column[-1] for name, column in training.history.items()}
    values = {_RENAMED.get(name, name): value for name, value in point.items() if name != "test_accuracy"}
    further = {**training.metrics, training.task.metric_name: point["test_accuracy"]}
    values |= {f"test_{name.replace(' ', '_')}": value for name, value in further.items()}
    values["learning_rate"] = float(training.optimizer.param_groups[0]["lr"])
    return {name: float(value) for name, value in values.items() if value is not None}


def _hyperparameters(training: Training) -> dict[str, Any]:
    return {
        "method": training.name,
        "seed": training.seed,
        "task": training.task.name,
        "epochs": training.epochs,
        "batch_size": training.batch_size,
        "rho_initial": training.rho_initial,
    }


@contextmanager
def quiet_loggers() -> Iterator[None]:
    """Without what the loggers say of themselves, such as that a database is new."""
    names = ("mlflow", "alembic", "lightning.pytorch.loggers", "lightning.pytorch.utilities.rank_zero")
    kept = {name: logging.getLogger(name).level for name in names}
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # it sets its level when it is imported
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        for name, level in kept.items():
            logging.getLogger(name).setLevel(level)
