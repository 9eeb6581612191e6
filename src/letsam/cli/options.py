"""The options of the commands in groups that commands share, and how lists are read."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from letsam.cli.drift_options import DriftArguments
from letsam.languages import ENGLISH, known_languages

if TYPE_CHECKING:
    from letsam.data import DataOptions
    from letsam.models import ModelOptions
    from letsam.training.config import TrialConfig
    from letsam.training.loggers import LogTo
    from letsam.training.methods import Method

MAX_SEEDS = 1000  # a larger number is probably meant as one seed, not as a count


def complete_methods(incomplete: str) -> list[str]:
    """For the shell: the methods that the last name of a list may become.

    Example:
        >>> complete_methods("sgd,lets-as")
        ['sgd,lets-asam']
    """
    from letsam.training.methods import KINDS

    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in KINDS if name.startswith(last)]


def complete_tasks(incomplete: str) -> list[str]:
    """For the shell: built-in tasks, files and folders.

    Example:
        >>> complete_tasks("dig")
        ['digits']
    """
    from letsam.tasks import available_tasks

    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    shown = [f"{path}/" if path.is_dir() else str(path) for path in paths if not path.name.startswith(".")]
    return [name for name in [*(name for name, _ in available_tasks()), *shown] if name.startswith(incomplete)]


def complete_languages(incomplete: str) -> list[str]:
    """For the shell: the languages of reports.

    Example:
        >>> complete_languages("j")
        ['ja']
    """
    return [language for language in known_languages() if language.startswith(incomplete)]


Methods = Annotated[
    str | None,
    typer.Option(
        help="Names, separated by commas; see letsam methods.  "
        "[default: sgd, four fixed radii of sam and of asam, lets-sam, lets-asam]",
        autocompletion=complete_methods,
    ),
]
Seeds = Annotated[str, typer.Option(help="A count (3: seeds 0, 1, 2) or a list (11,12,13).")]
OptionalMethod = Annotated[
    str | None, typer.Option(help="One method's name; see letsam methods.", autocompletion=complete_methods)
]
OptionalSeed = Annotated[
    int | None,
    typer.Option(help="Splits, initial weights and batch order depend on it alone.  [default: 0]", show_default=False),
]
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="MODEL", help="Train a model again as its folder says; TASK: where its data are."),
]
Refit = Annotated[bool, typer.Option(help="Replay each learned schedule on all the data, as another run.")]
RefitBest = Annotated[
    bool, typer.Option("--refit-best", help="Train the best method on all the training data, and write OUT/model.")
]
Export = Annotated[str | None, typer.Option(help="Write the model as torch (.pt2) or onnx as well.")]
Jobs = Annotated[int, typer.Option(help="Runs in parallel, each in a process with one thread.")]
CheckpointSteps = Annotated[int | None, typer.Option(help="Write a checkpoint every so many steps of an epoch, too.")]
ExecutorOption = Annotated[
    str, typer.Option(help="Where runs are trained: joblib (here), dask://HOST:PORT, ray://HOST:PORT or ray://auto.")
]

Language = Annotated[
    str,
    typer.Option(help=f"Language of the report: {' or '.join(known_languages())}.", autocompletion=complete_languages),
]

_TASK = "A file or folder of data, hf:NAME, a task's name, path/to/file.py:function or package.module:function."


@dataclass(frozen=True, kw_only=True)
class RunArguments:
    """What is trained, where the results go, and where it runs."""

    task: Annotated[str, typer.Argument(metavar="TASK", help=_TASK, autocompletion=complete_tasks)]
    rho: Annotated[float | None, typer.Option(help="Radius where a method's name gives none.")] = None
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data.  [default: the task's]")] = None
    batch_size: Annotated[int | None, typer.Option(help="Samples a step.  [default: the task's]")] = None
    label_noise: Annotated[float, typer.Option(help="Fraction of wrong training labels, at least 0 and below 1.")] = 0.0
    validation_share: Annotated[float, typer.Option(help="Fraction held out for learned radii, between 0 and 1.")] = 0.1
    folds: Annotated[
        int | None,
        typer.Option(help="Hold out one of so many folds (10), another one in each third of the epochs."),
    ] = None
    release: Annotated[
        float | None,
        typer.Option(help="Share of the epochs after which the held-out data are trained on, too; no refit then."),
    ] = None
    train_size: Annotated[int | None, typer.Option(help="Training samples, for tasks that offer a choice.")] = None
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the data, for tasks that read files.")] = None
    out: Annotated[Path | None, typer.Option(help="Folder for the results.  [default: runs/TASK]")] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what is finished in the folder and complete the rest.")
    ] = False
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto"
    strategy: Annotated[str | None, typer.Option(help="Under torchrun: ddp or fsdp.  [default: ddp]")] = None
    precision: Annotated[str | None, typer.Option(help="32-true, 16-mixed, bf16-mixed, bf16-true or 64-true.")] = None
    accumulate: Annotated[int, typer.Option(help="Micro-batches that a batch is split into.")] = 1
    max_grad_norm: Annotated[
        float | None, typer.Option(help="Clip the gradients of all methods at this total norm.")
    ] = None
    log: Annotated[
        str | None, typer.Option(help="Log every evaluation to tensorboard, csv, mlflow or wandb; several with commas.")
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that read data that is not in memory.  [default: cores - 1, up to 8, for files]"),
    ] = None
    language: Language = ENGLISH

    def logs(self, folder: Path) -> LogTo | None:
        """Where the runs of results in this folder are logged, if anywhere."""
        if self.log is None:
            return None
        from letsam.training.loggers import LogTo

        logs = LogTo(parse_names("log", self.log), str(folder / "logs"), default_folder(self.task).name)
        logs.check_packages()
        return logs


@dataclass(frozen=True, kw_only=True)
class TrainArguments(RunArguments):
    """The same where the task may be that of a model."""

    task: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride]
        str | None, typer.Argument(metavar="TASK", help=_TASK, autocompletion=complete_tasks)
    ] = None


@dataclass(frozen=True, kw_only=True)
class DataArguments:
    """How a TASK that is a file or folder of data is read."""

    target: Annotated[
        str | None, typer.Option(help="Column of the target; several, separated by commas, are a multi-label target.")
    ] = None
    test: Annotated[Path | None, typer.Option(help="File or folder with the test data.")] = None
    test_share: Annotated[float, typer.Option(help="Fraction held out as test data where --test is not given.")] = 0.2
    kind: Annotated[
        str | None, typer.Option(help="classification, multilabel or regression.  [default: told from the target]")
    ] = None
    text: Annotated[str | None, typer.Option(help="Column with the text of each row; makes it a text task.")] = None
    group: Annotated[
        str | None, typer.Option(help="Column; rows with the same value are never in both training and test data.")
    ] = None
    time: Annotated[str | None, typer.Option(help="Column; the latest rows become the test data.")] = None
    weight: Annotated[str | None, typer.Option(help="Column with the weight of each row in loss and metrics.")] = None
    drop: Annotated[str | None, typer.Option(help="Columns that are left out, separated by commas.")] = None
    image_size: Annotated[int | None, typer.Option(help="Side of the images in pixels.  [default: told from them]")] = (
        None
    )
    augment: Annotated[
        str, typer.Option(help="Of training images: none, shift, shift+flip or auto (flips in colour alone).")
    ] = "auto"
    sample_rate: Annotated[
        int | None, typer.Option(help="Samples a second of recordings.  [default: theirs, up to 16000]")
    ] = None
    seconds: Annotated[
        float | None, typer.Option(help="Length that recordings are brought to.  [default: theirs, up to 10]")
    ] = None
    memory: Annotated[float, typer.Option(help="GiB of decoded data that are kept in memory.")] = 2.0
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out files that cannot be read.")] = False
    missing: Annotated[
        str | None,
        typer.Option(help="Texts that mean a missing value, separated by commas, besides empty cells and NA."),
    ] = None
    balance: Annotated[
        bool, typer.Option("--balance", help="Weight the classes in the loss so that all count the same.")
    ] = False
    metric: Annotated[
        str | None,
        typer.Option(help="Main metric: accuracy, balanced accuracy, F1, AUROC, log loss, RMSE, MAE, R2 or Spearman."),
    ] = None

    def options(self, path: str) -> DataOptions:
        """The options of the data at `path`."""
        from letsam.data import DataOptions

        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["test"] = None if self.test is None else str(self.test)
        for name in ("drop", "missing"):
            given = getattr(self, name)
            values[name] = () if given is None else parse_names(name, given)
        return DataOptions(path=path, **values)

    def check_unused(self, task: str) -> None:
        """Raise ValueError where an option is given, since `task` is no file or folder of data."""
        for field in dataclasses.fields(self):
            if getattr(self, field.name) != field.default:
                option = f"--{field.name.replace('_', '-')}"
                raise ValueError(f"`{option}` needs a TASK that is a file or folder of data, got {task!r}")


@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """The model, and how its weights are trained."""

    model: Annotated[
        str | None, typer.Option(help="The model: a name, auto or timm:NAME; or that of a task with a choice.")
    ] = None
    pretrained: Annotated[
        str | None, typer.Option(help="Folder or hub name of a model of transformers, minilm, or timm:NAME.")
    ] = None
    lora: Annotated[
        bool, typer.Option("--lora", help="Train low-rank adapters and the head of the pretrained model alone.")
    ] = False
    lora_rank: Annotated[int, typer.Option(help="Rank of the adapters.")] = 8
    optimizer: Annotated[
        str | None, typer.Option(help="Base optimizer: sgd, adamw or adam.  [default: the model's or the task's]")
    ] = None
    lr: Annotated[
        str | None, typer.Option(help="Learning rate, or auto: found by a range test, one for all methods.")
    ] = None
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay of the base optimizer.")] = None

    def options(self, *, from_files: bool) -> ModelOptions | None:
        """The options of the model of files of data; of another task, those of its base optimizer, or None."""
        from letsam.models import ModelOptions

        pretrained = {"pretrained": self.pretrained, "lora": self.lora, "lora_rank": self.lora_rank}
        values = {"optimizer": self.optimizer, "lr": parse_lr(self.lr), "weight_decay": self.weight_decay}
        if from_files:
            return ModelOptions(name="auto" if self.model is None else self.model, **pretrained, **values)
        for name in ("pretrained", "lora"):
            if pretrained[name]:
                raise ValueError(f"`--{name}` needs a TASK that is a file or folder of data")
        options = ModelOptions(**values)
        return options if options.changes_optimizer else None


@dataclass(frozen=True, kw_only=True)
class SearchArguments:
    """The search for hyperparameters of the base optimizer, by Optuna."""

    search: Annotated[
        str | None, typer.Option(help="lr, weight_decay or both: tuned by Optuna for every method, on held-out data.")
    ] = None
    search_trials: Annotated[int | None, typer.Option(help="Trials of the search for each method.  [default: 20]")] = (
        None
    )
    search_pruner: Annotated[str | None, typer.Option(help="median, halving or none.  [default: median]")] = None
    search_storage: Annotated[
        str | None, typer.Option(help="URL of an Optuna storage.  [default: optuna.db in the folder of the results]")
    ] = None

    def added_to(self, config: TrialConfig) -> TrialConfig:
        """The options of a trial with this search."""
        if self.search is None and self.search_storage is not None:
            raise ValueError(f"`search_storage` needs `search`, which names what is tuned, got {self.search_storage!r}")
        names = None if self.search is None else parse_names("search", self.search)
        return dataclasses.replace(
            config, search=names, search_trials=self.search_trials, search_pruner=self.search_pruner
        )


@dataclass(frozen=True, kw_only=True)
class AuditArguments:
    """What is audited."""

    task: Annotated[str, typer.Argument(metavar="DATA", help=_TASK)]
    deployed: Annotated[Path | None, typer.Option(help="File or folder of inputs from operation, without targets.")] = (
        None
    )
    validation_share: Annotated[float, typer.Option(help="Fraction held out for learned radii, between 0 and 1.")] = 0.1
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0
    train_size: Annotated[int | None, typer.Option(help="Training samples, for tasks that offer a choice.")] = None
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the data, for tasks that read files.")] = None
    out: Annotated[
        Path | None, typer.Option(help="JSON file for the findings, or the folder of a trial, for its report.")
    ] = None
    language: Language = ENGLISH


def takes(*groups: type[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make the fields of groups of options parameters of a command.

    Args:
        groups: dataclasses whose fields are annotated as typer reads them.

    Returns:
        A decorator. The function gets one object of each group, in this order, and its own parameters by name. Typer
        sees the required fields of the groups, then the function's own parameters, then the other fields.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[len(groups) :]
        fields = [parameter for group in groups for parameter in _parameters(group)]
        required = [parameter for parameter in fields if parameter.default is inspect.Parameter.empty]
        by_name = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        parameters = [*required, *by_name, *(parameter for parameter in fields if parameter not in required)]

        def command(**values: Any) -> Any:
            made = [group(**{f.name: values.pop(f.name) for f in dataclasses.fields(group)}) for group in groups]
            return function(*made, **values)

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__module__ = function.__module__
        command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def _parameters(group: type[Any]) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(group)
    ]


def make_config(
    run: RunArguments,
    data: DataArguments,
    model: ModelArguments,
    drift: DriftArguments,
    *,
    methods: tuple[Method, ...],
    seeds: tuple[int, ...],
    refit: bool,
) -> TrialConfig:
    """The options of a trial, from those of a command."""
    from letsam.data import is_data
    from letsam.training.config import TrialConfig

    from_files = is_data(run.task)
    if not from_files:
        data.check_unused(run.task)
    return TrialConfig(
        task=run.task,
        methods=methods,
        seeds=seeds,
        rho=run.rho,
        epochs=run.epochs,
        batch_size=run.batch_size,
        label_noise=run.label_noise,
        validation_share=run.validation_share,
        folds=run.folds,
        release=run.release,
        validation_shift=drift.validation_shift,
        deployed=None if drift.deployed is None else str(drift.deployed),
        evaluate_shift=drift.evaluate_shift,
        refit=refit,
        train_size=run.train_size,
        data_dir=None if run.data_dir is None else str(run.data_dir),
        model=None if from_files else model.model,
        precision=run.precision,
        accumulate=run.accumulate,
        max_grad_norm=run.max_grad_norm,
        workers=run.workers,
        data_options=data.options(run.task) if from_files else None,
        model_options=model.options(from_files=from_files),
    )


def parse_names(name: str, text: str) -> tuple[str, ...]:
    """Read a list of names, separated by commas.

    Example:
        >>> parse_names("drop", "id, date")
        ('id', 'date')
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise ValueError(f"`{name}` must name at least one, got {text!r}")
    return names


