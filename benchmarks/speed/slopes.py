"""The section on forward-mode derivatives."""

from __future__ import annotations

from benchmarks.speed.forward import BATCHES, WAYS
from benchmarks.speed.table import filled, named, table
from benchmarks.speed.turns import Rows

ACCURATE = 0.01  # the relative error in float32 up to which a way may pay
TEXT = """\
## The validation pass without a backward

`python -m benchmarks.speed run forward`

A learned radius needs of the validation batch the loss, and the derivative of the loss along Z. A backward gives it as
a dot product; forward-mode differentiation (`torch.func.jvp`) and the difference of two forward passes give it without
one. The networks are those of the whole steps after some steps of SAM, and Z is that of the next step by the secant.
Errors are relative to the dot product in float64 at the same weights, medians over {batches} batches; *best* is the
least error of seven steps of the difference, which are not known beforehand.

- Neither gives the length of the validation gradient, by which `LearnedRadius` divides (`normalize=True`): only
  `normalize=False` could use them.
- `jvp` does not work everywhere: in torch 2.13 the flash attention of the CPU has no forward-mode derivative, so it is
  replaced by the plain one here, and buffers that change in place must be handed in as copies.
"""


def section(found: dict[str, Rows]) -> str:
    """What pays, and the table."""
    rows = [
        [
            f"{name.removeprefix('forward/')}, {way}",
            f"{row['ms']:.3g} ({row['ratio']:.2f})",
            _error(row, "float32"),
            _error(row, "best float32"),
            _error(row, "float64"),
            _error(row, "best float64"),
        ]
        for name, measured in found.items()
        for way, row in measured.items()
    ]
    head = ["", "ms (of a backward)", "error, float32", "best", "error, float64", "best"]
    return "\n".join([TEXT.format(batches=BATCHES), f"{_verdict(found)}\n", f"{table(head, rows)}\n"])


def _error(row: dict[str, float], key: str) -> str:
    return f"{row[key]:.1e}" if row.get(key) else ""


def _verdict(found: dict[str, Rows]) -> str:
    """A way pays where it is faster than a backward and accurate."""
    said: list[str] = []
    for way in list(WAYS)[1:]:
        ratios = [rows[way]["ratio"] for rows in found.values()]
        errors = [rows[way]["float32"] for rows in found.values()]
        pays = [
            name.removeprefix("forward/")
            for name, rows in found.items()
            if rows[way]["ratio"] < 1 and rows[way]["float32"] < ACCURATE
        ]
        said.append(
            f"`{way}` takes {min(ratios):.2f} to {max(ratios):.2f} times as long as a backward, with errors of "
            f"{min(errors):.1e} to {max(errors):.1e} in float32: it pays on {named(pays) if pays else 'none of them'}"
        )
    saved = 1 - min(row["ratio"] for rows in found.values() for row in rows.values())
    return filled(
        f"The goal is an option where it is faster and the error in float32 is below {ACCURATE:.0%}. "
        + ". ".join(said)
        + f". At most {saved:.0%} of a pass would be saved in each update: {saved / 3:.0%} of a step with "
        f"`interval=1`, {saved / 4 / 2.25:.0%} with the default of one in four; and the cosine with Z, which the "
        "default radius moves by, would be lost. Neither is in the library."
    )
