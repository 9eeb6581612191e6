"""Tiny pretrained models, as `save_pretrained` of transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path


def tiny_bert(folder: Path) -> Path:
    """A text model with a tokenizer."""
    import tokenizers
    import transformers

    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a"])}
    words |= {f"w{i}": 8 + i for i in range(32)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=12, **special)
    fast.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def tiny_vit(folder: Path) -> Path:
    """An image model with the settings of its image processor."""
    import transformers

    config = transformers.ViTConfig(
        image_size=16,
        patch_size=8,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=5,
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    values = {"size": {"height": 16, "width": 16}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor", **values})
    )
    return folder
