"""Tables over all settings, compact ones of each, and the alternatives to the learned radius."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.evidence import precision
from benchmarks.evidence.ablation import CHANGES
from benchmarks.evidence.late_peers import TITLES
from benchmarks.evidence.suite import FORKED, PAPER_START, QUICK, REPLAYED, START
from benchmarks.evidence.summary import BELOW, EMPTY, Means, Measured, Verdict, in_points, is_close
from benchmarks.evidence.tried import IDEAS
from benchmarks.evidence.validation_kinds import KINDS, RELEASED
from benchmarks.harness.page import filled, table
from letsam.reports.table import NOTHING
from letsam.training.methods import REFIT

REPLAYS = ("learned to the end, replayed", "the same, smoothed", "do no harm")
SCHEDULES = {
    "sam": {"rising": "sam-rising", "GSAM schedule": "gsam-schedule", "loss budget": "sam-budget"},
    "asam": {"rising": "asam-rising"},
}
PAPER = f"lets-paper-sam:{PAPER_START}"
ALONE = {"Optuna": "optuna-sam", "the paper's reading, refit": PAPER + REFIT}
PEERS = (*SCHEDULES["sam"], *ALONE)
CLEAR = 0.5  # points by which a change of the default is counted as better or worse
ABLATED = {
    **{f"{name}:{START}@{RELEASED}": change.title for name, change in CHANGES.items()},
    f"lets-preconditionedsam:{START}@{RELEASED}": "preconditioned ascent",
    f"lets-sam:{START}@{FORKED}": "forks",
    **{f"lets-sam:{START}@{name}": title for name, title in zip(REPLAYED, REPLAYS, strict=True)},
}
APART = 1.0  # points, the goal for learned radii with different validation data


def tuned(found: list[Measured]) -> str:
    """Learned radius and alternatives, each at its best; only the settings in which all of them are finished."""
    lines = [(one.setting.title, result) for one in found if (result := _tuned(one))]
    if not lines:
        return EMPTY
    means = [(title, len(values[0]), [*map(statistics.fmean, values)]) for title, values in lines]
    rows = [[title, str(seeds), *map(in_points, values)] for title, seeds, values in means]
    counts: list[str] = []
    for place, name in enumerate(PEERS, start=1):
        ahead = sum(values[0] > values[place] for *_, values in means)
        pairs = [zip(values[0], values[place], strict=True) for _, values in lines]
        signs = [precision.clear([[ours - other for ours, other in pair]]) for pair in pairs]
        counts.append(f"{name} {ahead} ({signs.count(1)} and {signs.count(-1)})")
    numbers = table(["setting", "seeds", "learned, refit", *PEERS], rows)
    ahead_of = f"Learning is ahead, of {len(lines)} settings: {', '.join(counts)}."
    return f"{numbers}\n\n{filled(f'{ahead_of} In brackets: clearly ahead and clearly behind.')}"


def _tuned(one: Measured) -> list[list[float]] | None:
    """[learned, *PEERS] by seed in a setting; None unless all of them have a seed in common with the grid."""
    grids = [one.names(kind) for kind in SCHEDULES["sam"].values()]
    learned = [f"lets-sam:{start}{REFIT}" for start in one.setting.sam_starts]
    best = one.best("sam")
    names = [*learned, *ALONE.values(), *(name for grid in grids for name in grid)]
    seeds = one.seeds("sam").intersection(*map(one.of, names))
    if best is None or not seeds or not all(grids):
        return None
    values = {name: one.differences(name, best, seeds) for name in names}
    finite = [[name for name in grid if not math.isnan(math.fsum(values[name]))] for grid in grids]
    at_best = [max((values[name] for name in grid), key=math.fsum) for grid in finite]
    return [precision.means([values[name] for name in learned]), *at_best, *(values[name] for name in ALONE.values())]


def untuned(kind: str, found: list[Measured]) -> str:
    """Every method with the same number in all settings of images, and in all of text."""
    bests = [(one, best) for one in found if (best := one.best(kind))]
    sides = [[(one, best) for one, best in bests if one.setting.text is text] for text in (False, True)]
    rows = {name: [_differences(name, side) for side in sides] for name in _untuned_methods(kind, found)}
    if not any(name.startswith("lets-") for name in rows):
        return EMPTY
    ordered = sorted(rows.items(), key=lambda row: -min(row[1][0], default=-math.inf))
    titles = zip(("images", "text"), sides, strict=True)
    columns = [f"{name}: {one}" for name, side in titles for one in ("mean", "worst", f"close, of {len(side)}")]
    return table(
        ["method", *columns],
        [[f"`{name}`", *_cells(images), *_cells(text)] for name, (images, text) in ordered if images or text],
    )


def _untuned_methods(kind: str, found: list[Measured]) -> Iterable[str]:
    """The methods that have one number, and those that learn or search it, in the order of the suite."""
    kinds = {"sgd", kind, f"lets-{kind}", f"lets-paper-{kind}", f"optuna-{kind}", *SCHEDULES[kind].values()}
    names = [record.method for one in found for record in one.records]
    return dict.fromkeys(
        name for name in names if name.split(":")[0] in kinds and name.partition("@")[2] in ("", RELEASED)
    )


def _differences(name: str, side: list[tuple[Measured, Means]]) -> list[float]:
    """A method minus the best of the grid in each setting; empty unless it ran in all, and diverged in none."""
    values = [one.difference(name, best) for one, best in side]
    return [] if any(map(math.isnan, values)) else values


def _cells(values: list[float]) -> list[str]:
    if not values:
        return [NOTHING] * 3
    return [in_points(statistics.fmean(values)), in_points(min(values)), str(sum(map(is_close, values)))]


LEARNED = ("mean", "worst start", "spread", "cost")


def overview(kind: str, found: Sequence[Measured]) -> str:
    """All settings in one table, and how many of them meet each goal."""
    if not any(one.best(kind) for one in found):
        return EMPTY
    counts = "\n".join(_count(kind, suffix, found) for suffix in ("", REFIT))
    return f"{verdicts(kind, found)}\n\n{counts}"


def verdicts(kind: str, found: Sequence[Measured]) -> str:
    """One line per setting: the best of the grid, and the starts compared with it."""
    rows: list[list[str]] = []
    for one in found:
        best = one.best(kind)
        pair = [one.verdict(kind, suffix) for suffix in ("", REFIT)]
        if best is None:
            continue
        alone = one.row("sgd", one.seeds(kind))
        base = f"{alone.accuracy:.1f}" if alone else NOTHING
        highest = f"{best.accuracy:.1f} (`{best.name.split(':')[1]}`)"
        cells = [cell for verdict in pair for cell in _verdict(verdict)]
        rows.append([one.setting.title, str(best.seeds), base, highest, *cells, _goals(pair)])
    refit = (f"refit: {name}" for name in LEARNED)
    return table(["setting", "seeds", "base", "best of grid", *LEARNED, *refit, "goals met"], rows) if rows else EMPTY


def _verdict(verdict: Verdict | None) -> list[str]:
    if verdict is None:
        return [NOTHING] * 4
    texts = [in_points(verdict.worst), f"{verdict.spread:.1f}", f"{verdict.cost:.2f}"]
    marked = [f"**{text}**" if met else text for text, met in zip(texts, verdict.met.values(), strict=True)]
    error = precision.standard_error(verdict.by_seed)
    mean = in_points(verdict.mean) if math.isnan(error) else f"{in_points(verdict.mean)} ± {error:.1f}"
    return [mean, *marked]


def _goals(pair: list[Verdict | None]) -> str:
    """Which form, without or with refit, meets all goals."""
    met = [verdict.suffix for verdict in pair if verdict and all(verdict.met.values())]
    if not any(pair):
        return NOTHING
    return {(): "no", ("",): "yes", (REFIT,): "with refit", ("", REFIT): "yes, both"}[tuple(met)]


def _count(kind: str, suffix: str, found: Sequence[Measured]) -> str:
    """How many settings meet each goal, how many an equally good method would, and how many differences are clear."""
    every = [verdict for one in found if (verdict := one.verdict(kind, suffix))]
    counts = [f"{goal} {sum(one.met[goal] for one in every)}" for goal in ("accuracy", "spread", "cost")]
    counts.append(f"all three {sum(all(one.met.values()) for one in every)}")
    means = [one.mean for one in every if not math.isnan(one.mean)]
    middle = in_points(statistics.median(means)) if means else NOTHING
    name = {"": "Learned", REFIT: "With the refit"}.get(suffix, "In one run")
    text = f"- {name}: met, of {len(every)} settings: {', '.join(counts)}. Median of the means: {middle}."
    chances = [chance for one in every if not math.isnan(chance := precision.chance(one.by_seed, BELOW))]
    if chances:
        equal, signs = f"{sum(chances):.0f} of {len(chances)}", [precision.clear(one.by_seed) for one in every]
        text += f" A method exactly as good as the best of the grid would meet the goal for accuracy in {equal}."
        text += (
            f" The mean is clearly above the best of the grid in {signs.count(1)}, clearly below in {signs.count(-1)}."
        )
    return filled(text)


def favours(found: Sequence[Measured]) -> str:
    """How much better the best of SAM's grid looks because it is chosen by its test accuracy."""
    values = [value for one in found if not math.isnan(value := one.favour("sam"))]
    if not values:
        return EMPTY
    return (
        f"{statistics.fmean(values):.2f} points lower on average over {len(values)} settings, {max(values):.1f} at most"
    )


