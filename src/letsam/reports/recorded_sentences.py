"""What records say in English: the messages that `letsam.languages.translated` finds sentences of records in.

Warnings of radii, findings of audits and rows about data are recorded as whole sentences. Here are the messages that
they are made of; the tests make such records and see that each is translated.
"""

from __future__ import annotations

from letsam.languages import N_, translated
from letsam.results.metric_units import METRIC_NAMES

__all__ = ["audit_text", "chosen_text", "inferred_text", "radius_text", "sample_name"]

_RADIUS_WARNINGS = (
    N_("the learned radius is at its upper bound, {bound}: it would be larger if it could (`LogAdam(bounds=...)`)"),
    N_("the learned radius is at its lower bound, {bound}: it would be smaller if it could (`LogAdam(bounds=...)`)"),
    N_(
        "the validation loss does not fall while the training loss does: wrong labels, or data of another task; the "
        "radius goes to its prior, and nothing is learned: hold out samples of the training data, with their labels"
    ),
    N_(
        "the validation loss falls far more slowly than the training loss: more wrong labels than in training, or "
        "harder samples; the radius may be too large: hold out samples of the training data, with their labels"
    ),
    N_(
        "the validation loss has not been seen to fall with the training loss so far, so that it may be that of other "
        "data; the radius goes to its prior, and nothing is learned: hold out samples of the training data, with their "
        "labels"
    ),
    N_(
        "the validation loss falls far faster than the training loss: fewer wrong labels than in training, or easier "
        "samples; the radius goes to its prior, and nothing is learned: use `CalibratedLoss`, which is made for such "
        "validation data"
    ),
)

_CHOSEN_BY = (
    N_("because it was the only one"),
    N_("among {count} by the lowest mean validation loss over {seeds} seeds"),
    N_("among {count} by the lowest mean validation loss of one seed"),
    N_("among {count} by the highest mean test {metric} over {seeds} seeds"),
    N_("among {count} by the highest mean test {metric} of one seed"),
    N_("among {count} by the lowest mean test {metric} over {seeds} seeds"),
    N_("among {count} by the lowest mean test {metric} of one seed"),
)

_SAMPLE_NAMES = (
    N_("{name} (training: {other})"),
    N_("{name} (training sample {place})"),
    N_("validation sample {place}"),
    N_("training sample {place}"),
    N_("row {place}"),
)

_AUDIT_FINDINGS = (
    N_(
        "{count} of {total} validation samples are training samples, {differing} of them with another target, such as "
        "{sample}"
    ),
    N_("{count} of {total} validation samples are training samples, such as {sample}"),
    N_(
        "{count} of {total} validation samples are nearly (five others are {ratio} times as far) training samples, "
        "such as {sample}"
    ),
    N_("leave them out of one side, or split by group"),
    N_("{count} of {total} groups of the validation data are trained on as well ({groups})"),
    N_("split with `letsam.validation.split(..., groups=...)`"),
    N_(
        "{count} of {total} training samples are later than the earliest validation sample, so validation does not "
        "look ahead as operation does"
    ),
    N_("split with `letsam.validation.split(..., times=...)`"),
    N_("targets are distributed differently in validation and training (p = {p_value})"),
    N_("use a stratified split, or, if operation has the other shares, `shifted(..., 'labels:...')` on purpose"),
    N_("{count} of {total} labels ({share}) are probably wrong, {own} of them in validation ({samples})"),
    N_("look at them, the most suspicious first (`places`), and clean validation labels before training labels"),
    N_("a classifier tells validation inputs from training inputs, AUC {auc} (95% interval {low} to {high})"),
    N_("a classifier tells deployed inputs from validation inputs, AUC {auc} (95% interval {low} to {high})"),
    N_("a classifier tells deployed inputs from training inputs, AUC {auc} (95% interval {low} to {high})"),
    N_("split at random, by group or by time from the same source"),
    N_("use `shifted(validation, 'auto', deployed=...)`, or collect validation data in operation"),
    N_("with {count} validation samples, their choice moves the learned radius as much as the prior does"),
    N_("hold out about {count}, or use `RotatingFolds`"),
    N_("hold out at least {count}, or use `RotatingFolds`"),
)

_WHAT = (
    *(N_("data"), N_("task"), N_("test data"), N_("rows"), N_("rows without a target"), N_("labels"), N_("classes")),
    *(N_("test rows that equal a training row"), N_("largest class"), N_("target"), N_("columns of numbers")),
    *(N_("columns of dates"), N_("columns of categories"), N_("missing in training rows"), N_("columns left out")),
    *(N_("note"), N_("inputs of a row"), N_("metric"), N_("model"), N_("loss"), N_("learning rate"), N_("old data")),
    *(N_("validation shift"), N_("inputs"), N_("augmentation"), N_("reading"), N_("texts"), N_("vocabulary")),
    *(N_("texts without a word"), N_("recordings"), N_("channels"), N_("length"), N_("images"), N_("image size")),
    *(N_("brightness"), N_("columns"), N_("validation data"), N_("splits not used"), N_("kind"), N_("imbalance")),
    *(N_("warning"), N_("skipped"), N_("not read"), N_("empty folders"), N_("samples")),
)

_LIST = N_("{first}, {second}")
_MORE = N_("{names} and {count} more")
_KINDS = (N_("classification"), N_("several labels"), N_("regression"), N_("multilabel"))
_RATES = (N_("{rates} samples a second"),)
_LENGTHS = (N_("{low} to {high}, mean {mean}"),)
_LEFT_OUT = (
    *(N_("{name} (unique to each row)"), N_("{name} (constant)"), N_("{name} (empty)"), N_("{name} (sentences)")),
)
_COLOURS = (N_("{colours}, with {count} grey images among {total}"), N_("grey"), N_("colour"))

