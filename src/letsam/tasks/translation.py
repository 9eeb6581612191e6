"""Shared by the translation tasks: a joint vocabulary, an encoder-decoder transformer, the token loss, and BLEU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from letsam.tasks.task import Task
from letsam.tasks.text import (
    BOS,
    EOS,
    IGNORED,
    PAD,
    SPECIAL,
    UNK,
    Network,
    TokenRows,
    batches_of,
    encode,
    load_package,
    trimmed,
)

if TYPE_CHECKING:
    import tokenizers

Pairs = Sequence[tuple[str, str]]
"""Source and target sentences."""


def translation_task(
    name: str,
    description: str,
    train: Pairs,
    test: Pairs,
    validation: Pairs | None = None,
    *,
    vocabulary: int,
    width: int,
    inner_width: int,
    layers: int,
    max_length: int,
    label_smoothing: float = 0.0,
    **training: Any,
) -> Task:
    """A translation task: a vocabulary of the training pairs, a transformer without dropout, BLEU on the test pairs.

    Args:
        name: Name of the task.
        description: Description of the data.
        train: Training pairs.
        test: Test pairs.
        validation: Validation pairs for a learned radius; None: a part of the training pairs is held out.
        vocabulary: Maximum number of entries of the vocabulary.
        width: Embedding dimension; the model has 4 heads.
        inner_width: Width of the feed-forward layers.
        layers: Number of layers of the encoder, and of the decoder.
        max_length: Maximum number of tokens of a sentence.
        label_smoothing: Label smoothing of the loss, 0 to below 1.
        **training: ``collate``, ``optimizer`` and the other training defaults of a `Task`.

    Returns:
        The task.

    Raises:
        TaskError: If a package is missing.
    """
    tokenizer = joint_vocabulary(name, train, size=vocabulary)
    return Task(
        name=name,
        description=description,
        model=transformer(
            name,
            vocab_size=tokenizer.get_vocab_size(),
            width=width,
            inner_width=inner_width,
            layers=layers,
            heads=4,
            max_length=max_length,
            dropout=0.0,
        ),
        train=token_rows(tokenizer, train, max_length),
        validation=None if validation is None else token_rows(tokenizer, validation, max_length),
        test=token_rows(tokenizer, test, max_length),
        loss=token_loss(label_smoothing),
        metric=token_accuracy,
        score=bleu_score(name, tokenizer, [target for _, target in test], max_length),
        metric_name="BLEU",
        **training,
    )


def joint_vocabulary(task: str, pairs: Pairs, size: int) -> tokenizers.Tokenizer:
    """One byte-pair vocabulary for both languages.

    Args:
        task: Name of the task, for the error message.
        pairs: Training pairs only.
        size: Maximum number of entries, including the four special ones.

    Returns:
        A tokenizer of the library `tokenizers`, which decodes to plain text.

    Raises:
        TaskError: If `tokenizers` is missing.

    Reference:
        R. Sennrich, B. Haddow and A. Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016.
    """
    library = load_package("tokenizers", task)
    splitters = library.pre_tokenizers
    tokenizer = library.Tokenizer(library.models.BPE(unk_token=SPECIAL[UNK]))
    tokenizer.pre_tokenizer = splitters.Sequence([splitters.Metaspace(), splitters.Punctuation()])
    tokenizer.decoder = library.decoders.Metaspace()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator([text for pair in pairs for text in pair], trainer)
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single=f"$A {SPECIAL[EOS]}", special_tokens=[(SPECIAL[EOS], EOS)]
    )
    return tokenizer


def token_rows(tokenizer: tokenizers.Tokenizer, pairs: Pairs, max_length: int) -> TokenRows:
    """Pairs as samples for teacher forcing: the decoder input is the target shifted right by one token.

    Args:
        tokenizer: From `joint_vocabulary`.
        pairs: Source and target sentences.
        max_length: Maximum number of tokens, including the end token; longer sentences are truncated.

    Returns:
        Inputs ``input_ids``, ``attention_mask`` and ``decoder_input_ids``, and the target tokens.
    """
    inputs = encode(tokenizer, [source for source, _ in pairs], max_length)
    wanted = encode(tokenizer, [target for _, target in pairs], max_length)
    ids = wanted["input_ids"]
    inputs["decoder_input_ids"] = torch.cat([torch.full_like(ids[:, :1], BOS), ids[:, :-1]], dim=1)
    return TokenRows(inputs, ids.masked_fill(wanted["attention_mask"] == 0, IGNORED))


def unpadded(samples: list[Any]) -> tuple[dict[str, Tensor], Tensor]:
    """Collate samples, and flatten the targets without their padding.

    Most of the time of a small model is spent on the logits, and up to half of the tokens of a batch are padding.

    Args:
        samples: Items of `token_rows`.

    Returns:
        Inputs, with the indices of the remaining tokens in the flattened targets as ``decoder_places``, and the
        targets, shape ``(tokens,)``.

    Example:
        >>> inputs = {
        ...     "input_ids": torch.tensor([[5], [6]]),
        ...     "attention_mask": torch.ones(2, 1),
        ...     "decoder_input_ids": torch.tensor([[2, 0, 0], [2, 8, 0]]),
        ... }
        >>> rows = TokenRows(inputs, torch.tensor([[7, IGNORED, IGNORED], [8, 9, IGNORED]]))
        >>> batch, targets = unpadded([rows[0], rows[1]])
        >>> batch["decoder_places"].tolist(), targets.tolist()
        ([0, 2, 3], [7, 8, 9])
    """
    inputs, targets = trimmed(samples)
    places = (targets.flatten() != IGNORED).nonzero().squeeze(dim=1)
    return {**inputs, "decoder_places": places}, targets.flatten()[places]


def first_sentences(inputs: dict[str, Tensor], targets: Tensor, count: int) -> tuple[dict[str, Tensor], Tensor]:
    """The first sentences of a batch that `unpadded` has made.

    Args:
        inputs: those of the batch.
        targets: those of the batch, shape ``(tokens,)``.
        count: how many sentences.

    Returns:
        Inputs and targets of these sentences.

    Example:
        >>> inputs = {"decoder_input_ids": torch.zeros(2, 3), "decoder_places": torch.tensor([0, 3, 4])}
        >>> part, targets = first_sentences(inputs, torch.tensor([7, 8, 9]), 1)
        >>> part["decoder_places"].tolist(), targets.tolist()
        ([0], [7])
    """
    places = inputs["decoder_places"]
    tokens = int((places < count * inputs["decoder_input_ids"].shape[1]).sum())
    rows = {name: value[:count] for name, value in inputs.items() if name != "decoder_places"}
    return {**rows, "decoder_places": places[:tokens]}, targets[:tokens]


class Translator(Network):
    """A Marian model that can compute the logits of a subset of the tokens.

    Args:
        model: A ``MarianMTModel``.
    """

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Logits: ``(tokens, vocabulary)`` of batches made by `unpadded`, else ``(batch, length, vocabulary)``."""
        named = dict(inputs)
        places = named.pop("decoder_places", None)
        hidden = self.model.model(**named).last_hidden_state  # pyright: ignore[reportCallIssue]
        return self.model.lm_head(hidden if places is None else hidden.flatten(0, 1)[places])  # pyright: ignore[reportCallIssue]


