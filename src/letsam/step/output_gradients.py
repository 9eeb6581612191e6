"""The gradient of the loss at the outputs of the network, seen and changed where it enters the network in a pass."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

# The outputs of a compiled module are those of its wrapper, so it does not matter that hooks see it twice.
warnings.filterwarnings("ignore", message=r"Using `torch.compile\(module\)` when there are global hooks")


class OutputGradients:
    """A context for a pass: `changed` gets the gradient that reaches the outputs, and returns the one that goes on.

    The outputs are those of the last module with parameters that is called by the closure itself, not by another
    module: usually the network. Of a mapping they are the entry `logits`, of anything else the first tensor with a
    gradient that is not a scalar. The value of the loss stays as it is.

    Attributes:
        found: whether there were outputs in the last pass.
        calls: how often there were, for example once for each micro-batch.
    """

    def __init__(self) -> None:
        self._depth, self._thread = 0, threading.get_ident()
        self._last: nn.Module | None = None
        self.found, self.calls = False, 0

    def changed(self, cotangent: Tensor, outputs: Tensor, call: int) -> Tensor:
        """The gradient that goes on into the network.

        Args:
            cotangent: d loss / d outputs.
            outputs: of the network, detached.
            call: the number of the call in this pass, from 0.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._depth, self._last, self.found, self.calls = 0, None, False, 0
        self._handles = [
            register_module_forward_pre_hook(self._entered),
            register_module_forward_hook(self._left, always_call=True),
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _ignored(self) -> bool:
        """Whether the hooks are called from elsewhere: another thread, a compiler's trace, a recomputed forward."""
        if torch.compiler.is_compiling():
            return True
        return threading.get_ident() != self._thread or torch._C._current_graph_task_id() != -1  # pyright: ignore[reportPrivateUsage]

    def _entered(self, module: nn.Module, inputs: Any) -> None:
        if not self._ignored():
            self._depth += 1

    def _left(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._ignored():
            return
        self._depth -= 1
        if self._depth == 0 and next(module.parameters(), None) is not None:
            outputs = _outputs(output)
            if outputs is not None:
                self.calls = self.calls + 1 if module is self._last else 1
                self._last, self.found = module, True
                kept, call = outputs.detach(), self.calls - 1

                def hook(cotangent: Tensor) -> Tensor:
                    return self.changed(cotangent, kept, call) if module is self._last else cotangent

                outputs.register_hook(hook)  # pyright: ignore[reportUnknownMemberType]


def _outputs(value: object) -> Tensor | None:
    """The outputs in what a network returns; None if there are none with a gradient."""
    if isinstance(value, Tensor):
        return value if value.requires_grad and value.ndim > 0 and value.is_floating_point() else None
    parts: list[object]
    if isinstance(value, Mapping):
        entries = cast("Mapping[object, object]", value)
        parts = [entries["logits"]] if "logits" in entries else list(entries.values())
    elif isinstance(value, list | tuple):
        parts = list(cast("Sequence[object]", value))
    else:
        parts = list(vars(value).values()) if hasattr(value, "__dict__") else []
    return next((found for part in parts if (found := _outputs(part)) is not None), None)
