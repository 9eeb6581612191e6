"""docs/evidence.md: the text, one table over all settings, and compact tables of each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator

from benchmarks.evidence.beside import PAPER, SCHEDULES, tuned, untuned
from benchmarks.evidence.figures import write_figures
from benchmarks.evidence.records import ROOT, Store
from benchmarks.evidence.summary import (
    BELOW,
    COST,
    SPREAD,
    Measured,
    Row,
    Verdict,
    head,
    in_points,
    measured,
    measured_clipped,
    relative_to,
)
from benchmarks.evidence.tried import IDEAS
from letsam.reports.table import NOTHING
from letsam.results import write_atomically
from letsam.training.methods import REFIT

LEARNED = ("mean", "worst start", "spread", "cost")
TEXT = ROOT / "docs" / "evidence" / "text.md"


def write_page(store: Store) -> None:
    """Make the page and its figures from the kept results and docs/evidence/text.md."""
    found, clipped = measured(store), measured_clipped(store)
    figures = write_figures(found, store.kept)
    parts = [
        TEXT.read_text(encoding="utf-8"),
        "## All settings",
        *("\n".join(_overview(kind, found)) for kind in ("sam", "asam") if any(one.best(kind) for one in found)),
    ]
    sections = (_clipped(clipped), _losses(found), tuned(found), untuned(found), _tried(found))
    parts += [text for section in sections if (text := "\n".join(section))]
    parts += [f"![{alt}]({relative_to(store.page, path)})" for path, alt in figures]
    parts += [_setting(one) for one in [*found, *clipped]]
    write_atomically(store.page, "\n\n".join(part.strip() for part in parts) + "\n")


def _overview(kind: str, found: list[Measured]) -> Iterator[str]:
    """All settings in one table."""
    yield f"### {kind.upper()}\n"
    yield (
        "Learned minus best of the grid in points, mean over the starts and for the worst of them; goals: worst at "
        f"least -{BELOW}, spread between the starts below {SPREAD}, at most {COST['']} times the passes of one "
        f"{kind.upper()} run ({COST[REFIT]} with the refit). Bold: met. Base: the base optimizer alone.\n"
    )
    yield from _verdicts(kind, found)
    yield ""
    yield from (_count(kind, suffix, found) for suffix in ("", REFIT))


def _clipped(found: list[Measured]) -> Iterator[str]:
    """The same columns for settings with clipped gradients."""
    for kind in SCHEDULES:
        if any(one.best(kind) for one in found):
            yield f"### {kind.upper()}, gradients clipped\n"
            yield (
                "The network that breaks down now and then, with the gradients of all methods clipped at a total norm "
                "of 1 (`max_grad_norm`). Not counted above.\n"
            )
            yield from _verdicts(kind, found)
            yield ""


def _verdicts(kind: str, found: list[Measured]) -> Iterator[str]:
    """A line a setting: the best of the grid, and how the starts do beside it."""
    yield from head(
        "setting", "seeds", "base", "best of grid", *LEARNED, *(f"refit: {name}" for name in LEARNED), "goals met"
    )
    for one in found:
        best = one.best(kind)
        verdicts = [one.verdict(kind, suffix) for suffix in ("", REFIT)]
        if best is None:
            continue
        alone = one.row("sgd", one.seeds(kind))
        cells = [
            one.setting.title,
            str(best.seeds),
            f"{alone.accuracy:.1f}" if alone else NOTHING,
            f"{best.accuracy:.1f} (`{best.name.split(':')[1]}`)",
        ]
        for verdict in verdicts:
            cells += _verdict_cells(verdict)
        cells.append(_goals(verdicts))
        yield "| " + " | ".join(cells) + " |"


def _count(kind: str, suffix: str, found: list[Measured]) -> str:
    """How many settings meet each goal, in a line."""
    verdicts = [verdict for one in found if (verdict := one.verdict(kind, suffix))]
    counts = [f"{goal} {sum(one.met[goal] for one in verdicts)}" for goal in ("accuracy", "spread", "cost")]
    counts.append(f"all three {sum(all(one.met.values()) for one in verdicts)}")
    means = [one.mean for one in verdicts if not math.isnan(one.mean)]
    middle = in_points(statistics.median(means)) if means else NOTHING
    name = "With the refit" if suffix else "Learned"
    return f"- {name}: met, of {len(verdicts)} settings: {', '.join(counts)}. Median of the means: {middle}."


def _losses(found: list[Measured]) -> Iterator[str]:
    """What the upper level lowers, beside that of the grid, in one table."""
    lines = [(one.setting.title, [cell for kind in SCHEDULES for cell in _loss(one, kind)]) for one in found]
    lines = [(title, cells) for title, cells in lines if {*cells} != {NOTHING}]
    if not lines:
        return
    yield "### Test loss\n"
    yield (
        "The upper level lowers the loss, on held-out labels that are as noisy as the rest; the test labels are clean. "
        "Best, lowest: of the grid, by accuracy and by this loss. The refit is the mean over the starts; bold: at most "
        f"that of the best; {NOTHING}: a run whose loss is not finite.\n"
    )
    names = ("base", "best", "lowest", "refit")
    yield from head("setting", *(f"{kind.upper()}: {name}" for kind in SCHEDULES for name in names))
    for title, cells in lines:
        yield f"| {title} | " + " | ".join(cells) + " |"
    yield ""
    counts = [sum(cells[place].startswith("**") for _, cells in lines) for place in (3, 7)]
    yield f"At most that of the best, of {len(lines)} settings: SAM {counts[0]}, ASAM {counts[1]}."


def _loss(one: Measured, kind: str) -> list[str]:
    """Of the base optimizer, the best and the lowest of the grid and the refit, over the seeds that all have."""
    grid, learned = one.names(kind), [name + REFIT for name in one.names(f"lets-{kind}")]
    seeds = one.seeds(kind).intersection(*(one.of(name) for name in ["sgd", *learned]))
    if not seeds or not learned:
        return [NOTHING] * 4
    losses = {name: row.loss for name in ["sgd", *grid, *learned] if (row := one.row(name, seeds))}
    best = one.best(kind)
    assert best is not None  # its seeds are among these
    lowest = min((losses[name] for name in grid if not math.isnan(losses[name])), default=math.nan)
    refit = statistics.fmean(losses[name] for name in learned)
    cells = [f"{value:.3f}" for value in (losses["sgd"], losses[best.name], lowest)]
    mark = "**" if refit <= losses[best.name] else ""
    return [*cells, NOTHING if math.isnan(refit) else f"{mark}{refit:.3f}{mark}"]


def _tried(found: list[Measured]) -> Iterator[str]:
    """Ideas for the default beside it, on the starts and seeds that both have."""
    lines = [(one.setting.title, [_idea(one, name) for name in IDEAS]) for one in found]
    lines = [(title, changes) for title, changes in lines if any(changes)]
    if not lines:
        return
    yield "### Ideas that were tried here\n"
    yield (
        "SAM with a changed default minus the default, in points: learned / with the refit, mean over the first and "
        "the last start and up to three seeds; in brackets how many runs. `run --family tried` makes them.\n"
    )
    yield from (f"- {idea.title}: {idea.predicts}" for idea in IDEAS.values())
    yield ""
    yield from head("setting", *(idea.title for idea in IDEAS.values()))
    for title, changes in lines:
        cells = (f"{_pair(change[:2])} ({change[2]})" if change else NOTHING for change in changes)
        yield f"| {title} | " + " | ".join(cells) + " |"
    columns = ([change[:2] for change in column if change] for column in zip(*(c for _, c in lines), strict=True))
    means = (_pair(map(statistics.fmean, zip(*column, strict=True))) for column in columns)
    yield "| mean over its settings | " + " | ".join(means) + " |"


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


def _verdict_cells(verdict: Verdict | None) -> list[str]:
    if verdict is None:
        return [NOTHING] * 4
    texts = [in_points(verdict.worst), f"{verdict.spread:.1f}", f"{verdict.cost:.2f}"]
    marked = [f"**{text}**" if met else text for text, met in zip(texts, verdict.met.values(), strict=True)]
    return [in_points(verdict.mean), *marked]


def _goals(verdicts: list[Verdict | None]) -> str:
    """Which form meets all of them."""
    met = [verdict.suffix for verdict in verdicts if verdict and all(verdict.met.values())]
    if not any(verdicts):
        return NOTHING
    return {(): "no", ("",): "yes", (REFIT,): "with refit", ("", REFIT): "yes, both"}[tuple(met)]


def _setting(one: Measured) -> str:
    """The heading and the tables of a setting."""
    parts = [f"## {one.setting.title}"]
    for kind in ("sam", "asam"):
        best = one.best(kind)
        if best is not None:
            parts += [_grid(one, kind, best), "\n".join(_table(one, kind, best))]
    if len(parts) == 1:
        parts.append("The grid is not finished yet.")
    return "\n\n".join(parts)


def _grid(one: Measured, kind: str, best: Row) -> str:
    """The whole grid in one line."""
    seeds = one.seeds(kind)
    cells: list[str] = []
    for name in one.names(kind):
        if row := one.row(name, seeds):
            mark = "**" if name == best.name else ""
            cells.append(f"{name.split(':')[1]}: {mark}{row.accuracy:.1f}{mark}")
    noun = "seed" if best.seeds == 1 else "seeds"
    return (
        f"{kind.upper()} with fixed radii, test {_titled(one.metric)} ({best.seeds} {noun}): " + ", ".join(cells) + "."
    )


def _titled(metric: str) -> str:
    """Values are times 100: an accuracy in percent, BLEU as BLEU."""
    return f"{metric} %" if metric == "accuracy" else metric


def _table(one: Measured, kind: str, best: Row) -> Iterator[str]:
    relative = f"passes (1 = {kind.upper()})"
    accuracy = f"test {_titled(one.metric)}"
    yield from head("", accuracy, "minus best of grid", "test loss", "gap", "rho at the end", relative, "time", "seeds")
    for label, name in _lines(one, kind, best):
        row = one.row(name)
        if row is None:
            continue
        cells = [
            label,
            f"{row.accuracy:.1f} ± {row.deviation:.1f}",
            in_points(one.difference(name, best)[0]) if name != best.name else "",
            f"{row.loss:.3f}",
            f"{row.gap:.2f}",
            NOTHING if row.rho is None else f"{row.rho:.2g}",
            f"{row.passes / best.passes:.2f}",
            f"{row.seconds / best.seconds:.1f}" if best.seconds else NOTHING,
            str(row.seeds),
        ]
        yield "| " + " | ".join(cells) + " |"
    for suffix in ("", REFIT):
        verdict = one.verdict(kind, suffix)
        if verdict:
            label = "spread between the starts" + (", refit" if suffix else "")
            yield f"| {label} | {verdict.spread:.1f} | | | | | | | |"


def _lines(one: Measured, kind: str, best: Row) -> Iterator[tuple[str, str]]:
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
    yield "Optuna, 7 trials and a run", f"optuna-{kind}"