def one_run(found: Sequence[Measured]) -> str:
    """SAM, learned in one run whose second half trains on all data: the starts compared with the best of the grid."""
    suffix = f"@{RELEASED}"
    rows: list[list[str]] = []
    for one in found:
        best, verdict = one.best("sam"), one.verdict("sam", suffix)
        if best is None or verdict is None:
            continue
        seeds = set(one.of(f"lets-sam:{one.setting.sam_starts[0]}{suffix}")) & set(one.of(best.name))
        alone = one.row("sgd", seeds)
        base = f"{alone.accuracy:.1f}" if alone else NOTHING
        accuracies = f"{best.accuracy:.1f} (`{best.name.split(':')[1]}`)"
        met = "yes" if all(verdict.met.values()) else "no"
        rows.append([one.setting.title, str(len(seeds)), base, accuracies, *_verdict(verdict), met])
    if not rows:
        return EMPTY
    numbers = table(["setting", "seeds", "base", "best of grid", *LEARNED, "goals met"], rows)
    return f"{numbers}\n\n{_count('sam', suffix, found)}"


def validation(found: Sequence[Measured]) -> str:
    """The learned radius with validation data that are not like the training data."""
    names = [f"lets-sam:{START}@{kind}" for kind in (RELEASED, *KINDS)]
    rows: list[list[str]] = []
    for one in found:
        present = [name for name in names if one.of(name)]
        seeds = set[int].intersection(*(set(one.of(name)) for name in [*present, "sgd"]))
        if len(present) < 2 or not seeds:
            continue
        means = {name: one.row(name, seeds) for name in ["sgd", *names]}
        cells = [f"{mean.accuracy:.1f}" if mean else NOTHING for mean in means.values()]
        values = [mean.accuracy for name, mean in means.items() if mean and name != "sgd"]
        rows.append([one.setting.title, str(len(seeds)), *cells, f"{max(values) - min(values):.1f}"])
    if not rows:
        return EMPTY
    close = sum(float(row[-1]) <= APART for row in rows)
    numbers = table(["setting", "seeds", "base", "held out", *KINDS.values(), "range"], rows)
    return f"{numbers}\n\nRange at most {APART:g}: in {close} of {len(rows)} settings."