def transformer(
    task: str,
    *,
    vocab_size: int,
    width: int,
    inner_width: int,
    layers: int,
    heads: int,
    max_length: int,
    dropout: float,
) -> Callable[[], nn.Module]:
    """A function that makes Marian models: the transformer of Vaswani et al. with all embeddings shared.

    Args:
        task: Name of the task, for the error message.
        vocab_size: Number of entries of the joint vocabulary.
        width: Embedding dimension.
        inner_width: Width of the feed-forward layers.
        layers: Number of layers of the encoder, and of the decoder.
        heads: Number of attention heads.
        max_length: Maximum number of tokens of a sentence.
        dropout: Dropout probability, 0 to below 1.

    Returns:
        A function that makes a model, initialized with torch's global random numbers.

    Raises:
        TaskError: If `transformers` is missing.

    Reference:
        A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017.
    """
    transformers = load_package("transformers", task)

    def build() -> nn.Module:
        config = transformers.MarianConfig(
            vocab_size=vocab_size,
            d_model=width,
            encoder_layers=layers,
            decoder_layers=layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=inner_width,
            decoder_ffn_dim=inner_width,
            max_position_embeddings=max_length + 1,
            activation_function="relu",
            dropout=dropout,
            attention_dropout=0.0,
            activation_dropout=0.0,
            init_std=width**-0.5,
            scale_embedding=True,
            use_cache=False,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
            decoder_start_token_id=BOS,
            forced_eos_token_id=None,
            attn_implementation="eager",  # fused attention has no second derivative, which `letsam.sharpness` needs
        )
        return Translator(transformers.MarianMTModel(config))

    return build


