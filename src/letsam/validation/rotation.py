"""RotatingFolds: the held-out fold changes during training, so that no sample is lost for it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from letsam import checks
from letsam.validation.division import group_numbers, kind_of, targets_tensor, time_numbers
from letsam.validation.holding_out import strata_of


class Turn(NamedTuple):
    """One turn of the folds.

    Attributes:
        train: indices to train on, ascending.
        validation: indices held out, ascending.
        weight: how much the held-out fold counts as evidence, above 0 and at most 1.
    """

    train: Tensor
    validation: Tensor
    weight: float


class RotatingFolds:
    """Divide the samples into folds, and hold out another one in each turn.

    In turn t, fold ``t mod folds`` is held out, so all samples are trained on at some time. In return the network has
    been trained on each fold before it is held out, except in the first turn. At first its loss there is too low by
    what the network remembers, and the learned radius hears less of overfitting than there is.

    **With times** the folds are periods, and the training part is all that is earlier than the held-out period: a
    radius that is judged on the past of its training data would learn for another task than operation. Turn by turn the
    held-out period moves on, until it is the last one, which then stays held out. No period is held out after it has
    been trained on, so all of it counts as evidence. The last period is never trained on, and the first turns train on
    fewer samples; `turns` says how many of the last periods are held out.

    **When it is safe**: with few turns, each long enough for the network to forget, such as three turns of a third of
    the epochs; or where the network does not memorize its training data. With wrong labels and a new fold in every
    epoch, the radius stays far too small (docs/how-to/validation-data.md has the numbers).

    A fold can also count less the more it has been trained on: ``weight = 1 / (1 + v)``, where v is the number of turns
    so far in which it was trained on. `counts` turns the weight into a yes or no for each step, as a factor of the loss
    would do nothing: the rule of a learned radius is Adam's, in which factors cancel out. It is the cautious choice
    where the radius was learned well in the first turn. It does not make fast turns safe: fewer updates then keep the
    radius near its initial value.

    Args:
        data: a data set of (input, target) pairs, or its targets.
        folds: number of folds, from 2 to the number of samples (or groups).
        every: the number of epochs or steps, >= 1, after which the fold changes.
        unit: of `every`, "epoch" or "step".
        groups: for each sample a number or a name; a group is in one fold.
        times: for each sample a number or a date; each fold is one period. Without it, folds are drawn at random.
        turns: with `times`, how many of the last periods are held out, one after the other, from 1 to ``folds - 1``;
            None: all but the first.
        kind: of the targets, as for `split`.
        seed: >= 0; of the division, and of `counts`.

    Raises:
        ValueError: an argument out of range, or of another length than the data.
        TypeError: an argument of the wrong type.

    Example:
        >>> folds = RotatingFolds(torch.tensor([0, 1] * 6), folds=3, every=20)
        >>> folds.at(19).validation.equal(folds.at(0).validation), folds.at(20).weight
        (True, 0.5)
        >>> months = RotatingFolds(torch.zeros(12), folds=4, every=20, times=torch.arange(12))
        >>> [(len(turn.train), turn.validation.tolist()) for turn in map(months.at, (0, 20, 40, 60))]
        [(3, [3, 4, 5]), (6, [6, 7, 8]), (9, [9, 10, 11]), (9, [9, 10, 11])]

    Reference:
        The folds are scikit-learn's: ``StratifiedKFold``, ``KFold``, ``GroupKFold`` and ``StratifiedGroupKFold``, and
        ``TimeSeriesSplit`` over periods.
    """

    def __init__(
        self,
        data: Dataset[Any] | Tensor | Sequence[Any],
        folds: int = 10,
        *,
        every: int = 1,
        unit: str = "epoch",
        groups: Any = None,
        times: Any = None,
        turns: int | None = None,
        kind: str | None = None,
        seed: int = 0,
    ) -> None:
        targets = targets_tensor(data)
        checks.whole("folds", folds, 2)
        checks.seed("seed", seed)
        self.every, self.unit = checks.whole("every", every, 1), checks.choice("unit", unit, ("epoch", "step"))
        self.seed = seed
        group_of, time_of = group_numbers(groups, len(targets)), time_numbers(times, len(targets))
        if group_of is not None and time_of is not None:
            raise ValueError("`groups` and `times` must not both be given: a fold is a set of groups, or a period")
        units, what = (len(targets), "samples")
        if group_of is not None or time_of is not None:
            numbers = group_of if group_of is not None else time_of
            units, what = int(numbers.max()) + 1, "groups" if group_of is not None else "times"  # pyright: ignore[reportOptionalMemberAccess]
        if folds > units:
            raise ValueError(f"`folds` must be at most the number of {what}, {units}, got {folds}")
        if turns is not None:
            if time_of is None:
                raise ValueError(f"`turns` is used with `times` only, got {turns} without them")
            if checks.whole("turns", turns, 1) >= folds:
                raise ValueError(f"`turns` must be fewer than `folds`, {folds}, as a period comes before, got {turns}")
        strata = strata_of(targets, kind_of(targets, kind))
        self.parts = _parts(strata, folds, group_of, time_of, seed)
        self.fold_of = torch.empty(len(targets), dtype=torch.int64)
        for number, part in enumerate(self.parts):
            self.fold_of[part] = number
        self._in_time = None if time_of is None else _in_time(folds, turns or folds - 1)

    def __len__(self) -> int:
        """The number of folds."""
        return len(self.parts)

    def turn(self, epoch: int, step: int = 0) -> int:
        """The number of the turn, from 0; `step` is counted from the beginning of training."""
        checks.whole("epoch", epoch, 0)
        checks.whole("step", step, 0)
        return (epoch if self.unit == "epoch" else step) // self.every

    def at(self, epoch: int, step: int = 0) -> Turn:
        """What to train on, and what is held out.

        Args:
            epoch: from 0.
            step: of the optimizer, from 0; read if `unit` is "step".
        """
        turn = self.turn(epoch, step)
        if self._in_time is not None:
            earlier, held = self._in_time[min(turn, len(self._in_time) - 1)]
            return Turn(torch.nonzero(self.fold_of < earlier).flatten(), self.parts[held], 1.0)
        held = turn % len(self.parts)
        return Turn(torch.nonzero(self.fold_of != held).flatten(), self.parts[held], self._weight(turn))

    @property
    def fewest(self) -> int:
        """The number of samples that are trained on in the turn with the fewest."""
        if self._in_time is not None:
            return len(self.at(0).train)
        return len(self.fold_of) - max(map(len, self.parts))

    def counts(self, epoch: int, step: int) -> bool:
        """Whether the validation batch of this step counts as evidence; if not, the closure raises `letsam.SkipStep`.

        True for the share `Turn.weight` of the steps of a turn, drawn from the seed and the step.
        """
        weight = self._weight(self.turn(epoch, step))
        drawn = torch.rand((), generator=torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63))
        return float(drawn) < weight

    def _weight(self, turn: int) -> float:
        """1 / (1 + turns in which the fold of this turn was trained on before)."""
        if self._in_time is not None:
            return 1.0
        return 1 / (1 + turn - turn // len(self.parts))


def _in_time(folds: int, turns: int) -> list[tuple[int, int]]:
    """For each turn the number of periods that are trained on, and the one after them, which is held out."""
    import numpy as np
    from sklearn.model_selection import TimeSeriesSplit

    periods = TimeSeriesSplit(n_splits=turns, test_size=1).split(np.zeros(folds))
    return [(len(earlier), int(held[0])) for earlier, held in periods]


def _parts(strata: Tensor, folds: int, groups: Tensor | None, times: Tensor | None, seed: int) -> tuple[Tensor, ...]:
    """The indices of each fold, ascending."""
    import numpy as np
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    if times is not None:  # periods of whole times, of about equal size
        sizes = torch.bincount(times).cumsum(0)
        middle = sizes.double() - torch.bincount(times) / 2
        period = (middle * folds / len(times)).long().clamp(max=folds - 1)
        _, period = torch.unique(period, return_inverse=True)
        if int(period.max()) + 1 < folds:
            raise ValueError(f"`folds` = {folds} periods need times that are spread more evenly, or fewer folds")
        return tuple(torch.nonzero(period[times] == number).flatten() for number in range(folds))
    places, classes = np.zeros(len(strata)), None
    if strata.ndim == 1 and not strata.is_floating_point():
        classes = torch.unique(strata, return_inverse=True)[1].numpy()
        if np.bincount(classes).max() < folds:  # no class has a member for each fold
            classes = None
    if groups is not None:
        kind = GroupKFold if classes is None else StratifiedGroupKFold
        found = kind(folds, shuffle=True, random_state=seed % 2**32).split(places, classes, groups.numpy())
    else:
        kind = KFold if classes is None else StratifiedKFold
        found = kind(folds, shuffle=True, random_state=seed % 2**32).split(places, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer members than folds
        parts = tuple(torch.from_numpy(part).long().sort().values for _, part in found)
    if empty := [number for number, part in enumerate(parts) if not len(part)]:
        raise ValueError(f"`folds` must be fewer, got {folds}, of which fold {empty[0]} would be empty")
    return parts