def ablation(found: Sequence[Measured]) -> str:
    """The default with one rule changed, minus the default, over the seeds of both; in groups, then each setting."""
    default = f"lets-sam:{START}@{RELEASED}"
    names = dict.fromkeys(r.method for one in found for r in one.records if r.method in ABLATED)
    values = {name: {one: one.compared(name, default) for one in found} for name in names}
    values = {name: {one: both for one, both in row.items() if both} for name, row in values.items()}
    if not any(values.values()):
        return EMPTY
    groups: list[tuple[str, list[Measured]]] = [
        ("images, right labels", [one for one in found if not one.setting.text and not one.setting.noise]),
        ("images, wrong labels", [one for one in found if not one.setting.text and one.setting.noise]),
        ("text", [one for one in found if one.setting.text]),
    ]
    rows: list[list[str]] = []
    for name, row in values.items():
        means = [[row[one][0] for one in group if one in row] for _, group in groups]
        cells = [f"{in_points(statistics.fmean(mean))} ({len(mean)})" if mean else NOTHING for mean in means]
        every = [change for mean in means for change in mean]
        counts = [sum(change > CLEAR for change in every), sum(change < -CLEAR for change in every)]
        worst = in_points(min(every)) if every else NOTHING
        cost = f"{statistics.fmean(ratio for _, ratio, _ in row.values()):.2f}" if row else NOTHING
        rows.append([ABLATED[name], *cells, *map(str, counts), worst, cost])
    head = ["changed", *(name for name, _ in groups), f"> +{CLEAR:g}", f"< -{CLEAR:g}", "worst", "passes"]
    numbers = table(head, rows)
    lines = [
        [one.setting.title, *(_changed(values[name].get(one)) for name in values)]
        for one in found
        if any(one in row for row in values.values())
    ]
    return f"{numbers}\n\n{table(['setting', *(ABLATED[name] for name in values)], lines)}"


