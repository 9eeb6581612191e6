"""The reference of a model: made when its folder is written, or later of data that it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from letsam.data import DataError
from letsam.data.loss_by_kind import KindLoss
from letsam.model_folder.activations import Activations, activations_of
from letsam.model_folder.input_features import InputFeatures, columns_of
from letsam.model_folder.model_loading import inputs_for
from letsam.model_folder.reference import GROUP, SHARPNESS_RHO, ModelReference
from letsam.results import Run, finite_spread
from letsam.sharpness import ascent_sharpness
from letsam.tasks.model_outputs import model_outputs
from letsam.tasks.weighted import WeightedTarget, concatenated, plain_targets
from letsam.training.predictions import LARGEST_OUTPUTS

if TYPE_CHECKING:
    from letsam.data.new_targets import KnownTargets
    from letsam.model_folder.model_loading import LoadedModel
    from letsam.training.loop import Training

MOST_TRAINING, MOST_HELD_OUT, MOST_EMBEDDINGS = 2000, 5000, 1000  # samples that are kept
MOST_GROUPS = 16  # of the sharpness
BATCH = 250


def reference_of_run(training: Training, network: nn.Module, seeds: Sequence[Run]) -> ModelReference | None:
    """The reference of a finished run.

    Args:
        training: the run; its test data are the held-out samples.
        network: with the trained weights, on the CPU and in evaluation mode; it is left as it is.
        seeds: runs of the same method with several seeds, for their spread.

    Returns:
        None for outputs that are not a row of numbers for each sample.
    """
    task, device = training.task, training.fabric.device
    test, plain = training.test, training.measured
    places = drawn_places(len(test), MOST_HELD_OUT)
    targets: list[Any] = []

    def batches() -> Iterator[Any]:
        for start in range(0, len(places), BATCH):
            inputs, found = test.one(places[start : start + BATCH])
            targets.append(found)
            yield inputs_for(network, inputs)

    network.to(device)
    try:
        found = activations_of(network, batches(), MOST_EMBEDDINGS)
        truth, weights = plain_targets(concatenated(targets))
        if not _fits(found, truth, task.kind):
            return None
        loss = _loss_of(task.loss, task.kind)
        sharpness: tuple[float, ...] = ()
        if loss is not None:
            groups = (test.one(places[start : start + GROUP]) for start in _starts(len(places)))
            sharpness = group_sharpness(network, groups, loss)
    finally:
        network.cpu()
    chosen = drawn_places(len(plain), MOST_TRAINING)
    features = InputFeatures.of_training(plain.dataset, task)
    inputs = (plain.dataset[place][0] for place in chosen)
    result = training.result()
    return _reference(
        features,
        features(inputs) if features is not None else torch.empty(0, 0),
        task.preparation,
        found,
        truth,
        weights,
        held_out=f"the {len(test):,} test samples of the training",
        training_loss=result.train_loss,
        loss=loss,
        sharpness=sharpness,
        spread=spread_over(seeds),
        seeds=len(seeds),
    )


def reference_of_data(model: LoadedModel, data: Any, targets: KnownTargets | None, name: str) -> ModelReference:
    """A reference for a model whose folder has none.

    Args:
        model: the model.
        data: like the training data, but not trained on; inputs are compared with these.
        targets: of the samples, as far as they have some; None: no sample has, and expected accuracy needs them.
        name: of the data, for reports.

    Raises:
        DataError: the data cannot be used.
    """
    if targets is None:
        raise DataError(f"{name}: a reference needs data with targets, got none")
    with model.inputs(data) as dataset:
        samples: Any = dataset
        kept = drawn_places(len(targets), MOST_HELD_OUT)
        places = targets.places[kept].tolist()
        truth = targets.values[kept]
        weights = None if targets.weights is None else targets.weights[kept]
        found = activations_of(model.model, model.batches(samples, BATCH, places), MOST_EMBEDDINGS)
        if not _fits(found, truth, model.kind):
            raise DataError(f"{name}: expected a row of numbers as output for each sample, got another form")
        loss = _usual_loss(model)
        sharpness: tuple[float, ...] = ()
        if loss is not None:
            starts = _starts(len(places))
            inputs = model.batches(samples, GROUP, places[: len(starts) * GROUP])
            groups = ((batch, truth[start : start + GROUP]) for start, batch in zip(starts, inputs, strict=True))
            sharpness = group_sharpness(model.model, groups, loss)
        pairs: Any = [(samples[place], 0) for place in drawn_places(len(samples), MOST_TRAINING)]
        features = InputFeatures.of_training(pairs, model)
        rows = features(one for one, _ in pairs) if features is not None else torch.empty(0, 0)
    run = model.results.runs[0]
    return _reference(
        features,
        rows,
        model.preparation,
        found,
        truth,
        weights,
        held_out=f"{len(targets):,} samples of {name}",
        training_loss=run.train_loss,
        loss=loss,
        sharpness=sharpness,
        spread={},
        seeds=1,
    )


def group_sharpness(network: nn.Module, groups: Any, loss: KindLoss) -> tuple[float, ...]:
    """The increase of the loss after an ascent step of radius 0.05, for groups of 32 samples with targets.

    The measure depends on the number of samples of a gradient, so that only groups of one size can be compared.

    Args:
        network: restored bit for bit.
        groups: (inputs, targets) pairs.
        loss: mean over a batch.

    Returns:
        One number for each group; none where no weight is trainable.
    """
    wrapped = _Called(network)
    if not any(weight.requires_grad for weight in wrapped.parameters()):
        return ()
    found: list[float] = []
    for inputs, targets in groups:
        pair = (inputs_for(network, inputs), _on(targets, network))
        value = ascent_sharpness(wrapped, loss, [pair], SHARPNESS_RHO)
        if math.isfinite(value):
            found.append(value)
    return tuple(found)


def spread_over(runs: Sequence[Run]) -> dict[str, float]:
    """The standard deviation over seeds of each metric, and of loss and gap; empty for one run."""
    if len(runs) < 2:
        return {}
    values: dict[str, list[float]] = {
        "loss": [run.test_loss for run in runs],
        "generalization_gap": [run.generalization_gap for run in runs],
        **{name: [run.metrics.get(name, math.nan) for run in runs] for name in runs[0].metrics},
        runs[0].metric: [run.test_accuracy for run in runs],
    }
    return {name: finite_spread(column) for name, column in values.items()}


class _Called(nn.Module):
    """The network as a module that takes a batch of inputs of any form."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Any) -> Any:
        return model_outputs(self.network, inputs)


