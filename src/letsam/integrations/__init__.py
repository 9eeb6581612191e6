"""Adapters for Lightning, the Hugging Face Trainer and Accelerate. Nothing else in letsam imports them.

Each module needs the library that it is named after: `pip install "letsam[lightning]"`, `"letsam[transformers]"` or
`"letsam[accelerate]"`.
"""

from ..closures.batches import EndlessBatches

__all__ = ["EndlessBatches"]
