"""The record of a task: data, model, loss, metric and training defaults."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from letsam import checks
from letsam.tasks.metrics import Metric

KINDS = ("classification", "multilabel", "regression")


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Fraction of samples whose largest output is that of the target class.

    Args:
        outputs: Scores, shape ``(batch, classes)``, or ``(batch, classes, ...)`` as for ``cross_entropy``.
        targets: Classes, shape ``(batch,)`` or ``(batch, ...)``.

    Returns:
        A scalar tensor in [0, 1].

    Example:
        >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0])).item()
        0.5
    """
    return (outputs.argmax(dim=1) == targets).float().mean()


def sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The default base optimizer: SGD with learning rate 0.05, momentum 0.9 and weight decay 5e-4."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data, model, loss, metric and training defaults.

    Every sample is an ``(input, target)`` pair, and the model is called as ``model(inputs)`` with a batch of inputs. An
    input is a tensor, or a dict, tuple or list of tensors. ``collate`` makes the batches if samples cannot simply be
    stacked, as with texts of different lengths. Methods with a cheaper ascent take the first samples of a batch: where
    not every tensor of a batch has a row for each sample, ``first_samples`` does it. The training loop decays the
    learning rate of ``optimizer`` (cosine, to 0), so the optimizer sets the initial value.

    The test accuracy in results is the mean of ``metric`` over the samples. For metrics that are not such a mean (BLEU,
    a correlation), ``score`` replaces it. Results show either under the name ``metric_name``. ``metrics`` are computed
    on the outputs and targets of the whole test set, and saved by their names; the one with the name ``metric_name``
    replaces both. Of a model that returns a dict or a ``ModelOutput`` with ``logits``, they get the logits.

    Raises:
        TypeError: If a field has the wrong type.
        ValueError: If a field is out of range.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> data = TensorDataset(torch.randn(8, 4), torch.arange(8) % 2)
        >>> task = Task(name="tiny", model=lambda: nn.Linear(4, 2), train=data, test=data, epochs=1)
        >>> task.epochs, task.batch_size
        (1, 64)
    """

    name: str
    model: Callable[[], nn.Module]  # makes a new model; the caller seeds torch
    train: Dataset[Any]
    test: Dataset[Any]
    validation: Dataset[Any] | None = None  # None: for learned radii, a fraction of `train` is held out
    loss: Callable[[Any, Any], Tensor] = nn.functional.cross_entropy  # (outputs, targets) -> mean, a scalar
    metric: Callable[[Any, Any], Tensor] = accuracy  # (outputs, targets) -> mean, a scalar; higher is better
    score: Callable[[nn.Module, Dataset[Any]], float] | None = (
        None  # (model in evaluation mode, test) -> higher is better
    )
    metric_name: str = "accuracy"  # name of `score` if given, else of `metric`
    collate: Callable[[list[Any]], tuple[Any, Any]] | None = None  # samples -> (inputs, targets), as for a DataLoader
    first_samples: Callable[[Any, Any, int], tuple[Any, Any]] | None = None  # (inputs, targets, n) -> of the first n
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] = sgd
    epochs: int = 20
    batch_size: int = 64
    evaluations: int = 10  # approximate number of evaluations during training; fewer if an evaluation is expensive
    evaluation_batch: int = 500  # batch size of evaluations
    sam_rho: float = 0.05  # radius of `sam`, initial radius of `lets-sam`
    asam_rho: float = 0.5  # radius of `asam`, initial radius of `lets-asam`
    description: str = ""
    kind: str = "classification"  # or "multilabel", "regression"
    classes: tuple[str, ...] = ()  # names of the classes, or of the labels of a multi-label target
    metrics: tuple[Metric, ...] = ()  # on the whole test set; that with the name `metric_name` replaces `metric`
    lower_is_better: bool = False  # whether a lower value of `metric`, or of `score`, is better
    train_names: tuple[str, ...] = ()  # of the training samples, such as their files; for audits
    test_names: tuple[str, ...] = ()  # of the test samples, likewise; for the report
    preparation: Any = None  # what makes inputs of new data files; see `letsam.data`
    inferred: tuple[tuple[str, str], ...] = ()  # what was inferred from files of data, shown before training
    groups: Tensor | None = None  # a group's number for each training sample: groups are never divided by a split
    times: Tensor | None = None  # a time for each training sample: a split holds out the latest
    model_config: dict[str, Any] | None = None  # from which the model can be made again

    def __post_init__(self) -> None:
        for field in ("name", "description", "metric_name"):
            if not isinstance(getattr(self, field), str):
                raise TypeError(f"`{field}` must be a string, got {_show(getattr(self, field))}")
        for field in ("name", "metric_name"):
            if not str(getattr(self, field)).strip():
                raise ValueError(f"`{field}` must be a non-empty string, got an empty one")
        # A module is callable, so passing one would otherwise cause an unrelated error in its `forward`.
        if isinstance(self.model, nn.Module) or not callable(self.model):
            raise TypeError(
                f"`model` must be a function without arguments that makes a torch.nn.Module, got {_show(self.model)}"
            )
        for field in ("loss", "metric", "optimizer"):
            if not callable(getattr(self, field)):
                raise TypeError(f"`{field}` must be a function, got {_show(getattr(self, field))}")
        for field in ("score", "collate", "first_samples"):
            if getattr(self, field) is not None and not callable(getattr(self, field)):
                raise TypeError(f"`{field}` must be a function or None, got {_show(getattr(self, field))}")
        if isinstance(self.optimizer, torch.optim.Optimizer):
            raise TypeError("`optimizer` must be a function of the parameters, got an optimizer already built")
        checks.choice("kind", self.kind, KINDS)
        checks.flag("lower_is_better", self.lower_is_better)
        if not isinstance(self.metrics, tuple) or not all(isinstance(one, Metric) for one in self.metrics):
            raise TypeError(f"`metrics` must be a tuple of `Metric` objects, got {_show(self.metrics)}")
        for field in ("groups", "times"):
            value = getattr(self, field)
            if value is not None and (not isinstance(value, Tensor) or value.shape != (len(self.train),)):  # pyright: ignore[reportArgumentType]
                raise ValueError(f"`{field}` must be a tensor with one number for each training sample, or None")
        for field in ("epochs", "batch_size", "evaluations", "evaluation_batch"):
            checks.whole(field, getattr(self, field), minimum=1)
        for field in ("sam_rho", "asam_rho"):
            checks.positive(field, getattr(self, field))
        _check_dataset("train", self.train)
        _check_dataset("test", self.test)
        if self.validation is not None:
            _check_dataset("validation", self.validation)


def _check_dataset(field: str, value: Any) -> None:
    expected = f"`{field}` must be a map-style dataset with at least 1 sample"
    has_items = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    # An IterableDataset inherits a `__getitem__` that only raises; mappings and strings are not sequences of pairs.
    if not has_items or isinstance(value, (IterableDataset, str, bytes, dict)):
        raise TypeError(f"{expected}, got {_show(value)}")
    if len(value) < 1:
        raise ValueError(f"{expected}, got 0 samples")
    sample = value[0]
    if not isinstance(sample, (tuple, list)) or len(sample) != 2:
        raise ValueError(f"`{field}` must hold (input, target) pairs, got {_show(sample)} as its first sample")


def _show(value: object) -> str:
    """A short one-line description of a value for an error message; the repr of tensors and modules is long."""
    kind = type(value).__name__
    if isinstance(value, (tuple, list)):
        return f"a {kind} of {len(value)}"
    if value is None or isinstance(value, (str, bytes, bool, int, float)):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    return f"an object of type {kind}"