def _reference(
    features: InputFeatures | None,
    rows: Tensor,
    preparation: Any,
    found: Activations,
    targets: Tensor,
    weights: Tensor | None,
    **facts: Any,
) -> ModelReference:
    modality = None if features is None else features.form.modality
    return ModelReference(
        modality=modality,
        features=rows,
        columns=() if features is None else columns_of(rows, modality, preparation),
        outputs=found.outputs.float(),
        targets=targets,
        weights=weights,
        embeddings=found.embeddings,
        image_range=None if features is None else features.image_range,
        form={} if features is None else features.facts,
        **facts,
    )


def _loss_of(loss: Any, kind: str) -> KindLoss | None:
    if isinstance(loss, KindLoss):
        return loss
    return KindLoss("classification") if loss is nn.functional.cross_entropy and kind == "classification" else None


def _usual_loss(model: LoadedModel) -> KindLoss | None:
    """That of data files; weights of classes are not known any more. A task in code has any loss, usually this one."""
    options, rescaled = model.config["data_options"], model.config["network"].get("rescaled")
    if model.kind == "regression":
        return None if rescaled is None else KindLoss(model.kind, scale=tuple(rescaled["scale"]))
    return None if options and options.get("balance") else KindLoss(model.kind)


def _fits(found: Activations, targets: Any, kind: str) -> bool:
    """Whether outputs and targets are rows of numbers for each sample."""
    if not isinstance(targets, Tensor) or not len(found.outputs) or len(found.outputs) != len(targets):
        return False
    if found.outputs.numel() > LARGEST_OUTPUTS:
        return False
    if kind == "classification":
        whole = targets.ndim == 1 and not targets.is_floating_point()
        return whole and 0 <= int(targets.min()) <= int(targets.max()) < found.outputs.shape[1]
    return targets.reshape(len(targets), -1).shape == found.outputs.shape


def drawn_places(count: int, most: int) -> list[int]:
    """Up to `most` of so many places, always the same ones, in an order that has nothing to do with theirs.

    Data are often sorted by class: the first of these places are still a fair sample.
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most].tolist()


def _starts(count: int) -> list[int]:
    """Where whole groups of samples begin."""
    return [GROUP * place for place in range(min(count // GROUP, MOST_GROUPS))]


def _on(targets: Any, network: nn.Module) -> Any:
    weight = next(network.parameters())
    if isinstance(targets, WeightedTarget):
        return WeightedTarget(_on(targets.target, network), _on(targets.weight, network))
    values = cast("Tensor", targets)
    return values.to(weight.device, weight.dtype if values.is_floating_point() else None)
