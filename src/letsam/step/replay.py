"""Replay: a step leaves the state that its first training pass alone would leave, and then the base optimizer's step.

All training passes of a step start from the same state of the modules (buffers, plain attributes, frozen parameters,
modes) and the same random state, so they all compute the same function of the weights, with equal dropout masks and
equal power iterations. Validation passes start from the same state and have their own random stream. The base optimizer
steps from the state after the first training pass: running statistics have changed once, and the global generators are
where plain training would leave them. What it draws or changes itself counts.

    begin                S = current state
    before_validation    S, other random numbers        validation pass
    before_training      S                              training pass at the weights
    keep                 E = current state
    before_training      S                              training passes at perturbed weights, of probes
    conclude             E; the tensors of S if the step is not finite
                                                        the base optimizer's step
    before_training      E = current state; S           training passes at the new weights
    end                  E; the tensors of S if the step is not finite

If the micro-batches of a step climb separately, each has its own starting state: the state after the first pass of the
previous one.

    before_training      S_i                            training pass of part i at the weights
    keep                 E = current state
    before_training      S_i                            its passes at perturbed weights
    next_part            S_(i+1) = E                    the next part; `whole_batch` returns to S

Cost per step: the tensors of the state are copied twice (S, E) and written twice (before the second pass, before the
base optimizer's step); a state of the CPU's generator has 5 kB. The host reads no value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ..checks import checked_module
from .frozen_parameters import FrozenParameters
from .module_state import ModuleTree
from .randomness import States, devices_of, read_states, stream, write_states
from .snapshot import Snapshot


class Replay:
    """Saves and restores the state of modules and random numbers around the passes of each step.

    Args:
        model: the network whose state is handled; None: only random numbers are.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._all = ModuleTree(model)
        self._start, self._part, self._end = Snapshot(), Snapshot(), Snapshot()
        self._frozen = FrozenParameters()
        self._weights: Sequence[Tensor] = ()
        self._in_part = False  # whether a part is under way, from the second on
        self._under_way = self._kept = self._concluded = False
        self._clean = True
        self._at_end = False  # whether nothing has run since `_end` was taken

    def begin(self, devices: Iterable[torch.device], weights: Sequence[Tensor]) -> None:
        """Save the state that every pass starts from.

        Args:
            devices: those of the random generators.
            weights: what the step trains.
        """
        modules, self._weights = self._all.now(), weights
        self._start.take(modules, devices, weights, self._frozen.begin(modules, weights))
        self._in_part = self._concluded = False
        self._under_way, self._kept, self._clean, self._at_end = True, False, True, False

    def before_training(self) -> None:
        """Before a training pass."""
        if self._concluded:
            self._concluded = False
            self._take_end()
        if not self._clean:
            self._rewind(self._end if self._at_end else None)
        self._clean = self._at_end = False

    def before_validation(self, number: int) -> None:
        """Before a validation pass: random numbers of stream `number`."""
        self.before_training()
        write_states(stream(self._start.random, number))

    def keep(self) -> None:
        """After the first training pass: save the state that the step will leave."""
        self._start.restore_modes()
        self._take_end()
        self._at_end = True

    def next_part(self) -> None:
        """After the last pass of a part: the next part starts from the state after this part's first pass."""
        self._end.restore()
        self._part.take(self._all.now(), self._start.random, self._weights, self._frozen.end())
        self._in_part, self._clean, self._at_end = True, True, False

    def whole_batch(self) -> None:
        """After the last part: further passes start from the state at the start of the step."""
        self._in_part, self._clean, self._at_end = False, False, False

    def conclude(self, finite: Tensor) -> None:
        """After the last pass before the base optimizer's step: the state that the step leaves.

        Args:
            finite: 0-dim bool; where it is False, tensors have the values from before the step.
        """
        if self._kept:
            self._end.restore_where(finite, self._start)
        else:
            self._start.restore()
        self._concluded, self._clean = True, False

    def end(self, finite: Tensor) -> None:
        """At the end of the step: `conclude`, if there were passes after the base optimizer's step."""
        if not self._concluded:
            self.conclude(finite)
        self._start.state.release()
        self._part.state.release()
        self._under_way = self._concluded = False

    def abort(self) -> None:
        """Restore the state from before the step; does nothing between two steps."""
        if self._under_way:
            self._in_part = False
            self._rewind()
        self._under_way = self._concluded = False

    def forget(self) -> None:
        """Abandon the current step without restoring anything: a checkpoint has been loaded since."""
        self._in_part = self._under_way = self._concluded = False

    def _take_end(self) -> None:
        self._end.take(self._all.now(), self._start.random, self._weights, self._frozen.end())
        self._kept = True

    def _rewind(self, now: Snapshot | None = None) -> None:
        (self._part if self._in_part else self._start).restore(now)


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
