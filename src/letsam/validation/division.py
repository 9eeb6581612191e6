"""The split that validation data need: by class, by group, by time, or by group and class."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from letsam import checks
from letsam.tasks import targets_of
from letsam.tasks.task import KINDS
from letsam.validation.holding_out import held_out_split


def split(
    data: Dataset[Any] | Tensor | Sequence[Any],
    share: float = 0.1,
    *,
    groups: Any = None,
    times: Any = None,
    kind: str | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Divide training data into what is trained on and what a learned radius is judged on.

    - Alone: stratified, so that every class keeps its proportion (see `stratified_split`).
    - With `groups`: no group is on both sides, and classes keep their proportions as far as whole groups allow
      (scikit-learn's ``StratifiedGroupKFold``). For patients, users, scenes, sessions: whatever comes in several
      samples that are alike.
    - With `times`: the latest samples are held out. For data that drift.
    - With both: the groups with the latest samples are held out whole.

    Args:
        data: a map-style data set of (input, target) pairs, or its targets.
        share: the fraction held out, between 0 and 1, both excluded.
        groups: for each sample a number or a name; None: samples are independent.
        times: for each sample a number, or a date of numpy or pandas; None: their order does not matter.
        kind: of the targets, "classification", "multilabel" or "regression"; None: whole numbers are classes, rows of
            whole numbers or of 0 and 1 are labels, others are numbers to predict.
        seed: >= 0; groups and times of the same data with the same seed give the same split.

    Returns:
        Indices for training and for validation: disjoint, ascending, int64, together ``0 .. n-1``.

    Raises:
        ValueError: `share` is out of range, `groups` or `times` have another length than the data or values that are
            missing, or there are fewer than 2 groups or times.

    Example:
        >>> targets = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
        >>> train, validation = split(targets, 0.5, groups=["a", "a", "b", "b", "c", "c", "d", "d"])
        >>> len(validation), targets[validation].float().mean()
        (4, tensor(0.5000))
    """
    targets = targets_tensor(data)
    checks.seed("seed", seed)
    checked_groups, checked_times = group_numbers(groups, len(targets)), time_numbers(times, len(targets))
    return held_out_split(
        targets,
        checks.number("share", share),
        torch.Generator().manual_seed(seed),
        kind=kind_of(targets, kind),
        groups=checked_groups,
        times=checked_times,
    )


def targets_tensor(data: Dataset[Any] | Tensor | Sequence[Any]) -> Tensor:
    """The targets of a data set of pairs, or targets themselves, as a tensor on the CPU."""
    if isinstance(data, Dataset):
        return targets_of(data).detach().cpu()
    try:
        targets = torch.as_tensor(data).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"`data` must be a data set of (input, target) pairs, or numbers, got {checks.shown(data)}"
        ) from error
    if targets.ndim == 0:
        raise TypeError(f"`data` must have one target for each sample, got {checks.shown(data)}")
    return targets


def kind_of(targets: Tensor, kind: str | None) -> str:
    """The kind of these targets: as given, or told from them."""
    if kind is not None:
        return checks.choice("kind", kind, KINDS)
    if targets.ndim > 1:
        labels = targets.ndim == 2 and bool(((targets == 0) | (targets == 1)).all())
        return "multilabel" if labels else "regression"
    return "regression" if targets.is_floating_point() or targets.is_complex() else "classification"


def group_numbers(groups: Any, count: int) -> Tensor | None:
    """A number for each group, from numbers or names.

    Raises:
        ValueError: another length than `count`, a missing value, or only one group.
    """
    if groups is None:
        return None
    import numpy as np

    values = _column("groups", groups, count)
    if values.dtype == object:
        missing = [i for i, value in enumerate(values) if value is None or value != value]
    else:
        missing = np.nonzero(values != values)[0].tolist()  # NaN and NaT differ from themselves
    if missing:
        raise ValueError(f"`groups` must name a group for each sample, got a missing value for sample {missing[0]}")
    names = values.astype(str) if values.dtype == object else values
    found, numbers = np.unique(names, return_inverse=True)
    if len(found) < 2:
        raise ValueError(f"`groups` must have at least 2 groups, got {len(found)}: leave it out")
    return torch.from_numpy(numbers.reshape(-1)).long()


def time_numbers(times: Any, count: int, least: int = 2) -> Tensor | None:
    """A number for each time, in their order.

    Raises:
        ValueError: another length than `count`, a value that is not finite, or fewer than `least` different times.
    """
    if times is None:
        return None
    import numpy as np

    values = _column("times", times, count)
    if values.dtype == object:  # pandas' and Python's dates
        values = _ranks(values)
    if values.dtype.kind not in "iufMmb":
        raise ValueError(f"`times` must be numbers or dates, got values of type {values.dtype}")
    bad = np.isnat(values) if values.dtype.kind in "mM" else ~np.isfinite(values.astype(float))
    if bad.any():
        raise ValueError(f"`times` must be finite for each sample, got {values[bad][0]} for sample {np.argmax(bad)}")
    found, numbers = np.unique(values, return_inverse=True)
    if len(found) < least:
        raise ValueError(f"`times` must have at least {least} different times, got {len(found)}: leave it out")
    return torch.from_numpy(numbers.reshape(-1)).long()


def _ranks(times: Any) -> Any:
    """The places of dates of Python or pandas among the different ones, in their order; all years, all time zones."""
    import numpy as np

    for place, time in enumerate(times):
        if time is None or time != time or str(time) == "<NA>":
            raise ValueError(f"`times` must be finite for each sample, got {time} for sample {place}")
        if not isinstance(time, (int, float, date)) and not hasattr(time, "ordinal"):  # a period of pandas
            raise ValueError(f"`times` must be numbers or dates, got {checks.shown(time)} for sample {place}")
    try:
        order = {time: place for place, time in enumerate(sorted(set(times.tolist())))}
    except TypeError as error:
        raise ValueError(
            "`times` must be all numbers, or all dates, with a time zone for all or for none, "
            f"got values that cannot be compared: {error}"
        ) from error
    return np.array([order[time] for time in times])


def _column(name: str, values: Any, count: int) -> Any:
    """One value for each sample, as an array of numpy."""
    import numpy as np

    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 1 or len(array) != count:
        raise ValueError(
            f"`{name}` must have one value for each of {count} samples, got the shape {tuple(array.shape)}"
        )
    return array
