"""How many more of the training labels are wrong than of the validation labels, estimated from losses of a run."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import checks

NAMES = ("sums", "gain", "share")
FIRST = 50  # the share is told at this step at the earliest: before, a network knows too little
LAST = 2000  # and before this one, or not at all
ERROR = 0.05  # highest standard error of the share
LOWEST, HIGHEST = 0.1, 0.95  # a share below the lowest, which is two standard errors, counts as 0


class ExcessNoise:
    """s = sum(d' n) / sum(d' d), n = L_tr - L_vl, d = L_vl with random labels - L_vl; d' is d of the update before.

    A cross-entropy is linear in the labels. If a share s of the training labels is wrong, drawn at random, and those of
    the validation data are right, then L_tr = (1 - s) L_vl + s L_random before the network memorizes its training data,
    so n = s d. If labels are wrong on both sides, s is the share by which training exceeds validation. The sums are
    over the updates so far. n and d share the sampling error of L_vl, so least squares would find a share where there
    is none, as long as the network knows little. d' is from another batch (it is an instrumental variable). The squared
    standard error of s is sum((d' (n - s d))^2) / sum(d' d)^2, which allows errors that grow with d.

    The share is told once, at the first update from step 50 on at which its standard error is at most 0.05; a share
    below 0.1 counts as 0, also a negative one, which may come from memorization. A run that does not reach that error
    in its first 2,000 steps, and a loss that is no cross-entropy of classes, have no share.

    Example:
        >>> noise = ExcessNoise()
        >>> gain, usable = torch.tensor(2.0), torch.tensor(True)
        >>> for step in range(60):  # L_tr = 1.3, L_vl = 0.5, and 2.5 with random labels
        ...     noise.observe(step, torch.tensor(1.3), torch.tensor(0.5), gain, usable)
        ...     noise.commit(torch.tensor(True))
        >>> noise.share
        tensor(0.4000, dtype=torch.float64)

    Reference:
        Measured in docs/how-to/radii.md; it is not in arXiv:2408.08222.
    """

    def __init__(self) -> None:
        self.start(torch.ones((), dtype=torch.float64))

    def start(self, rho: Tensor) -> None:
        """Start anew: for one run, or for as many as rho has values."""
        zero = torch.zeros_like(rho)
        self._sums = zero.new_zeros(5, *rho.shape)  # of d' n, d' d, their squares and their product
        self._gain = zero  # d of the last update that counts
        self._share = torch.full_like(zero, math.nan)  # NaN: not told yet
        self._constants()

    def _constants(self) -> None:
        self._zero = torch.zeros_like(self._share)
        self._proposed: tuple[Tensor, ...] | None = None
        self._told: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the state to the device and dtype of the weights."""
        self._sums, self._gain = self._sums.to(device, dtype), self._gain.to(device, dtype)
        self._share = self._share.to(device, dtype)
        self._constants()

    def observe(
        self, step: int, training_loss: Tensor, validation_loss: Tensor, gain: Tensor | None, usable: Tensor
    ) -> None:
        """See the losses of an update; `commit` decides whether they count.

        Args:
            step: of the optimizer, from 0.
            training_loss: at the weights of this update (0-dim, or one value per run).
            validation_loss: at the same weights.
            gain: validation loss with random labels minus validation loss; None: the outputs are not known.
            usable: whether the losses are finite (0-dim bool).
        """
        if gain is None or step >= LAST:
            return
        gain = gain.to(self._gain)
        both = torch.stack([(training_loss - validation_loss).to(gain), gain]) * self._gain
        seen = torch.cat([both, both.square(), both.prod(dim=0, keepdim=True)])
        sums = torch.where(usable, self._sums + seen, self._sums)
        share = self._share
        if step >= FIRST:
            gaps, gains, gap_squares, gain_squares, products = sums.unbind()
            found = gaps / gains
            squares = gap_squares.addcmul(found, (found * gain_squares).sub(products, alpha=2))
            certain = squares <= (ERROR * gains).square()  # False while there is no gain
            told = torch.where(found >= LOWEST, found.clamp(max=HIGHEST), self._zero)
            share = torch.where(share.isnan() & certain & (gains > 0), told, share)
        self._proposed = sums, torch.where(usable, gain, self._gain), share

    @property
    def share(self) -> Tensor:
        """s; NaN: not told (0-dim, or one value per run)."""
        return self._share

    @property
    def known(self) -> Tensor:
        """s; 0 where it is not told."""
        if self._told is None:
            self._told = self._share.nan_to_num(nan=0.0)
        return self._told

    def commit(self, finite: Tensor) -> None:
        """Keep what this step has seen if `finite` (0-dim bool)."""
        if self._proposed is not None:
            sums, gain, share = self._proposed
            self._sums = torch.where(finite, sums, self._sums)
            self._gain, self._share = torch.where(finite, gain, self._gain), torch.where(finite, share, self._share)
            self._told = None
        self._proposed = None

    def discard(self) -> None:
        """Drop what this step has seen."""
        self._proposed = None

    def state_dict(self) -> dict[str, Tensor]:
        """What it has seen; tensors are copies."""
        values = self._sums, self._gain, self._share
        return {f"label_noise_{name}": value.clone() for name, value in zip(NAMES, values, strict=True)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; in the state of an older letsam, the share, but not its sums."""
        if "label_noise_share" not in state:
            self.start(torch.ones_like(self._share))
            return
        share = checks.saved("label_noise_share", state["label_noise_share"], self._share.shape, finite=False)
        if not bool((share.isnan() | ((share >= 0) & (share <= HIGHEST))).all()):
            raise ValueError(f"`label_noise_share` must be from 0 to {HIGHEST}, or NaN, got {checks.shown(share)}")
        sums, gain = torch.zeros_like(self._sums), torch.zeros_like(self._gain)
        if "label_noise_gain" in state:
            sums = checks.saved("label_noise_sums", state["label_noise_sums"], sums.shape, finite=False)
            gain = checks.saved("label_noise_gain", state["label_noise_gain"], gain.shape, finite=False)
        self._sums, self._gain = sums.to(self._sums, copy=True), gain.to(self._gain, copy=True)
        self._share = share.to(self._share, copy=True)
        self._constants()
