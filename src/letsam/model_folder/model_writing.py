"""Writing the folder of a model: from a finished run, in one step."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from letsam._version import __version__
from letsam.data import DataOptions
from letsam.model_folder.data_hashes import hashes_of
from letsam.model_folder.exporting import ExportError, export_model
from letsam.model_folder.manifest import FORMAT, write_manifest
from letsam.model_folder.model_card import model_card
from letsam.model_folder.model_loading import PREPARATION, RESULTS, WEIGHTS, inputs_for
from letsam.model_folder.model_places import CONFIG, FOLDER
from letsam.model_folder.reference_making import reference_of_run
from letsam.model_folder.version_record import VersionRecord, measured_numbers
from letsam.models import save_network
from letsam.results import Results, Run, replacing_folder, write_atomically
from letsam.tasks import Task
from letsam.tasks.model_outputs import logits_of, model_outputs
from letsam.training.devices import gathered
from letsam.training.loop import Training

SPLIT, INDICES, RADIUS, CARD = "split.json", "split.safetensors", "radius.json", "README.md"
_PACKAGES = {
    "transformers": ("transformers",),
    "timm": ("timm",),
    "table": ("pandas", "scikit-learn"),
    "text": ("pandas", "tokenizers"),
    "image": ("pillow",),
    "audio": ("soundfile",),
}
"""What a network's family, and the preparation of a modality, are read with."""