def token_loss(label_smoothing: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross entropy, averaged over the target tokens of a batch.

    Args:
        label_smoothing: Probability mass that is spread over all tokens, 0 to below 1.

    Returns:
        A function of logits ``(batch, length, vocabulary)`` and targets ``(batch, length)``, or for batches made by
        `unpadded`, ``(tokens, vocabulary)`` and ``(tokens,)``.
    """

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(
            outputs.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, label_smoothing=label_smoothing
        )

    return loss


def token_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Fraction of target tokens that have the highest probability, given all preceding target tokens.

    Args:
        outputs: Logits, shape ``(batch, length, vocabulary)``.
        targets: Tokens, shape ``(batch, length)``, `IGNORED` for padding.

    Returns:
        A scalar tensor in [0, 1].

    Example:
        >>> token_accuracy(torch.eye(3).unsqueeze(0), torch.tensor([[0, 2, IGNORED]])).item()
        0.5
    """
    counted = targets != IGNORED
    return (outputs.argmax(dim=-1) == targets)[counted].float().mean()


def translate(
    model: nn.Module, tokenizer: tokenizers.Tokenizer, dataset: Dataset[Any], *, max_length: int, batch_size: int = 100
) -> list[str]:
    """Translate the source sentences of a data set by greedy decoding.

    Args:
        model: Made by `transformer`, in evaluation mode.
        tokenizer: The model's vocabulary.
        dataset: `TokenRows` made by `token_rows`.
        max_length: Maximum number of tokens of a translation.
        batch_size: Number of sentences per batch.

    Returns:
        One line of text for each sample.
    """
    device = next(model.parameters()).device
    lines: list[str] = []
    for inputs, _ in batches_of(dataset, batch_size):
        ids = model.model.generate(  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
            input_ids=inputs["input_ids"].to(device),
            attention_mask=inputs["attention_mask"].to(device),
            max_new_tokens=max_length,
            num_beams=1,
            do_sample=False,
            use_cache=True,
        )
        lines += tokenizer.decode_batch(ids.tolist())
    return lines


def bleu_score(
    task: str, tokenizer: tokenizers.Tokenizer, references: Sequence[str], max_length: int
) -> Callable[[nn.Module, Dataset[Any]], float]:
    """A function for `Task.score`: corpus BLEU of greedy translations by sacrebleu, from 0 to 1.

    Args:
        task: Name of the task, for the error message.
        tokenizer: The model's vocabulary.
        references: The reference translations of the test set, in order, as plain text.
        max_length: Maximum number of tokens of a translation.

    Returns:
        A function of a model and the test set.

    Raises:
        TaskError: If `sacrebleu` is missing.

    Reference:
        M. Post, "A Call for Clarity in Reporting BLEU Scores", WMT 2018.
    """
    sacrebleu = load_package("sacrebleu", task)

    def score(model: nn.Module, dataset: Dataset[Any]) -> float:
        lines = translate(model, tokenizer, dataset, max_length=max_length)
        return sacrebleu.corpus_bleu(lines, [list(references)]).score / 100

    return score