def _changed(both: tuple[float, float, int] | None) -> str:
    return f"{in_points(both[0])} ({both[2]})" if both else NOTHING


def losses(found: Sequence[Measured]) -> str:
    """The test losses of the refits and of the grid; a loss is what the upper level lowers."""
    rows = [[one.setting.title, *(cell for kind in SCHEDULES for cell in _losses(one, kind))] for one in found]
    rows = [row for row in rows if {*row[1:]} != {NOTHING}]
    if not rows:
        return EMPTY
    head = [f"{kind.upper()}: {name}" for kind in SCHEDULES for name in ("base", "best", "lowest", "refit")]
    counts = [sum(row[place].startswith("**") for row in rows) for place in (4, 8)]
    numbers = table(["setting", *head], rows)
    return f"{numbers}\n\nAt most that of the best, of {len(rows)} settings: SAM {counts[0]}, ASAM {counts[1]}."


def _losses(one: Measured, kind: str) -> list[str]:
    """Losses of the base optimizer, of the best and the lowest of the grid, and of the refit, over common seeds."""
    grid, learned = one.names(kind), [name + REFIT for name in one.names(f"lets-{kind}")]
    seeds = one.seeds(kind).intersection(*(one.of(name) for name in ["sgd", *learned]))
    if not seeds or not learned:
        return [NOTHING] * 4
    values = {name: row.loss for name in ["sgd", *grid, *learned] if (row := one.row(name, seeds))}
    best = one.best(kind)
    assert best is not None  # its seeds are among these
    lowest = min((values[name] for name in grid if not math.isnan(values[name])), default=math.nan)
    refit = statistics.fmean(values[name] for name in learned)
    mark = "**" if refit <= values[best.name] else ""
    cells = [f"{value:.3f}" for value in (values["sgd"], values[best.name], lowest)]
    return [*cells, NOTHING if math.isnan(refit) else f"{mark}{refit:.3f}{mark}"]


def tried(found: Sequence[Measured]) -> str:
    """Ideas for the default compared with it, on the starts and seeds that both have."""
    lines = [(one.setting.title, [_idea(one, name) for name in IDEAS]) for one in found]
    lines = [(title, changes) for title, changes in lines if any(changes)]
    if not lines:
        return EMPTY
    rows = [[t, *(f"{_pair(c[:2])} ({c[2]})" if c else NOTHING for c in changes)] for t, changes in lines]
    columns = ([change[:2] for change in column if change] for column in zip(*(c for _, c in lines), strict=True))
    means = (_pair(map(statistics.fmean, zip(*column, strict=True))) for column in columns)
    rows.append(["mean over its settings", *means])
    return table(["setting", *(idea.title for idea in IDEAS.values())], rows)


