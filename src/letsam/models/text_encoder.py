"""A small transformer encoder for texts, in plain torch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class TextEncoder(nn.Module):
    """Token and position embeddings, a transformer encoder, and a linear layer on the mean over the tokens.

    Args:
        vocabulary: number of tokens.
        outputs: numbers in an output, >= 1.
        max_length: the most tokens in a text.
        width: embedding dimension, a multiple of `heads`.
        depth: number of layers.
        heads: number of attention heads.
        dropout: at least 0 and below 1.

    Example:
        >>> network = TextEncoder(10, 2, max_length=4, width=8, heads=2)
        >>> ids, mask = torch.tensor([[3, 4, 0]]), torch.tensor([[1, 1, 0]])
        >>> network({"input_ids": ids, "attention_mask": mask}).shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        vocabulary: int,
        outputs: int,
        *,
        max_length: int,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(max_length, width)
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=width**-0.5)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        # Without nested tensors, outputs have the same shape in training and in evaluation.
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """``input_ids`` and ``attention_mask``, shape ``(batch, length)``, to ``(batch, outputs)``."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        states = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        # A text without tokens would attend to nothing, which gives NaN: it attends to its first padding token.
        padding = mask == 0
        padding[:, 0] = False
        states = self.encoder(self.dropout(states), src_key_padding_mask=padding)
        weights = (~padding).to(states.dtype).unsqueeze(-1)
        return self.head((states * weights).sum(dim=1) / weights.sum(dim=1))