@dataclass(frozen=True)
class TrainedModel:
    """A finished run and its weights; all ranks make it together.

    Args:
        training: the run.
        weights: of the whole network, on the CPU.
        results: with this run alone.
        chosen_by: in words, what chose the method among others; None: the user did.
        seeds: the runs of the same method with all seeds of the trial; empty: there is no other.
    """

    training: Training
    weights: dict[str, Tensor]
    results: Results
    chosen_by: str | None = None
    seeds: tuple[Run, ...] = ()

    @classmethod
    def of(
        cls, training: Training, results: Results, chosen_by: str | None = None, seeds: Sequence[Run] = ()
    ) -> TrainedModel:
        """The model of a run.

        Raises:
            ValueError: the network keeps something in its state that is no tensor.
        """
        state = gathered(training.model.state_dict())
        for name, value in state.items():
            if not isinstance(value, Tensor):
                raise ValueError(f"`model` must keep tensors alone in its state, got {name!r}: {type(value).__name__}")
        weights = {name: tensor.detach().cpu() for name, tensor in state.items()}
        return cls(training, weights, results, chosen_by, tuple(seeds))

    def save(self, out: Path, export: str | None = None) -> Path:
        """Write ``OUT/model``; see `save_as`."""
        return self.save_as(out / FOLDER, export)

    def save_as(self, place: Path, export: str | None = None, record: VersionRecord | None = None) -> Path:
        """Write a model's folder; a reader sees the old folder or the new one, whenever this is interrupted.

        Args:
            place: the folder.
            export: "torch" or "onnx", as another file; None: no other file.
            record: of the version; None: the first one, as it was trained from its initial weights.

        Returns:
            The folder.

        Raises:
            ExportError: the network cannot be exported, or its outputs differ; the folder is written without it.
        """
        network = self._network()
        example = inputs_for(network, _example(self.training.task))
        failed: ExportError | None = None
        with replacing_folder(place) as folder:
            with torch.no_grad():
                outputs = logits_of(model_outputs(network, example))
            config = self._config(outputs)
            if export is not None:
                try:
                    config["exported"] = export_model(network, example, folder, export)
                except ExportError as error:
                    failed = error
            self._write(network, config, folder, record or self.first_version())
        if failed is not None:
            raise ExportError(f"{place} is written, but without the export: {failed}") from failed
        return place

    def _write(self, network: nn.Module, config: dict[str, Any], folder: Path, record: VersionRecord) -> None:
        """The files of the folder; the network may be changed, as its adapters are merged."""
        from safetensors.torch import save_file

        task = self.training.task
        card = model_card(self.results, config, self.split())
        reference = reference_of_run(self.training, network, self.seeds or self.results.runs)
        if reference is not None:
            reference.save(folder)
        if config["network"]["family"] == "transformers":
            save_network(network, folder)
        else:
            # A copy of each: tensors that share memory cannot be written.
            weights = {name: tensor.contiguous().clone() for name, tensor in self.weights.items()}
            save_file(weights, folder / WEIGHTS)
        if task.preparation is not None:
            task.preparation.save(folder / PREPARATION)
        save_file(self._indices(), folder / INDICES)
        self.results.save(folder / RESULTS)
        for name, values in ((CONFIG, config), (SPLIT, self.split()), (RADIUS, self.radius())):
            write_atomically(folder / name, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        write_atomically(folder / CARD, card)
        record.save(folder)
        write_manifest(folder)

    def _network(self) -> nn.Module:
        """The network on the CPU, with the trained weights."""
        with torch.random.fork_rng(devices=[]):
            network = self.training.task.model()
        if self._double:
            network.double()
        network.load_state_dict(self.weights)
        return network.eval()

    @property
    def _double(self) -> bool:
        return any(tensor.dtype == torch.float64 for tensor in self.weights.values())

    def _config(self, outputs: Any) -> dict[str, Any]:
        task, config = self.training.task, self.results.config
        network = task.model_config or {"family": "task", **_task_options(config)}
        options = config.get("data_options")
        columns = DataOptions.from_json(options).targets if options and task.kind == "regression" else ()
        return {
            "format": FORMAT,
            "network": network,
            "task": task.name,
            "kind": task.kind,
            "classes": list(task.classes),
            "columns": list(columns),
            "outputs": outputs.flatten(1).shape[1] if isinstance(outputs, Tensor) and outputs.ndim else None,
            "dtype": "float64" if self._double else "float32",
            "metric": task.metric_name,
            "lower_is_better": task.lower_is_better,
            "method": self.results.runs[0].method,
            "seed": self.training.seed,
            "chosen_by": self.chosen_by,
            "data_options": options,
            "model_options": config.get("model_options"),
            "versions": _versions(network["family"], getattr(task.preparation, "modality", "")),
        }

    def split(self) -> dict[str, Any]:
        """Which samples the weights, the radius and the numbers come from; indices are in a file of their own."""
        training, config = self.training, self.results.config
        counts = {"train": len(training.train), "test": len(training.test)}
        rotates = config.get("folds") is not None and self.training.learns  # all samples are held out in turn
        counts["validation"] = 0 if training.validation is None or rotates else len(training.validation)
        options = config.get("data_options") or {}
        return {
            "seed": training.seed,
            "label_noise": config.get("label_noise"),
            "validation_share": config.get("validation_share") if self._held_out is not None else None,
            "test_share": options.get("test_share") if options.get("test") is None else None,
            "test": options.get("test"),
            "folds": config.get("folds") if rotates else None,
            "release": config.get("release") if self.training.release is not None else None,
            "samples": counts,
        }

    def radius(self) -> dict[str, Any]:
        """The radii of the run; those of every step where they were learned, or replayed from a search."""
        run, searched = self.results.runs[0], self.training.searched
        schedule = (searched or run).history.get("rho_schedule")
        return {
            "method": run.method,
            "initial": run.rho_initial,
            "final": run.rho_final,
            "schedule": None if schedule is None else list(schedule),
        }

    def first_version(self) -> VersionRecord:
        """The record of the version: the first, as it was trained from its initial weights."""
        run, options = self.results.runs[0], self.results.config
        return VersionRecord(
            version=1,
            parent=None,
            made_by="train",
            data=hashes_of(options),
            radius={"initial": run.rho_initial, "final": run.rho_final},
            seed=run.seed,
            options=options,
            numbers=measured_numbers(run),
        )

    @property
    def _held_out(self) -> Tensor | None:
        """The training samples that the radius was learned on; None where there are none."""
        kept, total = self.training.order
        if len(kept) == total:
            return None
        held_out = torch.ones(total, dtype=torch.bool)
        held_out[kept] = False
        return held_out.nonzero().flatten()

    def _indices(self) -> dict[str, Tensor]:
        """Indices into the training samples of the task."""
        kept, held_out = self.training.order[0], self._held_out
        return {"train": kept.contiguous()} | ({} if held_out is None else {"validation": held_out})


def _example(task: Task) -> Any:
    """A batch of two inputs."""
    test: Any = task.test
    samples = [test[index % len(test)] for index in range(2)]
    with torch.random.fork_rng(devices=[]):
        return (task.collate or default_collate)(samples)[0]


def _task_options(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config.get(name) for name in ("task", "train_size", "data_dir", "model")}


def _versions(*needs: str) -> dict[str, str]:
    """Of Python, letsam, torch and the packages that the model needs."""
    found = {"python": platform.python_version(), "letsam": __version__, "torch": torch.__version__}
    packages = ["safetensors", *(package for need in needs for package in _PACKAGES.get(need, ()))]
    return found | {package: importlib.metadata.version(package) for package in packages}