_VALUES = (
    N_("{file}: {rows} rows, {columns} columns"),
    N_("{file}: {rows} rows"),
    N_("{kind} of {names}, told from its values"),
    N_("classification of {names}"),
    N_("several labels of {names}"),
    N_("regression of {names}"),
    N_("{share} % of the rows, drawn at random, the same for all seeds, whole groups of {group}"),
    N_("{share} % of the rows, drawn at random, the same for all seeds"),
    N_("{share} % of the rows, the latest by {time}, whole groups of {group}"),
    N_("{share} % of the rows, the latest by {time}"),
    N_("{train} for training, {test} for the test, so few that the numbers of single seeds say little"),
    N_("{train} for training, {test} for the test"),
    N_("{count} of {total}; they do not tell about new data"),
    N_("{count} of {file}, left out"),
    N_("{ratio} times the smallest"),
    N_("the largest class has {ratio} times the smallest"),
    N_("--text COLUMN trains on the sentences of a column instead"),
    N_("{metric} (lower is better), as the classes differ much in size; also {others}"),
    N_("{metric} (lower is better); also {others}"),
    N_("{metric}, as the classes differ much in size; also {others}"),
    N_("{metric}; also {others}"),
    N_("weighted, so that all classes have the same total weight"),
    N_("{rate}, found by a range test"),
    N_("{count} training samples, without {left_out} test samples"),
    N_("{count} training samples"),
    N_("{share} held out, the latest by {time}"),
    N_("{share} held out, groups of {group} kept whole"),
    N_("{share} held out"),
    N_("shifts by up to {pixels} pixels and flips"),
    N_("shifts by up to {pixels} pixels"),
    N_("kept in memory"),
    N_("decoded when read: {size} MiB in all"),
    N_("{width} x {height} pixels, {colours}"),
    N_("{width} x {height} pixels"),
    N_("{column}: {lengths} tokens, cut after {most}"),
    *_LENGTHS,
    N_("{count} tokens, made of the training texts"),
    N_("{count} tokens, those of the model"),
    N_("{count} tokens, that of {model}"),
    N_("joined to the training data"),
    N_("{column} to predict {targets}"),
    N_("{count} broken files: {names}"),
    N_("{count} files of other kinds, such as {name}"),
    N_("1 file of another kind: {name}"),
    N_("values up to {largest}, scaled to 8 bits"),
    N_("{low} to {high} s, {rates}"),
    N_("{count} of {total} are averaged to one"),
    N_("{seconds} s: shorter ones are padded with silence, longer ones cut to their middle"),
    N_("log-mel, {bands} bands x {times} times, of {rate} samples a second"),
    N_("{shape} of type {kind}"),
    N_(
        "{shift}, learned from {count} deployed inputs; the AUC of a classifier that tells them from the training data "
        "is {auc} with this shift, {clean} without; most of this drift is of another kind than the known shifts"
    ),
    N_(
        "{shift}, learned from {count} deployed inputs; the AUC of a classifier that tells them from the training data "
        "is {auc} with this shift, {clean} without"
    ),
    N_("{names} and {count} more classes have a single training sample"),
    N_("{names} and {count} more classes have no test sample"),
    N_("{count} of {total} test samples are in the training data as well"),
    N_("{count} of {total} test samples is in the training data as well"),
    N_("{count} of {total} validation samples are in the training data as well"),
    N_("{count} of {total} validation samples is in the training data as well"),
    N_("{names} have a single training sample"),
    N_("{names} has a single training sample"),
    N_("{names} have no test sample"),
    N_("{names} has no test sample"),
    _MORE,
    *(N_("none"), *_KINDS),
)


def radius_text(recorded: str) -> str:
    """The warning of a run about its radius."""
    return translated(recorded, _RADIUS_WARNINGS)


def chosen_text(recorded: str) -> str:
    """What chose the model of ``--refit-best``."""
    return translated(recorded, _CHOSEN_BY, {"metric": METRIC_NAMES})


def sample_name(recorded: str) -> str:
    """The name of a sample; one that the user has given stays as it is."""
    return translated(recorded, _SAMPLE_NAMES, {"name": _SAMPLE_NAMES, "other": _SAMPLE_NAMES})


def audit_text(recorded: str) -> str:
    """What an audit has found, or what to change."""
    several = (_LIST, *_SAMPLE_NAMES)
    named = dict.fromkeys(("name", "other", "sample", "first"), _SAMPLE_NAMES)
    return translated(recorded, _AUDIT_FINDINGS, {**named, "samples": several, "second": several})


def inferred_text(what: str, value: str) -> tuple[str, str]:
    """A row about files of data."""
    several = (_LIST, *METRIC_NAMES)
    metrics = {"metric": METRIC_NAMES, "first": METRIC_NAMES, "others": several, "second": several}
    within = {**metrics, "kind": _KINDS, "colours": _COLOURS, "rates": _RATES, "lengths": _LENGTHS}
    if what == "columns left out":
        columns = (_MORE, _LIST, *_LEFT_OUT)
        return translated(what, _WHAT), translated(value, columns, dict.fromkeys(("first", "second", "names"), columns))
    return translated(what, _WHAT), translated(value, _VALUES, within)
