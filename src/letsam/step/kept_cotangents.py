"""Functional SAM: perturbed passes use the gradient at the outputs that the pass at the weights had."""

from __future__ import annotations

from torch import Tensor

from .output_gradients import OutputGradients


class KeptCotangents:
    """Keeps d loss / d outputs of the pass at the weights, and puts it in place of that of later passes.

    Both `keeping` and `reusing` are contexts for a pass.
    """

    def __init__(self) -> None:
        self.kept: dict[int, Tensor] = {}
        self.keeping, self.reusing = _Keeping(self), _Reusing(self)

    def clear(self) -> None:
        """Forget them, at the end of a step."""
        self.kept = {}


class _Keeping(OutputGradients):
    def __init__(self, owner: KeptCotangents) -> None:
        super().__init__()
        self._owner = owner

    def __enter__(self) -> OutputGradients:
        self._owner.clear()
        return super().__enter__()

    def changed(self, cotangent: Tensor, outputs: Tensor, call: int) -> Tensor:
        self._owner.kept[call] = cotangent.detach()
        return cotangent


class _Reusing(OutputGradients):
    def __init__(self, owner: KeptCotangents) -> None:
        super().__init__()
        self._owner = owner

    def changed(self, cotangent: Tensor, outputs: Tensor, call: int) -> Tensor:
        kept = self._owner.kept.get(call)
        if kept is None or kept.shape != cotangent.shape:
            had = "none" if kept is None else f"shape {tuple(kept.shape)}"
            raise ValueError(
                "`closure` must have the same outputs of the network in all passes for FunctionalSAM, got shape "
                f"{tuple(cotangent.shape)} where the first pass had {had}"
            )
        return kept
