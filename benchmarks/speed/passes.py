"""The section on whole steps."""

from __future__ import annotations

from benchmarks.speed.networks import NETWORKS
from benchmarks.speed.table import filled, named, table
from benchmarks.speed.turns import Rows
from benchmarks.speed.whole import CONTENDERS, EACH, OURS, PARTS, PROFILED, REFERENCE, ROUNDS, TENTH

GOALS = {  # of what, in units of what, at most
    "SAM beside two passes and SGD": (OURS, "ratio", 1.02),
    "LETS-SAM with `interval=1` beside SAM": (EACH, "to SAM", 1.55),
    "LETS-SAM with `interval=10` beside SAM": (TENTH, "to SAM", 1.08),
}
TEXT = """\
## Whole steps

`python -m benchmarks.speed run whole`

{what}

- **two passes and SGD**: the least that SAM can cost; SGD has momentum, and works by `foreach`.
- **LETS-SAM**: `LearnedRadius` with the secant, the training loss on the next batch, and an update in every step or in
  every tenth; *the paper's* is `LearnedRadius.paper`.
- **four passes written out**: the paper's step without any library: both gradients of SAM, then the validation and the
  training gradient at the new weights; the curvature is its diagonal.
- **betty-ml**: the same bilevel problem told to a library for such problems: below, the loss at the perturbed weights;
  above, rho and the squared gap. Its way to the hypergradient (darts) evaluates the lower level twice more.
  Version 0.1.1 works with torch 2.13, but pip refuses its metadata since 24.1, and later versions want Python before
  3.11; so it is in none of letsam's extras: `pip install --no-deps betty-ml==0.1.1` with an older pip.

![Time of a step, in units of two passes and SGD](images/speed-steps.png)
"""
WHAT = (
    "Passes included, with batches of random images: {networks}. A third pass in every step makes 1.5 of SAM's two, "
    "one in every tenth step 1.05; the rest is overhead. {rounds} rounds of {turns} steps each."
)
PROFILE = """\
What is outside of the passes, in hundredths of two passes and SGD, timed within {steps} more steps: *ascent* are norm,
copy of the weights, perturbation, and for LETS-SAM the radius; *way back* restores the weights; *protection* keeps what
undoing a bad step needs; *buffers* holds buffers and random numbers, so that all passes see the same; *clearing* frees
the gradients of the pass before, which without letsam is part of the next pass; *rest* is the check that a step is
finite, and for LETS-SAM the curvature.
"""


def section(found: dict[str, Rows]) -> str:
    """Goals, ratios, profile."""
    names = {name: name.removeprefix("whole/") for name in found}
    networks = [
        f"{short} ({found[name][REFERENCE]['weights'] / 1e6:.2f}M weights, {NETWORKS[short][1][0]} images)"
        for name, short in names.items()
    ]
    what = WHAT.format(networks=named(networks), rounds=ROUNDS, turns=CONTENDERS[OURS][1])
    text = TEXT.format(what=filled(what))
    head = ["", *names.values()]
    ratios = [[contender, *(_cell(found[name].get(contender)) for name in names)] for contender in CONTENDERS]
    shares = [
        [f"{contender}: {part}", *(f"{100 * found[name][contender][part]:.1f}" for name in names)]
        for contender in (OURS, EACH)
        for part in (*PARTS, "rest")
    ]
    goals = "\n".join(_goal(goal, found) for goal in GOALS)
    return "\n".join(
        [
            text,
            f"{goals}\n",
            "Milliseconds of a step, in units of two passes and SGD, and of SAM:\n",
            f"{table(head, ratios)}\n",
            PROFILE.format(steps=PROFILED),
            f"{table(head, shares)}\n",
        ]
    )


def _goal(goal: str, found: dict[str, Rows]) -> str:
    """Where it is met, and by how much it is missed elsewhere and what the time goes to."""
    contender, unit, limit = GOALS[goal]
    values = {name.removeprefix("whole/"): rows[contender][unit] for name, rows in found.items()}
    met = [f"{name} ({value:.3f})" for name, value in values.items() if value <= limit]
    missed = [f"{name} by {value - limit:.3f} ({value:.3f})" for name, value in values.items() if value > limit]
    said = [f"met on {named(met)}"] if met else []
    if missed:
        said.append(f"missed on {named(missed)}")
        said.append(_reasons([name for name, value in values.items() if value > limit], contender, found))
    return filled(f"- **{goal}, at most {limit}**: {'; '.join(said)}.")


def _reasons(names: list[str], contender: str, found: dict[str, Rows]) -> str:
    if contender == TENTH:
        contender = OURS
    reasons: list[str] = []
    for name in names:
        shares = {part: found[f"whole/{name}"][contender][part] for part in (*PARTS, "rest") if part != "SGD"}
        largest = sorted(shares, key=lambda part: -shares[part])
        reasons.append(
            f"{100 * sum(shares.values()):.1f}% on {name}"
            f" ({', '.join(f'{part} {100 * shares[part]:.1f}%' for part in largest[:3])})"
        )
    return f"outside of its passes and SGD, {contender} spends, of two passes and SGD, {named(reasons)}"


def _cell(row: dict[str, float] | None) -> str:
    return f"{row['ms']:.3g} ({row['ratio']:.3f}, {row['to SAM']:.3f})" if row else ""