def _idea(one: Measured, name: str) -> tuple[float, float, int] | None:
    """(learned, refit) minus those of the default, mean over the starts and seeds of both, and how many these are."""
    changes: list[tuple[float, ...]] = []
    for start in one.setting.sam_starts:
        runs = [[one.of(f"{kind}:{start}{suffix}") for kind in (name, "lets-sam")] for suffix in ("", REFIT)]
        for seed in set[int].intersection(*(set(run) for pair in runs for run in pair)):
            changes.append(tuple(100 * (ours[seed].accuracy - default[seed].accuracy) for ours, default in runs))
    if not changes:
        return None
    learned, refit = map(statistics.fmean, zip(*changes, strict=True))
    return learned, refit, len(changes)


def _pair(values: Iterable[float]) -> str:
    return " / ".join(map(in_points, values)) or NOTHING


def setting(one: Measured) -> str:
    """The heading and the tables of a setting."""
    bests = [(kind, best) for kind in SCHEDULES if (best := one.best(kind))]
    parts = [part for kind, best in bests for part in (_grid(one, kind, best), _methods(one, kind, best))]
    return "\n\n".join([f"## {one.setting.title}", *(parts or ["The grid is not finished yet."])])


def _grid(one: Measured, kind: str, best: Means) -> str:
    """The whole grid in one sentence."""
    seeds = one.seeds(kind)
    cells: list[str] = []
    for name in one.names(kind):
        if row := one.row(name, seeds):
            mark = "**" if name == best.name else ""
            cells.append(f"{name.split(':')[1]}: {mark}{row.accuracy:.1f}{mark}")
    noun = "seed" if best.seeds == 1 else "seeds"
    where = f"test {_titled(one.metric)} ({best.seeds} {noun})"
    return filled(f"{kind.upper()} with fixed radii, {where}: {', '.join(cells)}.")


def _titled(metric: str) -> str:
    """Values are times 100: an accuracy in percent, BLEU as BLEU."""
    return f"{metric} %" if metric == "accuracy" else metric


def _methods(one: Measured, kind: str, best: Means) -> str:
    """A line for each method but the fixed radii."""
    rows: list[list[str]] = []
    for label, name in _lines(one, kind, best):
        row = one.row(name)
        if row is None:
            continue
        accuracy, change = f"{row.accuracy:.1f} ± {row.deviation:.1f}", in_points(one.difference(name, best))
        rho = NOTHING if row.rho is None else f"{row.rho:.2g}"
        passes = f"{row.passes / best.passes:.2f}"
        seconds = f"{row.seconds / best.seconds:.1f}" if best.seconds else NOTHING
        learned = [f"{row.loss:.3f}", f"{row.gap:.2f}", rho, passes, seconds, str(row.seeds)]
        rows.append([label, accuracy, change if name != best.name else "", *learned])
    relative, metric = f"passes (1 = {kind.upper()})", f"test {_titled(one.metric)}"
    head = ["", metric, "minus best of grid", "test loss", "gap", "rho at the end", relative, "time", "seeds"]
    spreads = [
        f"| spread between the starts{', refit' if suffix else ''} | {verdict.spread:.1f} | | | | | | | |"
        for suffix in ("", REFIT)
        if (verdict := one.verdict(kind, suffix))
    ]
    return "\n".join([table(head, rows), *spreads])


def _lines(one: Measured, kind: str, best: Means) -> Iterator[tuple[str, str]]:
    """(label, method) of a table."""
    yield "base optimizer alone", "sgd"
    yield f"best of the grid, `{best.name}`", best.name
    for name in one.names(f"lets-{kind}"):
        yield f"learned, `{name}`", name
        yield "- refit", name + REFIT
    if kind == "sam":
        yield f"the paper's reading, `{PAPER}`", PAPER
        yield "- refit", PAPER + REFIT
    for label, grid in SCHEDULES[kind].items():
        found = one.best(kind, grid)
        if found is not None:
            yield f"best {label}, `{found.name}`", found.name
    if kind == "sam":
        for name, title in TITLES.items():
            found = one.best(kind, name)
            if found is not None:
                yield f"best {title}, `{found.name}`", found.name
        yield f"learned, cheaper, in one run, `{QUICK}`", QUICK
    yield "Optuna, 7 trials and a run", f"optuna-{kind}"
