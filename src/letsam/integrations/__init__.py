"""Adapters for the loops people use: Lightning, the Hugging Face Trainer, Accelerate. Nothing in letsam imports them.

Each module needs the library it is named after: `pip install "letsam[lightning]"`, `letsam[transformers]`,
`letsam[accelerate]`.
"""

from .batches import EndlessBatches

__all__ = ["EndlessBatches"]
