"""Replay: a step leaves the buffers and the random state that its first training pass alone would leave.

All training passes of a step start from the same buffers and the same random state, so they all compute the same
function of the weights, with equal dropout masks and equal power iterations. Validation passes start from the same
buffers and have their own random stream. The step ends with the state after the first training pass: running statistics
have changed once, and the global generators are where plain training would leave them.

    begin        S = current state
    aside        S, other random numbers        validation pass
    again        S                              training pass at the weights
    keep         E = current state
    again        S                              training passes at perturbed weights, of probes, at the new weights
    end          E; the buffers of S if the step is not finite

If the micro-batches of a step climb separately, each has its own starting state: the state after the first pass of the
previous one.

    again        S_i                            training pass of part i at the weights
    keep         E = current state
    again        S_i                            its passes at perturbed weights
    onward       S_(i+1) = E                    the next part; `whole` returns to S

Cost per step: the buffers are copied twice (S, E) and written twice (before the second pass, at the end); a state of
the CPU's generator has 5 kB. The host reads no value.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..checks import checked_module
from .randomness import States, devices_of, read_states, stream, write_states
from .snapshot import Snapshot


class Replay:
    """Saves and restores buffers and random state around the passes of each step.

    Args:
        model: the network whose buffers are handled; None: only the random state is.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self.model = model
        self._start, self._part, self._end = Snapshot(), Snapshot(), Snapshot()
        self._in_part = False  # whether a part is under way, from the second on
        self._under_way = self._kept = False
        self._clean = True

    def begin(self, devices: Iterable[torch.device]) -> None:
        """Save the state that every pass starts from; `devices` are those of the random generators."""
        self._start.take(self._modules(), devices)
        self._in_part = False
        self._under_way, self._kept, self._clean = True, False, True

    def again(self) -> None:
        """Before a training pass."""
        if not self._clean:
            self._rewind()
        self._clean = False

    def aside(self, number: int) -> None:
        """Before a validation pass: random numbers of stream `number`."""
        self.again()
        write_states(stream(self._start.random, number))

    def keep(self) -> None:
        """After the first training pass: save the state that the step will leave."""
        self._end.take(self._modules(), self._start.random)
        self._kept = True

    def onward(self) -> None:
        """After the last pass of a part: the next part starts from the state after this part's first pass."""
        self._end.restore()
        self._part.take(self._modules(), self._start.random)
        self._in_part, self._clean = True, True

    def whole(self) -> None:
        """After the last part: further passes start from the state at the start of the step."""
        self._in_part, self._clean = False, False

    def end(self, finite: Tensor) -> None:
        """After the last pass; the buffers are those from before the step unless `finite` (0-dim bool)."""
        if not self._kept:
            self.abort()
            return
        self._end.buffers.keep_where(finite, self._start.buffers)
        self._end.restore()
        self._under_way = False

    def abort(self) -> None:
        """Restore the state from before the step; does nothing between two steps."""
        if self._under_way:
            self._in_part = False
            self._rewind()
        self._under_way = False

    def forget(self) -> None:
        """Abandon the current step without restoring anything: a checkpoint has been loaded since."""
        self._in_part, self._under_way = False, False

    def _rewind(self) -> None:
        (self._part if self._in_part else self._start).restore()

    def _modules(self) -> Iterable[nn.Module]:
        return () if self.model is None else self.model.modules()


class ReplayedRandomness:
    """A context in which the same random numbers are drawn every time it is entered: equal dropout masks.

    The first time, it only records the random state at both ends. Every further time starts from the recorded first
    state and ends with the recorded last one, so that all passes together advance the global generators as one pass
    would. For manual loops; `SharpnessAware.step` does this itself. Make a new one for each step.

    Args:
        model: the network; the generators are those of the CPU and of the devices of its weights.

    Raises:
        TypeError: `model` is not a module.

    Example:
        >>> import torch, letsam
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5))
        >>> outputs, same_masks = [], letsam.ReplayedRandomness(model)
        >>> for _ in range(2):
        ...     with same_masks:
        ...         outputs.append(model(torch.ones(1, 8)))
        >>> torch.equal(*outputs)
        True
    """

    def __init__(self, model: nn.Module) -> None:
        self._devices = devices_of(checked_module(model).parameters())
        self._first: States = {}
        self._last: States = {}

    def __enter__(self) -> None:
        if self._first:
            write_states(self._first)
        else:
            self._first = read_states(self._devices)

    def __exit__(self, *exception: object) -> None:
        if self._last:
            write_states(self._last)
        else:
            self._last = read_states(self._devices)
