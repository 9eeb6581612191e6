"""What the processes that train one model must agree on, and where they may differ.

DDP and FSDP average the gradients over the processes, but each process has its own losses. They are averaged here, with
one all-reduce of a scalar per pass, so that all processes have the same gap, the same radius and the same decision to
skip a step. Norms and dot products of DTensors are taken over all shards in `letsam.tensors.foreach`.

With m-sharpness, the gradient of the ascent is not averaged: each process climbs along the gradient of its own part of
the batch (arXiv:2010.01412, section 4.1; arXiv:2206.06232). The scalars that the radius is given are averaged instead.
"""

# pyright: reportUnknownMemberType=false, reportPrivateUsage=false
# (torch.distributed has few annotations; only DDP's `_join_config` says whether a join is active)

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .. import checks
from ..tensors import Average, Tensors, scale_
from ..tensors.shards import foreign_shards

# Relative. Averaged gradients agree to the last bit, or up to rounding where each process computes the same.
NORM_TOLERANCE = 1e-3
Group: TypeAlias = "dist.ProcessGroup | str | None"  # a string: builds of torch without distributed lack the class


class Ranks:
    """The processes that train one model together.

    Args:
        process_group: "default" for the default group where torch.distributed is initialised; a process group; None for
            no communication.
        m_sharpness: whether each process climbs along its own gradient.

    Raises:
        TypeError: `process_group` is none of these, or `m_sharpness` not a bool.
        ValueError: m-sharpness without communication.
    """

    def __init__(self, process_group: Group, m_sharpness: bool) -> None:
        self.process_group = _checked_group(process_group)
        self._searched: tuple[nn.Module | None, DistributedDataParallel | None] | None = None
        self.m_sharpness = checks.flag("m_sharpness", m_sharpness)
        self._agreed = False  # whether the processes have been found to have the same gradients
        if m_sharpness and process_group is None:
            raise ValueError("`m_sharpness` needs the processes to agree on the radius, got process_group=None")

    @property
    def _group(self) -> Any:
        """The group to communicate in; None for a single process."""
        if self.process_group is None or not (dist.is_available() and dist.is_initialized()):
            return None
        group = dist.group.WORLD if self.process_group == "default" else self.process_group
        return group if dist.get_world_size(group) > 1 else None  # pyright: ignore[reportArgumentType]

    def check(self, model: nn.Module | None, params: Tensors) -> None:
        """Raise unless the passes of a step can run.

        Raises:
            ValueError: m-sharpness without a DDP in `model`; weights that are split over processes without DTensors.
            RuntimeError: inside DDP's `join()`, which expects one forward pass per step.
        """
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return
        if not self._agreed and (library := foreign_shards(params)) is not None:
            raise ValueError(
                "`base_optimizer` must hold whole weights, or DTensors (FSDP2, fully_shard), got weights that "
                f"{library} has split: every process would have a gradient norm and a radius of its own"
            )
        if self._group is None:
            return
        ddp = self._ddp(model)
        if self.m_sharpness and ddp is None:
            raise ValueError(
                "`m_sharpness` needs `model=` with a DistributedDataParallel, where each process perturbs weights of "
                f"its own, got {'None' if model is None else type(model).__name__}"
            )
        if ddp is not None and ddp._join_config.enable:
            raise RuntimeError(
                "a sharpness-aware step cannot run with DistributedDataParallel.join(): a process that has run out of "
                "batches would wait for ever; give every process the same number of batches instead "
                "(DistributedSampler, drop_last=True)"
            )

    def check_agreement(self, gradient_norm: Tensor) -> None:
        """Raise `ValueError` unless all processes have the same gradient norm (0-dim).

        They have other norms if they hold parts of weights that are no DTensors, or if nothing averages the gradients.
        Compared in the first step with a gradient norm above 0; only this once does the host wait for the device.
        """
        group = self._group
        if group is None or self.m_sharpness or self._agreed:
            return
        extremes = torch.stack([gradient_norm, -gradient_norm])
        dist.all_reduce(extremes, dist.ReduceOp.MAX, group=group)
        highest, lowest = extremes[0].item(), -extremes[1].item()
        if not (math.isfinite(highest) and math.isfinite(lowest) and highest > 0):
            return
        if highest - lowest > NORM_TOLERANCE * highest:
            raise ValueError(
                "all processes must have the same gradients, averaged over them (by DDP or FSDP2), got gradient norms "
                f"from {lowest:.4g} to {highest:.4g}: either nothing averages them, or the processes hold parts of the "
                "weights that are no DTensors. For independent runs, use process_group=None"
            )
        self._agreed = True

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes of a value that differs between them."""
        group = self._group
        if group is None:
            return value
        mean = value / dist.get_world_size(group)
        dist.all_reduce(mean, group=group)
        return mean

    def average(self, tensors: Tensors) -> None:
        """Replace the tensors, in place, by their means over the processes."""
        group = self._group
        scale_(tensors, 1 / dist.get_world_size(group))
        works: list[Any] = [dist.all_reduce(tensor, group=group, async_op=True) for tensor in tensors]
        for work in works:
            work.wait()  # makes the device wait, not the host

    @property
    def ascent_average(self) -> Average | None:
        """`average` if each process climbs along its own gradient, else None."""
        return self.average if self.m_sharpness and self._group is not None else None

    def ascent_mean(self, value: Tensor) -> Tensor:
        """`mean` if each process climbs along its own gradient, else the value itself."""
        return value if self.ascent_average is None else self.mean(value)

    def ascent_pass(self, model: nn.Module | None) -> AbstractContextManager[None]:
        """A context for the forward and backward pass whose gradient the ascent uses."""
        ddp = None if self.ascent_average is None else self._ddp(model)
        return nullcontext() if ddp is None else ddp.no_sync()

    def _ddp(self, model: nn.Module | None) -> DistributedDataParallel | None:
        """The DDP module in a model, also inside the wrappers of Fabric and `torch.compile`; the result is cached."""
        if self._searched is None or self._searched[0] is not model:
            modules = () if model is None else model.modules()
            found = next((module for module in modules if isinstance(module, DistributedDataParallel)), None)
            self._searched = model, found
        return self._searched[1]

    def __reduce__(self) -> tuple[Any, ...]:
        """A group does not outlive its processes, so a pickle refers to the default group instead."""
        return Ranks, (None if self.process_group is None else "default", self.m_sharpness)

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        return self


def _checked_group(group: object) -> Any:
    known = dist.is_available() and isinstance(group, dist.ProcessGroup)
    if not (group is None or known or group == "default"):
        raise TypeError(f'`process_group` must be "default", a ProcessGroup or None, got {checks.shown(group)}')
    return group
