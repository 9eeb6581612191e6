"""Tables with a column of texts: tokenized, and tokenized in the same way for new files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from letsam.data.data_options import DataOptions
from letsam.data.divided import read_divided
from letsam.data.known_form import KnownForm
from letsam.data.loaded import LoadedData
from letsam.data.preparation import Preparation
from letsam.data.problems import DataError
from letsam.data.reading import name_of
from letsam.data.table_files import Column, Frame, import_pandas, read_frame
from letsam.models import pretrained_tokens
from letsam.tasks.text import PAD, SPECIAL, UNK, load_package

VOCABULARY = 8000  # entries at most
LONGEST = 256  # tokens; longer texts are cut
LONG_TEXTS = 0.99  # of the training texts are not cut, if they are not longer than that
TOKENIZER = "tokenizer.json"

Tokens = dict[str, Tensor]


class TextRows(Dataset[Any]):
    """Tokenized texts, each with its own length.

    Args:
        ids: the tokens of each text, int32, at least one.
        targets: one for each text; None: the items are inputs alone.
    """

    def __init__(self, ids: list[Tensor], targets: Tensor | None = None) -> None:
        self.ids = ids
        if targets is not None:
            self.targets = targets

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What identifies the samples: all tokens one after another, and the targets."""
        return torch.cat(self.ids), *([self.targets] if hasattr(self, "targets") else [])

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        """The tokens of one text, and its target if there are targets."""
        ids = self.ids[index].long()
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        targets = getattr(self, "targets", None)
        return inputs if targets is None else (inputs, targets[index])


