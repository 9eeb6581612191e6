"""A callback of `Watch` that writes its numbers to TensorBoard, CSV files, MLflow and Weights & Biases."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from letsam.operation.watch_record import WatchRecord, read_watch
from letsam.results import write_atomically
from letsam.training.loggers import LogTo, finish_logger, quiet_loggers

LOGGED = "logged.json"
RUN = "watch"


class WatchLog:
    """Logs each record of a watch, with the number of the batch as the step.

    All batches of a watch are one run of each logger, although each may come from a process of its own. Records that
    a logger lacks, as it was not used from the beginning or a process has ended too early, are logged as well.

    Args:
        names: of loggers: "tensorboard", "csv", "mlflow" or "wandb".
        out: the folder of the watch; files of loggers go into its folder ``logs``.
        project: the name of the experiment (MLflow) or project (W&B).

    Raises:
        ValueError: an unknown logger, or a package is missing.
    """

    def __init__(self, names: Sequence[str], out: str | Path, project: str) -> None:
        self.out = Path(out)
        self._to = LogTo(tuple(names), str(self.out / "logs"), project)
        self._to.check_packages()

    def __call__(self, record: WatchRecord) -> None:
        """Log what has not been logged."""
        records = read_watch(self.out)
        path = self.out / "logs" / LOGGED
        state: dict[str, dict[str, Any]] = {}
        if path.is_file():
            state = json.loads(path.read_text(encoding="utf-8"))
        with quiet_loggers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a folder is not empty
            self._to.prepare()
            for name in self._to.names:
                known = state.get(name, {})
                missing = [one for one in records if one.batch > known.get("batch", 0)]
                if missing:
                    state[name] = self._logged(name, records if name == "csv" else missing, known)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(path, json.dumps(state, indent=1) + "\n")

    def _logged(self, name: str, records: Sequence[WatchRecord], known: dict[str, Any]) -> dict[str, Any]:
        """Log records; a CSV file is written anew with all of them, as its logger does not go on with one."""
        key = hashlib.sha256(str(self.out.resolve()).encode()).hexdigest()[:16]
        logger = self._to.logger(name, RUN, key=key, run_id=known.get("run_id"))
        status = "failed"
        try:
            if name != "csv" and not known:
                logger.log_hyperparams({"model": records[0].model, "rate": records[0].state["rate"]})
            for record in records:
                logger.log_metrics(logged_numbers(record), record.batch)
            status = "success"
        finally:
            finish_logger(name, logger, status)
        return {"batch": records[-1].batch} | ({"run_id": logger.run_id} if name == "mlflow" else {})


def logged_numbers(record: WatchRecord) -> dict[str, float]:
    """The numbers of a record by the names that loggers get.

    Example:
        >>> record = WatchRecord("2030-01-01T00:00:00+00:00", "f00", {"name": "may.csv", "samples": 9}, False, 1)
        >>> logged_numbers(record)
        {'samples': 9.0, 'labels': 0.0, 'alarms': 0.0}
    """
    found = {"samples": float(record.data["samples"]), "labels": float(record.data.get("labels", 0))}
    for name, value in record.metrics.items():
        found |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
    return found | {"alarms": float(len(record.alarms))}
