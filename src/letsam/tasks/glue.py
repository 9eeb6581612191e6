"""`glue/cola` and other GLUE tasks: fine-tuning DeBERTa."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from letsam.tasks.errors import TaskError
from letsam.tasks.hub import load_splits
from letsam.tasks.subset import check_train_size, stratified_order
from letsam.tasks.task import Task, accuracy
from letsam.tasks.text import Network, TokenRows, load_package, model_folder, outputs_and_targets, quiet, trimmed

HUB_NAME = "nyu-mll/glue"
MAX_LENGTH = 128  # tokens
SUBSET_SEED = 9


def matthews(outputs: Tensor, targets: Tensor) -> float:
    """Matthews correlation of predicted and true classes (CoLA's score).

    Args:
        outputs: Scores, shape ``(n, 2)``.
        targets: Classes, shape ``(n,)``.

    Returns:
        The correlation, -1 to 1.

    Example:
        >>> matthews(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
        1.0
    """
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(targets.numpy(), outputs.argmax(dim=1).numpy()))


def pearson_spearman(outputs: Tensor, targets: Tensor) -> float:
    """Mean of Pearson's and Spearman's correlation (STS-B's score).

    Args:
        outputs: Predictions, shape ``(n, 1)``.
        targets: True values, shape ``(n,)``.

    Returns:
        The mean, -1 to 1; 0 if all outputs are equal.

    Example:
        >>> pearson_spearman(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0.0, 2.0, 4.0]))
        1.0
    """
    from scipy import stats

    scores = outputs.flatten().double().numpy()
    if (scores == scores[0]).all():
        return 0.0
    wanted = targets.double().numpy()
    pearson, spearman = stats.pearsonr(scores, wanted)[0], stats.spearmanr(scores, wanted)[0]
    return round((float(pearson) + float(spearman)) / 2, 12)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Glue:
    """The properties of a GLUE task.

    Attributes:
        columns: names of the columns with the one or two sentences.
        classes: number of classes; 1 for a regression.
        test: the split that is reported; a validation split, because GLUE's test labels are not public.
        score: function of all outputs and targets; None: accuracy.
        metric_name: name of the reported metric.
        epochs: number of epochs of fine-tuning.
    """

    columns: tuple[str, ...]
    classes: int = 2
    test: str = "validation"
    score: Callable[[Tensor, Tensor], float] | None = None
    metric_name: str = "accuracy"
    epochs: int = 3


GLUE: dict[str, Glue] = {
    "cola": Glue(("sentence",), score=matthews, metric_name="Matthews correlation", epochs=6),
    "sst2": Glue(("sentence",)),
    "mrpc": Glue(("sentence1", "sentence2"), epochs=6),
    "stsb": Glue(
        ("sentence1", "sentence2"),
        classes=1,
        score=pearson_spearman,
        metric_name="Pearson-Spearman correlation",
        epochs=6,
    ),
    "qqp": Glue(("question1", "question2")),
    "mnli": Glue(("premise", "hypothesis"), classes=3, test="validation_matched"),
    "qnli": Glue(("question", "sentence")),
    "rte": Glue(("sentence1", "sentence2"), epochs=6),
}


def glue(
    task: str, train_size: int | None = None, data_dir: Path | None = None, model: str = "microsoft/deberta-base"
) -> Task:
    """Fine-tune DeBERTa on a GLUE task; the test set is GLUE's validation set, whose labels are public.

    AdamW with learning rate 2e-5, batches of 32, sentences of at most 128 tokens. The model's dropout is set to 0, so
    both passes of a step see the same function.

    Args:
        task: cola, sst2, mrpc, stsb, qqp, mnli, qnli or rte.
        train_size: Number of training samples, one per class to all; smaller sets are subsets of larger ones.
        data_dir: Folder with the files of GLUE, one subfolder per task as on the hub, or with a subfolder ``glue`` that
            has them. Default: the subfolder ``glue`` of the folder in the environment variable ``LETSAM_DATA``, then
            the Hugging Face hub.
        model: A model folder or a name on the hub that ``AutoModelForSequenceClassification`` can load.

    Returns:
        The task, named ``glue/cola`` and so on.

    Raises:
        TaskError: If the task is unknown, the data, the model or a package is missing, or ``train_size`` is out of
            range.

    Reference:
        A. Wang et al., "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding", ICLR
        2019; P. He et al., "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", ICLR 2021.
    """
    if task not in GLUE:
        raise TaskError(f"`task` must be one of {', '.join(GLUE)}, got {task!r}")
    kind, name = GLUE[task], f"glue/{task}"
    train_rows, test_rows = load_splits(
        HUB_NAME, ("train", kind.test), (*kind.columns, "label"), folder_name="glue", data_dir=data_dir, config=task
    )
    targets = _targets(train_rows, kind)
    size = check_train_size(train_size, min(kind.classes, len(targets)), len(targets))
    if size < len(targets):
        strata = targets if kind.classes > 1 else torch.zeros(len(targets))
        chosen = stratified_order(strata, SUBSET_SEED)[:size].tolist()
        train_rows = train_rows.select(chosen)
        targets = targets[chosen]
    tokenizer, build = _tokenizer_and_model(name, model, kind.classes)
    score = kind.score

    def whole(network: nn.Module, dataset: Dataset[Any]) -> float:
        assert score is not None
        return score(*outputs_and_targets(network, dataset))

    return Task(
        name=name,
        description=f"GLUE, {task}, fine-tuning {model}",
        model=build,
        train=TokenRows(_tokens(tokenizer, train_rows, kind), targets),
        test=TokenRows(_tokens(tokenizer, test_rows, kind), _targets(test_rows, kind)),
        collate=trimmed,
        loss=nn.functional.cross_entropy if kind.classes > 1 else _squared_error,
        metric=accuracy if kind.classes > 1 else lambda outputs, targets: -_squared_error(outputs, targets),
        score=None if score is None else whole,
        metric_name=kind.metric_name,
        optimizer=_glue_adamw,
        epochs=kind.epochs,
        batch_size=32,
        evaluations=kind.epochs,
        evaluation_batch=100,
    )


def _targets(rows: Any, kind: Glue) -> Tensor:
    targets = torch.tensor(rows["label"], dtype=torch.long if kind.classes > 1 else torch.float32)
    if kind.classes > 1 and not 0 <= int(targets.min()) <= int(targets.max()) < kind.classes:
        raise TaskError(
            f"`label` must be from 0 to {kind.classes - 1}, got {int(targets.min())} to {int(targets.max())}"
        )
    return targets


def _tokens(tokenizer: Any, rows: Any, kind: Glue) -> dict[str, Tensor]:
    texts = [list(rows[column]) for column in kind.columns]
    encoded = tokenizer(*texts, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
    return dict(encoded)


def _tokenizer_and_model(task: str, model: str, classes: int) -> tuple[Any, Callable[[], nn.Module]]:
    transformers = load_package("transformers", task)
    folder = model_folder(model)
    place, local = folder or model, folder is not None
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, local_files_only=local)
            config = transformers.AutoConfig.from_pretrained(place, local_files_only=local, num_labels=classes)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TaskError(
            f"cannot load `model` {model!r}, expected a model folder or a name on the hub ({reason})"
        ) from error
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "pooler_dropout", "classifier_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)

    def build() -> nn.Module:
        with quiet():
            return Network(
                transformers.AutoModelForSequenceClassification.from_pretrained(
                    place, config=config, local_files_only=local
                )
            )

    return tokenizer, build


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.mse_loss(outputs.squeeze(-1), targets)


def _glue_adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=2e-5, weight_decay=0.01)