class PaddedTexts:
    """Collates texts, padded on the right to the longest of the batch.

    Args:
        pad_id: the number of the padding token.

    Example:
        >>> rows = TextRows([torch.tensor([5]), torch.tensor([6, 7])])
        >>> PaddedTexts(pad_id=0)([rows[0], rows[1]])["input_ids"].tolist()
        [[5, 0], [6, 7]]
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, samples: list[Any]) -> Any:
        """A batch of inputs, or of inputs and targets."""
        if isinstance(samples[0], dict):
            return self._padded(samples)
        return self._padded([inputs for inputs, _ in samples]), default_collate([target for _, target in samples])

    def _padded(self, inputs: list[Tokens]) -> Tokens:
        fill = {"input_ids": self.pad_id, "attention_mask": 0}
        return {
            name: nn.utils.rnn.pad_sequence([one[name] for one in inputs], batch_first=True, padding_value=value)
            for name, value in fill.items()
        }


class TextPreparation(Preparation):
    """Makes tokens of a column of texts.

    Args:
        tokenizer: of the library `tokenizers`, without truncation and padding of its own.
        column: with the texts.
        max_length: the most tokens of a text; the rest is cut off.
        pad_id: the number of the padding token.
        missing: texts of cells that mean that a value is missing.
    """

    modality = "text"

    def __init__(
        self, tokenizer: Any, column: str, max_length: int, pad_id: int, missing: tuple[str, ...] = ()
    ) -> None:
        self.tokenizer, self.column, self.max_length = tokenizer, column, max_length
        self.pad_id, self.missing = pad_id, missing
        self.collate = PaddedTexts(pad_id)

    def tokens(self, texts: list[str]) -> list[Tensor]:
        """The tokens of each text; a text without any has one of padding, as a model needs at least one."""
        self.tokenizer.enable_truncation(self.max_length)
        return _tokens(self.tokenizer, texts, self.pad_id)

    def read(self, path: str) -> Dataset[Any]:
        """The tokens of the texts of a file."""
        frame = read_frame(path, self.missing)
        if self.column not in frame.columns:
            raise DataError(
                f"{path}: expected the column of texts {self.column!r} of the training data, but it has none"
            )
        return TextRows(self.tokens(texts_in(frame, self.column)))

    def values(self) -> dict[str, Any]:
        """What the tokenizer's own file does not hold."""
        return {
            "column": self.column,
            "max_length": self.max_length,
            "pad_id": self.pad_id,
            "missing": list(self.missing),
        }

    def save_files(self, folder: Path) -> None:
        """Write the tokenizer's own file."""
        self.tokenizer.no_truncation()
        (folder / TOKENIZER).write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")

    @classmethod
    def restored(cls, values: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> TextPreparation:
        """The preparation with these values, and the tokenizer in the folder."""
        library = load_package("tokenizers", "texts", extra="trial")
        tokenizer = library.Tokenizer.from_str((folder / TOKENIZER).read_text(encoding="utf-8"))
        return cls(tokenizer, values["column"], values["max_length"], values["pad_id"], tuple(values["missing"]))


def read_texts(options: DataOptions, known: KnownForm | None = None) -> LoadedData:
    """Read a table with a column of texts. Its other columns are no inputs.

    Raises:
        DataError: the data cannot be used; one line.
    """
    assert options.text is not None, "the reader of tables is for data without texts"
    fitted = None if known is None else known.prepared_by(TextPreparation, options.path)
    table = read_divided(options, known)
    for frame, path in ((table.train, options.path), (table.test, options.test or options.path)):
        _check_texts(frame[options.text], path)
    texts, test_texts = (texts_in(frame, options.text) for frame in (table.train, table.test))
    preparation, ids = _fitted(texts, options) if fitted is None else (fitted, fitted.tokens(texts))
    preparation.classes = table.plan.classes
    test_ids = preparation.tokens(test_texts)
    empty = sum(not text.strip() for text in (*texts, *test_texts))
    rows = [("texts", f"{options.text}: {_lengths(ids)} tokens, cut after {preparation.max_length}")]
    source = _source(options) if fitted is None else "those of the model"
    rows.append(("vocabulary", f"{preparation.tokenizer.get_vocab_size():,} tokens, {source}"))
    rows += [("texts without a word", f"{empty:,}")] if empty else []
    others = [str(name) for name in table.train.columns if name != options.text]
    rows += [("columns left out", ", ".join(others[:10]) + (", ..." if len(others) > 10 else ""))] if others else []
    return table.loaded(
        TextRows(ids, table.targets),
        TextRows(test_ids, table.test_targets),
        name=name_of(options.path),
        modality="text",
        preparation=preparation,
        input_shape=(preparation.max_length,),
        vocabulary=preparation.tokenizer.get_vocab_size(),
        pad_id=preparation.pad_id,
        collate=preparation.collate,
        inferred=rows,
    )


def texts_in(frame: Frame, column: str) -> list[str]:
    """The texts of a column; a missing one is empty."""
    absent = frame[column].isna()
    return ["" if missing else str(text) for text, missing in zip(frame[column], absent, strict=True)]


def _check_texts(column: Column, path: str) -> None:
    present = column.dropna()
    if not len(present):
        raise DataError(f"{path}: `text` must name a column of texts, got {column.name!r} without any")
    pandas = import_pandas()
    if pandas.to_numeric(present.astype(str), errors="coerce").notna().all():
        raise DataError(
            f"{path}: `text` must name a column of texts, got numbers such as {present.iloc[0]} in {column.name!r}; "
            "without --text it is an input of a table"
        )


def _tokens(tokenizer: Any, texts: list[str], pad_id: int) -> list[Tensor]:
    return [torch.tensor(row.ids or [pad_id], dtype=torch.int32) for row in tokenizer.encode_batch(texts)]


def _fitted(texts: list[str], options: DataOptions) -> tuple[TextPreparation, list[Tensor]]:
    """The preparation with the tokenizer of the pretrained model, or one trained on the texts; and their tokens."""
    assert options.text is not None
    if options.pretrained is not None:
        found = pretrained_tokens(options.pretrained)
        preparation = TextPreparation(found.tokenizer, options.text, found.max_length, found.pad_id, options.missing)
        return preparation, preparation.tokens(texts)
    tokenizer = subword_tokenizer(texts)
    ids = _tokens(tokenizer, texts, PAD)
    lengths = sorted(len(row) for row in ids)
    longest = min(max(8, lengths[int(LONG_TEXTS * (len(lengths) - 1))]), LONGEST)
    # Cut as `tokens` cuts them: this tokenizer adds no special tokens.
    return TextPreparation(tokenizer, options.text, longest, PAD, options.missing), [row[:longest] for row in ids]


def subword_tokenizer(texts: list[str]) -> Any:
    """A byte-pair tokenizer in lower case, trained on the training texts alone.

    Raises:
        TaskError: the package `tokenizers` is missing.

    Reference:
        R. Sennrich, B. Haddow and A. Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016.
    """
    library = load_package("tokenizers", "texts", extra="trial")
    tokenizer = library.Tokenizer(library.models.BPE(unk_token=SPECIAL[UNK]))
    tokenizer.normalizer = library.normalizers.Sequence([library.normalizers.NFKC(), library.normalizers.Lowercase()])
    tokenizer.pre_tokenizer = library.pre_tokenizers.Whitespace()
    trainer = library.trainers.BpeTrainer(
        vocab_size=VOCABULARY, min_frequency=2, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _lengths(ids: list[Tensor]) -> str:
    lengths = torch.tensor([len(row) for row in ids]).double()
    return f"{int(lengths.min())} to {int(lengths.max())}, mean {float(lengths.mean()):.0f}"


def _source(options: DataOptions) -> str:
    return f"that of {options.pretrained}" if options.pretrained else "made of the training texts"
