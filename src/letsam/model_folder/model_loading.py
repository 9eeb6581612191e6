"""Reading the folder of a model: its network with the trained weights, and what prepares inputs for it."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from letsam.data import DataError, DataOptions, Preparation, load_preparation
from letsam.data.preparation import InputRows
from letsam.model_folder.manifest import ModelFolderError, check_manifest, fingerprint
from letsam.model_folder.model_places import CONFIG, model_place
from letsam.model_folder.prediction_table import PredictionTable
from letsam.model_folder.signatures import check_signature
from letsam.models import rebuild
from letsam.results import Results
from letsam.tasks import load_task
from letsam.tasks.model_outputs import logits_of, model_outputs

if TYPE_CHECKING:
    from letsam.data.new_targets import KnownTargets

WEIGHTS, PREPARATION = "weights.safetensors", "preparation"
RESULTS = "results.json"


@dataclass(frozen=True)
class LoadedModel:
    """A trained model.

    Args:
        model: the network, in evaluation mode.
        kind: "classification", "multilabel" or "regression".
        classes: names of the classes or labels; empty for regression, and where they have no names.
        config: the content of ``model.json``.
        results: the run that trained it.
        folder: where it was read.
        fingerprint: a hash over all its files.
        preparation: makes inputs of files; None for a task in code.
    """

    model: nn.Module
    kind: str
    classes: tuple[str, ...]
    config: Mapping[str, Any]
    results: Results
    folder: Path
    fingerprint: str
    preparation: Preparation | None = None

    def predict(
        self, data: Any, batch_size: int = 256, *, progress: Callable[[int, int], object] | None = None
    ) -> PredictionTable:
        """Predict for new data.

        Args:
            data: a file or folder of the same form as the training data (targets may be missing); or a pandas
                `DataFrame`, or a list of texts, of a model that was trained on a table or on texts; or prepared inputs,
                as a tensor, a dict of tensors, or a map-style data set of inputs.
            batch_size: >= 1.
            progress: called after each batch with the number of samples so far and of all.

        Returns:
            The predictions, in the order of the data.

        Raises:
            DataError: the data lack something that the training data had; one line that names it.
            TypeError: data of another type, or a file for a model without a preparation.
        """
        with self.inputs(data) as inputs:
            outputs: list[Tensor] = []
            done, total = 0, len(cast("Any", inputs))
            for batch in self.batches(inputs, batch_size):
                outputs.append(self._outputs(batch))
                done += len(outputs[-1])
                if progress is not None:
                    progress(done, total)
            names = tuple(map(str, getattr(inputs, "names", ())))
        width = int(self.config["outputs"])
        table = torch.cat(outputs) if outputs else torch.empty(0, width)
        columns = self.classes if self.classes else tuple(self.config.get("columns") or ())
        return PredictionTable(self.kind, table, columns if len(columns) == width else (), names)

    def targets(self, data: Any, *, new_classes: bool = False) -> KnownTargets:
        """The targets that new data hold, in the form of the outputs.

        Args:
            data: a file or folder of the same form as the training data, or a pandas `DataFrame`.
            new_classes: take classes that the training data do not have, as long as some are known.

        Returns:
            The targets of the samples that have one, with the places of these samples in `data`.

        Raises:
            DataError: there are none, or one is of a class that the training data do not have; one line that names it.
            TypeError: data of another type, or a model without a preparation.
        """
        from letsam.data.new_targets import read_targets

        options = self.config.get("data_options")
        if self.preparation is None or not options:
            raise TypeError(f"`data`: the model of the task {self.results.task!r}, which is no file of data, has none")
        with self._as_file(data) as path:
            known = DataOptions.from_json(options)
            modality = self.preparation.modality
            return read_targets(path, known, modality, self.kind, self.classes, new_classes=new_classes)

    @torch.no_grad()
    def _outputs(self, inputs: Any) -> Tensor:
        outputs = logits_of(model_outputs(self.model, inputs))
        return outputs.detach().to("cpu", torch.promote_types(outputs.dtype, torch.float32)).flatten(1)

    def batches(self, inputs: Dataset[Any], size: int = 256, places: Sequence[int] | None = None) -> Iterator[Any]:
        """Batches of prepared inputs, as the network takes them.

        Args:
            inputs: as `inputs` gives them.
            size: of a batch, >= 1.
            places: of the inputs, in order; None: all.
        """
        chosen = inputs if places is None else Subset(inputs, places)
        for batch in DataLoader(chosen, batch_size=size, collate_fn=self.collating(inputs)):
            yield inputs_for(self.model, batch)

    def collating(self, inputs: Dataset[Any]) -> Callable[[list[Any]], Any]:
        """What makes a batch of prepared inputs."""
        own = None if self.preparation is None or isinstance(inputs, InputRows) else self.preparation.collate
        return own or default_collate

    @contextlib.contextmanager
    def inputs(self, data: Any) -> Iterator[Dataset[Any]]:
        """Prepared inputs of new data, see `predict`; files are read while the block runs."""
        if isinstance(data, (Tensor, Mapping)):
            yield InputRows(cast("Any", data))
        elif isinstance(data, Dataset):
            yield cast("Dataset[Any]", data)
        elif self.preparation is None:
            task = self.results.task
            raise TypeError(
                f"`data` must be prepared inputs (tensors or a data set), as the task {task!r} is no file of data, "
                f"got {type(data).__name__}"
            )
        else:
            with self._as_file(data) as path:
                yield self.preparation.read(path)

    @contextlib.contextmanager
    def _as_file(self, data: Any) -> Iterator[str]:
        """The path of data; those in memory are written, so that they are read and checked as a file is."""
        if isinstance(data, (str, Path)):
            yield str(data)
            return
        with tempfile.TemporaryDirectory(prefix="letsam-") as folder:
            path = str(_written(data, self.config, Path(folder)))
            try:
                yield path
            except DataError as error:
                raise DataError(str(error).replace(path, "`data`")) from error


def load(
    folder: str | Path,
    *,
    device: str | torch.device = "cpu",
    network: nn.Module | None = None,
    key: str | Path | None = None,
) -> LoadedModel:
    """Read a model that `letsam train`, or `letsam trial --refit-best`, has written.

    No code and no pickle is read from the folder, and each file is compared with its hash. The model of a task in code
    (a built-in task, or ``file.py:function``) is made by that task, which is loaded with its data; with `network` it
    is not needed.

    Args:
        folder: of the model, or of the results that hold it as ``model``; or of versions: the current one is read.
        device: where the network goes.
        network: of the same architecture; it gets the weights. None: it is built as the folder says.
        key: file with an Ed25519 public key (PEM); the folder must be signed by it, see `letsam sign`. None: a
            signature is not looked at.

    Returns:
        The model.

    Raises:
        ModelFolderError: no such folder, a file that was changed, weights of another network, or no signature by `key`.

    Example:
        >>> load("nowhere")
        Traceback (most recent call last):
        letsam.model_folder.manifest.ModelFolderError: nowhere: expected the folder of a model, but there is none
    """
    place = model_place(folder)
    if key is not None:
        check_signature(place, key)
    check_manifest(place)
    try:
        config: dict[str, Any] = json.loads((place / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{place / CONFIG}: expected the configuration of a model, got {error!r}") from error
    made = restored_network(config, place, network)
    preparation = load_preparation(place / PREPARATION) if (place / PREPARATION).is_dir() else None
    return LoadedModel(
        model=made.to(device).eval(),
        kind=config["kind"],
        classes=tuple(config["classes"]),
        config=config,
        results=Results.load(place / RESULTS),
        folder=place,
        fingerprint=fingerprint(place),
        preparation=preparation,
    )


def restored_network(config: Mapping[str, Any], folder: Path, network: nn.Module | None = None) -> nn.Module:
    """The network of a model's folder with its trained weights.

    Args:
        config: the content of ``model.json``.
        folder: of the model.
        network: of the same architecture, which gets the weights; None: it is built as the folder says.

    Raises:
        ModelFolderError: the weights are those of another network.
    """
    made = network if network is not None else _network(config, folder)
    if (folder / WEIGHTS).is_file():
        _load_weights(made, folder / WEIGHTS, config)
    return made


def _network(config: Mapping[str, Any], folder: Path) -> nn.Module:
    network = config["network"]
    if network["family"] != "task":
        return rebuild(network, folder)
    directory = network["data_dir"]
    task = load_task(
        network["task"],
        train_size=network["train_size"],
        data_dir=None if directory is None else Path(directory),
        model=network["model"],
    )
    return task.model()


def _load_weights(network: nn.Module, path: Path, config: Mapping[str, Any]) -> None:
    from safetensors.torch import load_file

    if config["dtype"] == "float64":
        network.double()
    try:
        network.load_state_dict(load_file(path))
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise ModelFolderError(f"{path}: expected the weights of this network, got others: {text[:300]}") from error


def inputs_for(network: nn.Module, inputs: Any) -> Any:
    """The inputs on the device of the weights; numbers get their type, token ids and masks keep theirs."""
    weight = next(network.parameters(), None)
    return inputs if weight is None else _moved(inputs, weight)


def _moved(inputs: Any, like: Tensor) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.to(like.device, like.dtype if inputs.is_floating_point() else None)
    if isinstance(inputs, Mapping):
        values = cast("Mapping[str, Any]", inputs)
        return {name: _moved(value, like) for name, value in values.items()}
    if isinstance(inputs, (tuple, list)):
        items = cast("Sequence[Any]", inputs)
        return type(inputs)(_moved(value, like) for value in items)
    return inputs


def _written(data: Any, config: Mapping[str, Any], folder: Path) -> Path:
    """Data in memory as a file, so that they are read and checked as a file is."""
    text = (config.get("data_options") or {}).get("text")
    texts = isinstance(data, (list, tuple)) and all(isinstance(item, str) for item in cast("Sequence[Any]", data))
    if texts and text is not None:
        import pandas

        data = pandas.DataFrame({text: list(data)})
    write: Any = getattr(data, "to_parquet", None)
    if write is None:
        raise TypeError(
            "`data` must be a path, a DataFrame, a list of texts (for a text model), tensors or a data set, "
            f"got {type(data).__name__}"
        )
    write(folder / "data.parquet")
    return folder / "data.parquet"