def parse_lr(text: str | None) -> float | str | None:
    """Read a learning rate: a number, or "auto".

    Example:
        >>> parse_lr("0.1"), parse_lr("auto"), parse_lr(None)
        (0.1, 'auto', None)
    """
    if text is None or text.strip() == "auto":
        return text and text.strip()
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"`lr` must be a number above 0, or auto, got {text!r}") from None


def parse_methods(text: str | None) -> tuple[Method, ...]:
    """Read a list of methods, separated by commas; None: the default methods of a trial."""
    from letsam.training.config import DEFAULT_METHODS
    from letsam.training.methods import Method

    if text is None:
        return DEFAULT_METHODS
    return tuple(Method.parse(part.strip()) for part in text.split(",") if part.strip())


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read a number of seeds, or a list of seeds, separated by commas.

    Example:
        >>> parse_seeds("3"), parse_seeds("7,"), parse_seeds("11,12")
        ((0, 1, 2), (7,), (11, 12))
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = [int(part) for part in parts if part]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or (len(parts) == 1 and numbers[0] < 1):
        raise ValueError(f"`seeds` must be a count >= 1 (3) or a list of whole numbers >= 0 (11,12,13), got {text!r}")
    if len(parts) == 1 and numbers[0] > MAX_SEEDS:
        raise ValueError(f"`seeds` must be a count up to {MAX_SEEDS}, got {text}; for one seed write {text.strip()},")
    return tuple(range(numbers[0])) if len(parts) == 1 else tuple(numbers)


def default_folder(task: str) -> Path:
    """The folder for the results of a task where the option `--out` is not given."""
    from letsam.data import is_data
    from letsam.data.reading import name_of

    return Path("runs") / (name_of(task) if is_data(task) else Path(task.replace(":", "-")).name)
