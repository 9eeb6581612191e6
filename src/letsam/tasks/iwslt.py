"""`iwslt14-de-en`: subtitles of talks, German to English, the translation data set of the SAM literature."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from letsam.tasks.errors import TaskError
from letsam.tasks.hub import load_splits
from letsam.tasks.subset import check_train_size
from letsam.tasks.task import Task
from letsam.tasks.text import trimmed
from letsam.tasks.translation import translation_task

HUB_NAME = "bbaaaa/iwslt14-de-en-preprocess"  # fairseq's split: 160,239 / 7,283 / 6,750 pairs
MAX_LENGTH = 175  # tokens
SUBSET_SEED = 160239


def iwslt14_de_en(train_size: int | None = None, data_dir: Path | None = None) -> Task:
    """German to English: 160,239 pairs, 6,750 test pairs, fairseq's ``transformer_iwslt_de_en`` (37 million weights).

    6 + 6 layers of width 512, 4 heads, a joint byte-pair vocabulary of 10,000 on plain text, label smoothing 0.1. The
    score is BLEU by sacrebleu on plain text with greedy decoding. It cannot be compared with published numbers on
    lowercased, tokenized text with beam search, which are 1 to 2 points higher. Unlike fairseq, there is no dropout
    (fairseq: 0.3), so both passes of a step see the same function, and the learning rate follows a cosine, as in all
    tasks (fairseq: inverse square root with warm-up).

    Args:
        train_size: Number of training pairs, 100 to all; smaller sets are subsets of larger ones.
        data_dir: Folder with the splits ``train``, ``validation`` and ``test``, with a column ``translation`` of
            ``{"de": ..., "en": ...}``, or with a subfolder ``iwslt14-de-en`` that has them. Default: this subfolder of
            the folder in the environment variable ``LETSAM_DATA``, then the Hugging Face hub.

    Returns:
        The task. A learned radius uses the data set's own validation split.

    Raises:
        TaskError: If the data or a package is missing, or ``train_size`` is out of range.

    Reference:
        M. Cettolo et al., "Report on the 11th IWSLT Evaluation Campaign", IWSLT 2014.
    """
    train_rows, validation_rows, test_rows = load_splits(
        HUB_NAME,
        ("train", "validation", "test"),
        ("translation",),
        folder_name="iwslt14-de-en",
        data_dir=data_dir,
        config="de-en",
    )
    size = check_train_size(train_size, min(100, len(train_rows)), len(train_rows))
    if size < len(train_rows):
        order = torch.randperm(len(train_rows), generator=torch.Generator().manual_seed(SUBSET_SEED))
        train_rows = train_rows.select(order[:size].tolist())
    train, validation, test = (_sentence_pairs(rows) for rows in (train_rows, validation_rows, test_rows))
    return translation_task(
        "iwslt14-de-en",
        "subtitles of talks, German to English",
        train,
        test,
        validation,
        vocabulary=10_000,
        width=512,
        inner_width=1024,
        layers=6,
        max_length=MAX_LENGTH,
        label_smoothing=0.1,
        collate=trimmed,
        optimizer=_iwslt_adam,
        epochs=50,
        batch_size=128,
        evaluations=5,
        evaluation_batch=64,
    )


def _sentence_pairs(rows: Any) -> list[tuple[str, str]]:
    pairs = rows["translation"]
    if not isinstance(pairs[0], dict) or not {"de", "en"} <= pairs[0].keys():
        raise TaskError(f"`translation` must hold {{'de': ..., 'en': ...}}, got {str(pairs[0])[:60]}")
    return [(pair["de"], pair["en"]) for pair in pairs]


def _iwslt_adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=5e-4, betas=(0.9, 0.98), weight_decay=1e-4)
