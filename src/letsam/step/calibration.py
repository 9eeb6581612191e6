"""One-sided calibration: a validation loss that does not reward a network for becoming more confident.

With validation labels that are more certain than the training labels (clean labels next to noisy ones, say), a network
is underconfident on the validation data. Its validation loss then falls when all outputs are scaled up, which a smaller
radius does sooner than a larger one. So every slope asks for a smaller radius, whatever it does to generalization.
Here this part of the gradient is removed where it enters the network, at the outputs. The part that scales the outputs
down stays: overconfidence is evidence for a larger radius.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

# The outputs of a compiled module are those of its wrapper, so it does not matter that hooks see it twice.
warnings.filterwarnings("ignore", message=r"Using `torch.compile\(module\)` when there are global hooks")

FEWEST = 3  # outputs per sample; with fewer, their scale is all that a sample has to say


def without_confidence(cotangent: Tensor, outputs: Tensor) -> Tensor:
    """c_i <- c_i - z_i (c_i . z_i) / (z_i . z_i) where the sum of all c_i . z_i < 0; c unchanged otherwise.

    The sum is the derivative of the loss with respect to a common scale of the outputs. It is negative if scaling them
    up would lower the loss. With fewer than three outputs per sample, the whole batch counts as one vector z.

    Args:
        cotangent: c = d loss / d outputs, of shape (..., outputs of a sample).
        outputs: z, in the same shape.

    Returns:
        The changed c, in its dtype.

    Example:
        >>> z = torch.tensor([[2.0, 0.0, 0.0]])
        >>> without_confidence(torch.tensor([[-0.5, 0.4, 0.1]]), z)  # the loss asks for a larger first output
        tensor([[0.0000, 0.4000, 0.1000]])
        >>> without_confidence(torch.tensor([[0.5, -0.4, -0.1]]), z)
        tensor([[ 0.5000, -0.4000, -0.1000]])

    Reference:
        Guo et al., arXiv:1706.04599, for calibration by the scale of the outputs.
    """
    wide = torch.promote_types(cotangent.dtype, torch.float32)
    c, z = cotangent.detach().to(wide), outputs.detach().to(wide)
    if c.ndim == 0 or c.shape[-1] < FEWEST:
        product, square = (c * z).sum(), (z * z).sum()
    else:
        product, square = (c * z).sum(-1, keepdim=True), (z * z).sum(-1, keepdim=True)
    share = torch.where(square > 0, product / square, 0.0)
    return torch.where(product.sum() < 0, c - share * z, c).to(cotangent.dtype)


class OneSidedCalibration:
    """A context for a pass: `without_confidence` is applied to the gradient that reaches the network's outputs.

    The outputs are those of the last module with parameters that is called by the closure itself, not by another
    module: usually the network. Of a mapping they are the entry `logits`, of anything else the first tensor with a
    gradient that is not a scalar. The value of the loss stays as it is.

    Attributes:
        found: whether there were outputs in the last pass.
    """

    def __init__(self) -> None:
        self._depth, self._thread = 0, threading.get_ident()
        self._last: nn.Module | None = None
        self.found = False

    def __enter__(self) -> OneSidedCalibration:
        self._depth, self._last, self.found = 0, None, False
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
                self._last, self.found = module, True
                kept = outputs.detach()

                def calibrated(cotangent: Tensor) -> Tensor:
                    return without_confidence(cotangent, kept) if module is self._last else cotangent

                outputs.register_hook(calibrated)  # pyright: ignore[reportUnknownMemberType]


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
