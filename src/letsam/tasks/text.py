"""Shared by the language tasks: padded token rows, batches trimmed to their longest sample, vocabularies."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from letsam.tasks.errors import TaskError

if TYPE_CHECKING:
    import tokenizers

IGNORED = -100
"""The target of a padding token, the default `ignore_index` of `torch.nn.functional.cross_entropy`."""

SPECIAL = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
"""Special tokens of the vocabularies built here; their positions in this tuple are their ids."""

PAD, UNK, BOS, EOS = range(4)


class TokenRows(Dataset[tuple[dict[str, Tensor], Tensor]]):
    """Samples whose inputs are rows of named token tensors.

    Args:
        inputs: Tensors of shape ``(n, length)``, including ``attention_mask`` (1 for a token, 0 for padding on the
            right).
        targets: Shape ``(n,)``, or ``(n, length)`` with `IGNORED` for padding.

    Example:
        >>> rows = TokenRows({"input_ids": torch.tensor([[7, 0]])}, torch.tensor([1]))
        >>> rows[0]
        ({'input_ids': tensor([7, 0])}, tensor(1))
    """

    def __init__(self, inputs: dict[str, Tensor], targets: Tensor) -> None:
        self.inputs = inputs
        self.targets = targets

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        """One sample."""
        return {name: rows[index] for name, rows in self.inputs.items()}, self.targets[index]


def trimmed(samples: list[Any]) -> tuple[dict[str, Tensor], Tensor]:
    """Collate samples and remove the columns that contain only padding, so that padding costs little.

    Args:
        samples: Items of `TokenRows`. Targets with one number per token, and ``decoder_input_ids``, are trimmed to the
            longest target.

    Returns:
        Inputs and targets.

    Example:
        >>> rows = TokenRows(
        ...     {
        ...         "input_ids": torch.tensor([[5, 0, 0], [6, 7, 0]]),
        ...         "attention_mask": torch.tensor([[1, 0, 0], [1, 1, 0]]),
        ...     },
        ...     torch.tensor([0, 1]),
        ... )
        >>> trimmed([rows[0], rows[1]])[0]["input_ids"].tolist()
        [[5, 0], [6, 7]]
    """
    inputs, targets = default_collate(samples)
    length = int(inputs["attention_mask"].sum(dim=1).max())
    target_length = int((targets != IGNORED).sum(dim=1).max()) if targets.ndim == 2 else None
    kept = {name: rows[:, : target_length if name.startswith("decoder_") else length] for name, rows in inputs.items()}
    return kept, targets if target_length is None else targets[:, :target_length]


class Network(nn.Module):
    """A model of `transformers` that takes a dict of inputs and returns its logits.

    Args:
        model: Called with the inputs as keyword arguments; its output has ``logits``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits: ``(batch, classes)`` of a classifier, ``(batch, length, vocabulary)`` of a translation model."""
        return self.model(**inputs).logits


def outputs_and_targets(model: nn.Module, dataset: Dataset[Any], batch_size: int = 100) -> tuple[Tensor, Tensor]:
    """The outputs of a model for a whole data set, for scores that are not a mean over samples.

    Args:
        model: In evaluation mode; batches are moved to the device of its parameters.
        dataset: `TokenRows`, or a data set with the same kind of samples.
        batch_size: Number of samples per batch.

    Returns:
        Outputs and targets on the CPU, concatenated along the first dimension.
    """
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
    device = next(model.parameters()).device
    with torch.no_grad():
        for inputs, wanted in batches_of(dataset, batch_size):
            outputs.append(model({name: rows.to(device) for name, rows in inputs.items()}).cpu())
            targets.append(wanted)
    return torch.cat(outputs), torch.cat(targets)


def batches_of(dataset: Dataset[Any], batch_size: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """The batches of a data set, in order and trimmed."""
    count = len(dataset)  # pyright: ignore[reportArgumentType]
    for start in range(0, count, batch_size):
        yield trimmed([dataset[index] for index in range(start, min(start + batch_size, count))])


def load_package(name: str, task: str, extra: str = "tasks") -> Any:
    """Import a package that a task needs; called when the task is built.

    Args:
        name: Name of the package.
        task: Name of the task, for the error message.
        extra: The extra of letsam that installs it.

    Returns:
        The module.

    Raises:
        TaskError: If the package is not installed.

    Example:
        >>> load_package("no_such_package", "glue/cola")
        Traceback (most recent call last):
        letsam.tasks.errors.TaskError: `glue/cola` needs the package no_such_package; install it with `pip install ...`
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        hint = f'install it with `pip install "letsam[{extra}]"`'
        raise TaskError(f"`{task}` needs the package {name}; {hint}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress progress bars and the warning that the classification head is newly initialized; errors are raised."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def word_vocabulary(task: str, texts: Sequence[str], size: int) -> tokenizers.Tokenizer:
    """A vocabulary of the most frequent words and punctuation marks, in lower case.

    Args:
        task: Name of the task, for the error message.
        texts: Training texts only, so that words that occur only in the test set stay unknown.
        size: Maximum number of entries, including the four of `SPECIAL`; words that occur once are left out.

    Returns:
        A tokenizer of the library `tokenizers`.

    Raises:
        TaskError: If `tokenizers` is missing.
    """
    library = load_package("tokenizers", task)
    tokenizer = library.Tokenizer(library.models.WordLevel(unk_token=SPECIAL[UNK]))
    tokenizer.normalizer = library.normalizers.Lowercase()
    tokenizer.pre_tokenizer = library.pre_tokenizers.Whitespace()
    trainer = library.trainers.WordLevelTrainer(
        vocab_size=size, min_frequency=2, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: tokenizers.Tokenizer, texts: Sequence[str], max_length: int) -> dict[str, Tensor]:
    """Tokenize texts, truncated to ``max_length`` tokens and padded on the right.

    Args:
        tokenizer: A tokenizer of the library `tokenizers` with the special tokens of `SPECIAL`.
        texts: The texts.
        max_length: Maximum number of tokens.

    Returns:
        ``input_ids`` and ``attention_mask``, int64, shape ``(n, length)``.
    """
    tokenizer.enable_truncation(max_length)
    tokenizer.enable_padding(pad_id=PAD, pad_token=SPECIAL[PAD])
    rows = tokenizer.encode_batch(list(texts))
    return {
        "input_ids": torch.tensor([row.ids for row in rows]),
        "attention_mask": torch.tensor([row.attention_mask for row in rows]),
    }


def model_folder(model: str | Path) -> Path | None:
    """The folder from which a model is read; None if it is a name on the hub."""
    folder = Path(model).expanduser()
    return folder if folder.is_dir() else None
