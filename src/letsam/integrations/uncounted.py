"""Passes that leave no trace in a trainer: its counters, sums and lists of metrics are put back, and `log` is muted.

A step runs each batch two or three times, and validation batches besides. A trainer that counts tokens or collects
metrics while it computes a loss, as those of TRL and Sentence Transformers do, would count them all.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..step.plain_values import ContainerCopy, is_plain, parts_of_value

LARGEST = 1000  # entries of a tensor that is a metric, or a sum of metrics


@contextmanager
def uncounted(trainer: object, kept: Collection[str] = ()) -> Generator[None]:
    """A context after which the plain attributes of a trainer are as before, and in which its `log` does nothing.

    Plain attributes are numbers, strings, tensors, and containers of these.

    Args:
        trainer: any object.
        kept: names of attributes that are left alone: data sets, which take long to look through.

    Yields:
        Nothing.

    Example:
        >>> class Trainer:
        ...     tokens, losses = 0, {"train": [1.0]}
        >>> trainer = Trainer()
        >>> trainer.tokens, trainer.losses = 5, {"train": [1.0]}
        >>> with uncounted(trainer):
        ...     trainer.tokens += 7
        ...     trainer.losses["train"].append(2.0)
        >>> trainer.tokens, trainer.losses
        (5, {'train': [1.0]})
    """
    attributes = vars(trainer)
    before = {name: value for name, value in attributes.items() if name not in kept and is_plain(value)}
    parts: list[Any] = [part for name, value in before.items() for _, part in parts_of_value(value, (name,))]
    parts += [value for value in before.values() if isinstance(value, Tensor)]
    tensors = [(t, t.detach().clone()) for t in parts if isinstance(t, Tensor) and t.numel() <= LARGEST]
    containers = [ContainerCopy(part) for part in parts if not isinstance(part, Tensor)]
    own_log = {"log": attributes["log"]} if "log" in attributes else {}
    attributes["log"] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        del attributes["log"]
        attributes.update(before | own_log)
        for container in containers:
            container.put_back()
        with torch.no_grad():
            for tensor, value in tensors:
                tensor.copy_(value)
