"""What all benchmarks share: one store, one command, one page maker.

A benchmark is a package with a subclass of `Benchmark`, which gives

- `settings`: what is measured on;
- `units()`: the work, in pieces that are measured in one go, each with a name such as `digits-0.4/sam/0`;
- `measure(unit)`: does one piece and returns its rows (mostly one);
- `sections(rows)` and `figures(rows)`: what is filled into the package's `page.md`.

The rows are in docs/evidence/*.json (`store.py`), and only there: every finished unit is written at once, so that a run
may be killed at any moment and goes on where it was, and the page is made from these files alone. `command.py` is the
command line (`python -m benchmarks.NAME run | status | forget | table`), `page.py` has tables, text and figures,
`training.py` trains a method as `letsam trial` does.
"""

from benchmarks.harness.benchmark import DOCS, ROOT, Benchmark, Row, Unit
from benchmarks.harness.command import main, start

__all__ = ["DOCS", "ROOT", "Benchmark", "Row", "Unit", "main", "start"]
