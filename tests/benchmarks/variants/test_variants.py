"""The benchmark of the variants: what is run, what is kept, and the page that is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.harness import DOCS
from benchmarks.harness.benchmark import missing
from benchmarks.variants.benchmark import Trained, Variants
from benchmarks.variants.errors import Errors, errors_of
from letsam.variants import VARIANTS


def test_every_variant_is_run_fixed_and_learned() -> None:
    names = {unit.name.rpartition("/")[0] for unit in Variants().units()}
    for place in ("digits-0.0", "digits-0.4", "fashion-cnn-0.4"):
        assert {f"{place}/{prefix}{name}" for name in VARIANTS for prefix in ("", "lets-")} <= names
    assert {"fashion-resnet-0.4/samon", "fashion-resnet-0.4/lets-samon"} <= names
    assert {f"errors/{name}" for name in VARIANTS} <= names


def test_a_run_is_kept_and_not_made_again(tmp_path: Path) -> None:
    """A variant that the model has no layers for says so, and is not tried again either."""
    variants = Variants(quick=True)
    variants.docs = tmp_path
    todo = variants.units()
    chosen = [
        unit for unit in todo if unit.name.split("/")[1] in ("sam", "lets-gsam", "samon") and "errors" not in unit.name
    ]
    variants.run(chosen)
    rows = {row.method: row for row in variants.read() if isinstance(row, Trained)}
    assert list(rows) == ["lets-gsam", "lets-gsam+refit", "sam", "samon"]
    assert rows["lets-gsam"].passes > rows["sam"].passes > 0
    assert rows["samon"].not_run_because is not None
    assert "normalisation layers" in rows["samon"].not_run_because
    left = missing(todo, variants.read())
    assert [unit for unit in todo if unit not in left] == chosen

    variants.make_page()
    text = (tmp_path / "variants.md").read_text()
    assert f"| sam | {100 * rows['sam'].accuracy:.1f} | 1.00 | 1.00 | - | - | - | - |" in text
    assert f"| gsam | - | - | - | {100 * rows['lets-gsam+refit'].accuracy:.1f} |" in text
    assert "Left out: samon: `model` must have normalisation layers" in text
    assert all(f"`letsam.{kind.__name__}`" in text for kind in VARIANTS.values())
    assert text.count("Not measured yet.") == 4


def not_measured() -> set[str]:
    """Variants without any results; they get a row on the page when the benchmark, which takes long, has been run."""
    return set(VARIANTS) - {row.variant for row in Variants().read() if isinstance(row, Errors)}


def test_the_results_are_complete_and_survive_a_round_trip(tmp_path: Path) -> None:
    rows = Variants().read()
    left = {unit.name.split("/")[1].removeprefix("lets-") for unit in missing(Variants().units(), rows)}
    assert left <= not_measured()
    Variants(tmp_path).write(rows[::-1])
    assert (tmp_path / "evidence" / "variants.json").read_bytes() == (DOCS / "evidence" / "variants.json").read_bytes()


def test_the_page_is_what_its_command_makes(tmp_path: Path) -> None:
    variants = Variants(tmp_path)
    variants.write(Variants().read())
    variants.make_page()
    new = tuple(f"| `{name}` |" for name in not_measured())
    made, committed = (
        [line for line in (docs / "variants.md").read_text(encoding="utf-8").split("\n") if not line.startswith(new)]
        for docs in (tmp_path, DOCS)
    )
    assert made == committed


@pytest.mark.slow
def test_the_secant_is_better_on_a_shorter_way(tmp_path: Path) -> None:
    measured = {(name, rho): errors_of(name, rho) for name in ("sam", "wsam", "looksam") for rho in (1e-3, 0.1)}
    for name in ("sam", "wsam", "looksam"):
        near, far = measured[name, 1e-3], measured[name, 0.1]
        assert near.count >= 5
        assert near.secant["error"] < 0.05 < near.diagonal["error"]
        assert near.secant["error"] < far.secant["error"]
    variants = Variants(tmp_path)
    variants.write(list[Trained | Errors](measured.values()))
    variants.make_page()
    assert f"{measured['sam', 0.1].secant['error']:.2g}" in (tmp_path / "variants.md").read_text()
