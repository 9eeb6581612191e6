"""`ding-de-en`: phrases and example sentences of the Ding dictionary, German to English."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from letsam.tasks.errors import TaskError
from letsam.tasks.subset import check_train_size
from letsam.tasks.task import Task
from letsam.tasks.translation import Pairs, first_sentences, translation_task, unpadded

DEBIAN_FILE = Path("/usr/share/trans/de-en")
TEST_SIZE = 500
FEWEST_TRAINING = 100
MIN_WORDS, MAX_WORDS = 3, 6  # of either side; longer sentences cannot be learned in a minute of training
COMMON = 10  # occurrences in the dictionary from which a word is common; few pairs do not suffice to learn rarer words
VOCABULARY = 1000
SPLIT_SEED = 17728  # of the fixed test set and the nested training sets, which must not depend on the seed of a trial
MAX_LENGTH = 24  # tokens
ENTRY, VARIANT = " :: ", " | "
_BRACKETS = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|<[^>]*>")


def ding_de_en(train_size: int | None = None, data_dir: Path | None = None) -> Task:
    """German to English: 4,706 training pairs (at most 32,337), 500 fixed test pairs, a small transformer.

    The pairs are phrases and sentences of the dictionary with 3 to 6 words. Test pairs, and the default training pairs,
    contain only common words, which occur at least 10 times. A larger ``train_size`` adds pairs with rarer words. The
    score is BLEU (sacrebleu, greedy decoding), the loss the cross entropy of the target tokens. No German sentence is
    in both training and test data. There is no dropout, so both passes of a step see the same function.

    Args:
        train_size: Number of training pairs, 100 to all; smaller sets are subsets of larger ones.
        data_dir: Folder with the dictionary's file ``de-en``, or with ``usr/share/trans/de-en`` extracted from the
            Debian package. Default: the folder in the environment variable ``LETSAM_DATA``, then that of the package.

    Returns:
        The task.

    Raises:
        TaskError: If the file or a package is missing, or ``train_size`` is out of range.

    Reference:
        F. Richter, "Ding: a dictionary lookup program", https://www-user.tu-chemnitz.de/~fri/ding/.
    """
    path = find_file(data_dir)
    try:
        with path.open(encoding="utf-8") as file:
            pairs = parse_dictionary(file)
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"cannot read {path}, expected the Ding dictionary: {error}") from error
    common, rare = by_frequency(pairs)
    if len(common) < TEST_SIZE + FEWEST_TRAINING:
        raise TaskError(
            f"{path} must hold at least {TEST_SIZE + FEWEST_TRAINING} pairs of common words, got {len(common)}"
        )
    train, test = split_pairs(common, rare, train_size)
    return translation_task(
        "ding-de-en",
        "phrases and sentences of the Ding dictionary, German to English",
        train,
        test,
        vocabulary=VOCABULARY,
        width=64,
        inner_width=128,
        layers=1,
        max_length=MAX_LENGTH,
        collate=unpadded,
        first_samples=first_sentences,
        optimizer=_ding_adam,
        epochs=12,
        batch_size=64,
        evaluations=1,
        evaluation_batch=100,
    )


def parse_dictionary(lines: Iterable[str]) -> list[tuple[str, str]]:
    """The phrases and sentences of the dictionary with their translations.

    A line is ``German :: English``; both sides have the same number of entries, separated by ``|``. Of alternatives,
    separated by ``;``, the first is used. Notes in brackets are removed. A pair is kept if both sides have at least 3
    words and neither has a ``/``.

    Args:
        lines: Lines of the file ``de-en``.

    Returns:
        Pairs of German and English; each German side occurs once.

    Example:
        >>> parse_dictionary(["Haus {n}; Heim | Wir gehen jetzt nach Hause. [ugs.] :: house | We are going home now."])
        [('Wir gehen jetzt nach Hause.', 'We are going home now.')]
    """
    pairs: dict[str, str] = {}
    for line in lines:
        if line.startswith("#") or ENTRY not in line:
            continue
        german, english = (side.rstrip("\n").split(VARIANT) for side in line.split(ENTRY, 1))
        if len(german) != len(english):
            continue
        for source, target in zip(map(_first_alternative, german), map(_first_alternative, english), strict=True):
            if min(len(source.split()), len(target.split())) >= MIN_WORDS and "/" not in source + target:
                pairs.setdefault(source, target)
    return list(pairs.items())


def by_frequency(pairs: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The pairs of at most 6 words, divided into those with only common words and the others.

    Args:
        pairs: From `parse_dictionary`. Longer pairs are dropped, after their words have been counted.

    Returns:
        Two lists, in the order of ``pairs``.

    Example:
        >>> by_frequency([("so ist es", "so it is")] * 10 + [("so ist Ding", "so is Ding")])[1]
        [('so ist Ding', 'so is Ding')]
    """
    split = [[_words(text) for text in pair] for pair in pairs]
    counts = [Counter(word for pair in split for word in pair[side]) for side in (0, 1)]
    parts: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for pair, words in zip(pairs, split, strict=True):
        if max(len(text.split()) for text in pair) <= MAX_WORDS:
            fewest = min(counts[side][word] for side in (0, 1) for word in words[side])
            parts[fewest < COMMON].append(pair)
    return parts


def find_file(data_dir: Path | None = None) -> Path:
    """The dictionary's file: in ``data_dir`` if given, otherwise in ``LETSAM_DATA`` or from the Debian package.

    Raises:
        TaskError: If the file is not found.
    """
    if data_dir is not None:
        roots = [Path(data_dir)]
    else:
        environment = os.environ.get("LETSAM_DATA")
        roots = [Path(environment)] if environment else []
    candidates = [root / below for root in roots for below in ("de-en", "ding-de-en/de-en", "usr/share/trans/de-en")]
    if data_dir is None:
        candidates.append(DEBIAN_FILE)
        roots.append(DEBIAN_FILE.parent)
    for path in candidates:
        if path.is_file():
            return path
    raise TaskError(
        f"no Ding dictionary (de-en) in {' or '.join(map(str, roots))}; install it with `apt-get install trans-de-en`, "
        "or give a folder with the file"
    )


def _first_alternative(text: str) -> str:
    """The first alternative, without notes in brackets."""
    return " ".join(_BRACKETS.sub(" ", text.split(";")[0]).split())


def split_pairs(
    common: Pairs, rare: Pairs, train_size: int | None
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Shuffle and split into training and test pairs: the same test pairs for all sizes, and nested training sets.

    Args:
        common: Pairs for the test set and the first part of the training set.
        rare: Pairs for the rest of the training set.
        train_size: Number of training pairs; None: all remaining common ones.

    Returns:
        Training pairs and test pairs.

    Raises:
        TaskError: If ``train_size`` is out of range.
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    common, rare = (
        [part[i] for i in torch.randperm(len(part), generator=generator).tolist()] for part in (common, rare)
    )
    train = common[TEST_SIZE:] + rare
    size = len(common) - TEST_SIZE if train_size is None else train_size
    return train[: check_train_size(size, FEWEST_TRAINING, len(train))], common[:TEST_SIZE]


def _words(text: str) -> list[str]:
    """Words and punctuation marks, in lower case."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def _ding_adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=4e-3, betas=(0.9, 0.98))
