"""Imports are taken out of garbage collections; last among the modules that the fork server of `warm` imports.

Each full collection looks at every object that torch, Lightning and transformers have made at import. Without this,
collections take a fifth of the processor time of the tests.
"""

import gc


def freeze() -> None:
    """Take all that is there now out of garbage collections."""
    gc.collect()
    gc.freeze()


freeze()
