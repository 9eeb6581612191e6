"""`audit`: what is wrong with validation data, and what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from letsam import checks
from letsam.validation.auditing.audit_record import Audit, AuditFinding, SampleNames
from letsam.validation.auditing.audited import MOST, AuditedPart, audited_part, compared
from letsam.validation.auditing.label_checks import shares_differ, suspected
from letsam.validation.auditing.radius_probe import FEWEST, SlopeNoise, perceptron, slope_noise
from letsam.validation.auditing.repeats import repeats
from letsam.validation.division import kind_of, time_numbers
from letsam.validation.drift.inputs import InputForm
from letsam.validation.drift.permutation_test import permutation_test
from letsam.validation.drift.two_sample import two_sample_test

LEVEL = 0.01  # probability of a false finding in an audit of data without faults
TESTS = 5  # that share it: near duplicates, shares of classes, wrong labels, two two-sample tests
NOISE = 0.7  # of slopes, the largest weight of the prior
SHOWN = 5
FEWEST_COMPARED = 10  # samples on each side of a two-sample test


def audit(
    train: Dataset[Any],
    validation: Dataset[Any],
    deployed: Dataset[Any] | Tensor | Sequence[Any] | None = None,
    *,
    groups: tuple[Sequence[Any] | Tensor, Sequence[Any] | Tensor] | None = None,
    times: tuple[Sequence[Any] | Tensor, Sequence[Any] | Tensor] | None = None,
    kind: str | None = None,
    modality: str | None = None,
    probe: bool = True,
    most: int = MOST,
    names: tuple[Sequence[str] | None, Sequence[str] | None] = (None, None),
    seed: int = 0,
    **form: Any,
) -> Audit:
    """Examine the validation data of a learned radius.

    - *duplicates*, *near-duplicates*: validation samples that are trained on, exactly or nearly
    - *group-leakage*, *time-leakage*: groups on both sides; training samples later than validation samples
    - *label-shares*: classes, labels or numbers have another distribution in validation
    - *wrong-labels*: a classifier misses labels of which it is sure, which overlapping classes do not explain
    - *validation-differs*: a classifier tells validation from training inputs
    - *deployed-differs*: a classifier tells deployed from validation inputs; from training inputs, if there are fewer
      than 10 validation samples
    - *validation-too-small*: other validation samples would move the learned radius elsewhere

    In an audit of data without faults, the probability of a finding is at most about 1%: the five checks that depend on
    chance share it equally (Bonferroni). *wrong-labels* and *validation-too-small* have limits of size
    besides.

    Args:
        train: (input, target) pairs that the model is trained on.
        validation: pairs that the radius is learned from.
        deployed: inputs from operation, without targets; None: they are not compared.
        groups: for the samples of `train` and of `validation`, numbers or names of what they belong to.
        times: the same, numbers, or dates of numpy or pandas.
        kind: of the targets, "classification", "multilabel" or "regression"; None: told from them.
        modality: of the inputs, as for `shifted`.
        probe: for *validation-too-small*, train a small perceptron on the input values for 90 steps, four times.
        most: samples of each set that are examined, >= 1, evenly spaced.
        names: of the samples of `train` and of `validation`, such as their rows; None: they are called by their places.
        seed: of all that is random.
        form: `key`, `value_range`, `scale`, `decode` and `encode`, as for `shifted`.

    Returns:
        The findings, errors first, and the numbers behind them.

    Raises:
        TypeError, ValueError: data that cannot be read, or arguments of another length than the data.
        ImportError: scikit-learn is missing.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> inputs, targets = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 2
        >>> train, validation = TensorDataset(inputs, targets), TensorDataset(inputs[:20], targets[:20])
        >>> print(audit(train, validation, probe=False)[0])
        error: 20 of 20 validation samples are training samples, such as validation sample 0 (training sample 0): leave
        them out of one side, or split by group [duplicates; letsam docs how-to/validation-data]
    """
    if find_spec("sklearn") is None:
        raise ImportError('audits need scikit-learn; install it with `pip install "letsam[validation]"`')
    checks.seed("seed", seed)
    of_inputs = InputForm.of(train, modality, name="`train`", **form)
    checks.whole("most", most, 1)
    parts = audited_part("train", train, of_inputs, most), audited_part("validation", validation, of_inputs, most)
    for name, of in zip(names, (train, validation), strict=True):
        if name is not None and len(name) != len(cast("Any", of)):
            raise ValueError(f"`names` must have one for each of {len(cast('Any', of))} samples, got {len(name)}")
    called = SampleNames(*names)
    targets = [cast("Tensor", part.targets) for part in parts]
    kind = _same_kind(targets, kind)
    measures: dict[str, Any] = {"train": len(cast("Any", train)), "validation": len(cast("Any", validation))}
    measures["examined"] = [len(part) for part in parts]
    places: dict[str, list[tuple[Any, int]]] = {}
    found = list(_repeats(parts, measures, places, called))
    found += _leakage("groups", groups, train, validation) if groups is not None else []
    found += _later("times", times, train, validation) if times is not None else []
    found += _shares(targets, kind, measures)
    if kind == "classification":
        found += _labels(parts, targets, seed, measures, places, called)
    found += _difference("validation", parts[1], "training", parts[0], seed, measures)
    if deployed is not None:
        operation = audited_part("deployed", cast("Any", deployed), of_inputs, most, labelled=False)
        if len(operation) < FEWEST_COMPARED:
            raise ValueError(f"`deployed` needs {FEWEST_COMPARED} inputs or more, got {len(operation)}")
        few = len(parts[1]) < FEWEST_COMPARED
        other, known = ("training", parts[0]) if few else ("validation", parts[1])
        found += _difference("deployed", operation, other, known, seed, measures)
    if probe:
        found += _size(parts, targets, kind, seed, measures)
    return Audit(tuple(sorted(found, key=lambda one: one.severity)), measures, places)


def _repeats(
    parts: tuple[AuditedPart, AuditedPart],
    measures: dict[str, Any],
    places: dict[str, list[tuple[Any, int]]],
    called: SampleNames,
) -> Iterator[AuditFinding]:
    seen = repeats(*parts, LEVEL / TESTS)
    measures |= {"duplicates": len(seen.exact), "near_duplicates": len(seen.near)}
    for code, pairs, are in (
        ("duplicates", seen.exact, "are"),
        ("near-duplicates", seen.near, f"are nearly (five others are {seen.ratio:.1f} times as far)"),
    ):
        if not pairs:
            continue
        places[code] = list(pairs)
        named = [called.pair(*pair) for pair in pairs]
        differing = f", {seen.differing} of them with another target" if code == "duplicates" and seen.differing else ""
        yield AuditFinding.of(
            code,
            f"{len(pairs)} of {len(parts[1])} validation samples {are} training samples{differing}, such as {named[0]}",
            "leave them out of one side, or split by group",
            "error",
            len(pairs),
            len(parts[1]),
            named,
        )


def _leakage(name: str, given: Any, train: Any, validation: Any) -> Iterator[AuditFinding]:
    ours, theirs = _values(name, given, (train, validation))
    for value in (*ours, *theirs):
        if value is None or value != value:
            raise ValueError(f"`{name}` must name a group for each sample, got a missing value")
    shared = sorted(set(ours) & set(theirs), key=str)
    if shared:
        listed = ", ".join(map(str, shared[:SHOWN])) + (", ..." if len(shared) > SHOWN else "")
        yield AuditFinding.of(
            "group-leakage",
            f"{len(shared)} of {len(set(theirs))} groups of the validation data are trained on as well ({listed})",
            "split with `letsam.validation.split(..., groups=...)`",
            "error",
            len(shared),
            len(set(theirs)),
            list(map(str, shared)),
        )


def _later(name: str, given: Any, train: Any, validation: Any) -> Iterator[AuditFinding]:
    sides = _values(name, given, (train, validation))
    numbers = time_numbers([*sides[0], *sides[1]], sum(map(len, sides)), least=1)
    assert numbers is not None
    ours, theirs = numbers.split([len(side) for side in sides])
    later = int((ours > theirs.min()).sum())
    if later:
        yield AuditFinding.of(
            "time-leakage",
            f"{later} of {len(ours)} training samples are later than the earliest validation sample, so validation "
            "does not look ahead as operation does",
            "split with `letsam.validation.split(..., times=...)`",
            "error",
            later,
            len(ours),
        )


def _shares(targets: list[Tensor], kind: str, measures: dict[str, Any]) -> Iterator[AuditFinding]:
    p_value = measures["label_shares_p"] = shares_differ(targets[0], targets[1], kind)
    if kind == "classification" and (missing := sorted(set(targets[0].tolist()) - set(targets[1].tolist()))):
        measures["missing_classes"] = missing
    if p_value < LEVEL / TESTS:
        yield AuditFinding.of(
            "label-shares",
            f"targets are distributed differently in validation and training (p = {p_value:.1g})",
            "use a stratified split, or, if operation has the other shares, `shifted(..., 'labels:...')` on purpose",
        )


def _labels(
    parts: tuple[AuditedPart, AuditedPart],
    targets: list[Tensor],
    seed: int,
    measures: dict[str, Any],
    places: dict[str, list[tuple[Any, int]]],
    called: SampleNames,
) -> Iterator[AuditFinding]:
    # The rows of larger inputs hold more than the features, and trees do not mind more columns.
    rows = torch.cat([torch.cat([part.rows, part.features], dim=1) for part in parts])
    total, border = len(rows), len(parts[0])
    labels = suspected(rows, torch.cat(targets), torch.arange(total) >= border, seed)
    count = len(labels.which)
    if not len(labels.places):  # no two classes with enough samples
        return
    named = [
        ("validation", int(parts[1].places[place - border]))
        if place >= border
        else ("train", int(parts[0].places[place]))
        for place in labels.which.tolist()
    ]
    own = sum(name == "validation" for name, _ in named)
    measures |= {"suspected_labels": count, "labels_not_predicted": float(labels.missed.float().mean())}
    measures["label_skill"] = labels.skill
    if labels.can_tell and labels.test is not None:
        measures["wrong_label_share"] = [labels.test.best.together.shares[0], *labels.test.best.interval()]
    if named and labels.contradicted(LEVEL / TESTS / 2):
        places["wrong-labels"] = list(named)
        names = [called.validated(place) if side == "validation" else called.trained(place) for side, place in named]
        yield AuditFinding.of(
            "wrong-labels",
            f"{count} of {total} labels ({count / total:.0%}) are probably wrong, {own} of them in validation "
            f"({', '.join(names[:SHOWN])})",
            "look at them, the most suspicious first (`places`), and clean validation labels before training labels",
            "warning",
            count,
            total,
            names,
        )


def _difference(
    name: str, first: AuditedPart, other: str, second: AuditedPart, seed: int, measures: dict[str, Any]
) -> Iterator[AuditFinding]:
    if min(len(first), len(second)) < FEWEST_COMPARED:
        return
    every, few = compared(second, first)
    test = two_sample_test(every[0], every[1], seed)
    measures[f"{name}_auc"] = [test.auc, test.low, test.high]
    if min(test.p_value, permutation_test(few[0], few[1], seed)) >= LEVEL / TESTS / 2:
        return
    cure = {
        "validation": "split at random, by group or by time from the same source",
        "deployed": "use `shifted(validation, 'auto', deployed=...)`, or collect validation data in operation",
    }
    severity: Literal["error", "warning"] = "error" if name == "deployed" and test.low > 0.8 else "warning"
    what = f"a classifier tells {name} inputs from {other} inputs, {test}"
    yield AuditFinding.of(f"{name}-differs", what, cure[name], severity)


def _size(
    parts: tuple[AuditedPart, AuditedPart],
    targets: list[Tensor],
    kind: str,
    seed: int,
    measures: dict[str, Any],
) -> Iterator[AuditFinding]:
    count = len(parts[1])
    noise = SlopeNoise(1.0, count)
    if count >= FEWEST:
        inputs = [part.rows for part in parts]
        mean, deviation = inputs[0].mean(0), inputs[0].std(0).clamp(min=1e-6)
        inputs = [(rows - mean) / deviation for rows in inputs]
        numbers, outputs, loss = _for_loss(targets, kind)
        train, held_out = ((rows, targets) for rows, targets in zip(inputs, numbers, strict=True))
        noise = slope_noise(train, held_out, loss, lambda: perceptron(inputs[0].shape[1], outputs), seed)
        measures["slope_noise"] = noise.share
    if noise.share > NOISE:
        wanted = f"about {max(noise.needed(NOISE), FEWEST):,}" if count >= FEWEST else f"at least {FEWEST}"
        yield AuditFinding.of(
            "validation-too-small",
            f"with {count} validation samples, their choice moves the learned radius as much as the prior does",
            f"hold out {wanted}, or use `RotatingFolds`",
            "warning",
            count,
        )


def _for_loss(targets: list[Tensor], kind: str) -> tuple[list[Tensor], int, Callable[[Any, Any], Tensor]]:
    """Targets, outputs and loss of the short run."""
    if kind == "classification":
        classes, numbers = torch.unique(torch.cat(targets), return_inverse=True)
        return list(numbers.split([len(t) for t in targets])), len(classes), nn.functional.cross_entropy
    flat = [t.reshape(len(t), -1).float() for t in targets]
    if kind == "multilabel":
        return flat, flat[0].shape[1], nn.functional.binary_cross_entropy_with_logits
    mean, deviation = flat[0].mean(0), flat[0].std(0).clamp(min=1e-6)
    return [(t - mean) / deviation for t in flat], flat[0].shape[1], nn.functional.mse_loss


def _values(name: str, given: Any, sets: tuple[Any, Any]) -> list[list[Any]]:
    """One value for each training sample, and for each validation sample."""
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
        raise TypeError(
            f"`{name}` must be a pair, of the training and the validation samples, got {checks.shown(given)}"
        )
    found: list[list[Any]] = []
    for side, data in zip(given, sets, strict=True):
        if not hasattr(side, "__iter__"):
            raise TypeError(f"`{name}` must have one value for each of {len(data)} samples, got {checks.shown(side)}")
        values = side.tolist() if hasattr(side, "tolist") else list(side)
        if len(values) != len(data):
            raise ValueError(f"`{name}` must have one value for each of {len(data)} samples, got {len(values)}")
        found.append(values)
    return found


def _same_kind(targets: list[Tensor], given: str | None) -> str:
    """The kind of the targets of both sides, as given or told from those of the training data."""
    for name, part in zip(("train", "validation"), targets, strict=True):
        bad = ~part.reshape(len(part), -1).isfinite().all(1)
        if bool(bad.any()):
            raise ValueError(f"`{name}` must have finite targets, got {int(bad.sum())} of {len(part)} that are not")
    if targets[0].shape[1:] != targets[1].shape[1:]:
        shapes = [tuple(part.shape[1:]) for part in targets]
        raise ValueError(f"`validation` must have targets of the shape {shapes[0]}, as `train` has, got {shapes[1]}")
    kind, other = (kind_of(part, given) for part in targets)
    if "classification" in (kind, other) and kind != other:
        raise ValueError(f"`validation` must have targets for {kind}, as `train` has, got those for {other}")
    return kind
