"""What a model returns: a tensor, a dict, or a `ModelOutput` of transformers; and how it is called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor


def model_outputs(model: Callable[..., Any], inputs: Any) -> Any:
    """Call a model with a batch of inputs.

    Args:
        model: called as ``model(inputs)``; a model of transformers gets a dict of inputs as keywords.
        inputs: a tensor, dict, tuple or list.

    Returns:
        What the model returns.
    """
    inner = getattr(model, "module", model)  # Lightning Fabric wraps a model
    if isinstance(inputs, Mapping) and hasattr(inner, "main_input_name"):
        return model(**cast("Mapping[str, Any]", inputs))
    return model(inputs)


def logits_of(outputs: Any) -> Any:
    """The logits, or predicted numbers, of what a model has returned.

    Args:
        outputs: a tensor; something with the attribute ``logits``; or a dict with the key ``logits``, or with a single
            tensor. Anything else is returned as it is.

    Example:
        >>> import torch
        >>> logits_of({"logits": torch.ones(2), "hidden": torch.zeros(2)}).tolist()
        [1.0, 1.0]
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        found = cast("Mapping[str, Any]", outputs)
        tensors = [value for value in found.values() if isinstance(value, Tensor)]
        return found["logits"] if "logits" in found else tensors[0] if len(tensors) == 1 else outputs
    return getattr(outputs, "logits", outputs)


def of_outputs(function: Callable[..., Any], outputs: Any, targets: Any) -> Any:
    """Call a loss or metric: those of torch, torchmetrics and letsam get the logits, others what the model returned.

    A function of others that fails on what the model returned, such as one that calls ``cross_entropy``, gets the
    logits as well.

    Example:
        >>> import torch
        >>> of_outputs(torch.nn.functional.l1_loss, {"logits": torch.ones(2)}, torch.zeros(2)).item()
        1.0
    """
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    home = getattr(inner, "__module__", None) or type(inner).__module__
    known = str(home).split(".")[0] in ("torch", "letsam", "torchmetrics")
    logits = logits_of(outputs)
    if known or logits is outputs:
        return function(logits, targets)
    try:
        return function(outputs, targets)
    except Exception as error:
        try:
            return function(logits, targets)
        except Exception:
            raise error from error.__cause__
