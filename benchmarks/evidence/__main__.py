"""The evidence table: does a learned radius do as well as the best of a grid?

    python -m benchmarks.evidence run [digits-0.0 digits-0.4 fashion-mnist-0.0 fashion-mnist-0.4]
    python -m benchmarks.evidence table

`run` makes the trials under runs/evidence (resumable: what is finished is kept) and writes their results, without the
curves, to docs/evidence/*.json. `table` makes docs/evidence.md from these files alone. One thread each, so that
settings can run side by side. Fashion-MNIST: the Debian package `dataset-fashion-mnist`, or LETSAM_DATA.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from letsam.reports.table import markdown_table
from letsam.results import Results, Run, summarize, write_atomically

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "docs" / "evidence"
PAGE = ROOT / "docs" / "evidence.md"
GRID = ("0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1.0")
STARTS = ("0.02", "0.1", "0.5")
TASKS = {"digits": [], "fashion-mnist": ["--train-size", "2000"]}
NOISES = ("0.0", "0.4")
SETTINGS = tuple(f"{task}-{noise}" for task in TASKS for noise in NOISES)

# Two trials a setting: the paper's reading holds out data too, but its refits are left out to save time.
TRIALS = {
    "main": (["sgd", *(f"sam:{rho}" for rho in GRID), *(f"lets-sam:{rho}" for rho in STARTS)], "--refit"),
    "paper": ([f"lets-paper-sam:{rho}" for rho in STARTS], "--no-refit"),
}


def run(setting: str) -> None:
    """Run, or complete, both trials of a setting and keep what the table needs."""
    task, _, noise = setting.rpartition("-")
    results: Results | None = None
    for name, (methods, refit) in TRIALS.items():
        out = ROOT / "runs" / "evidence" / f"{setting}-{name}"
        arguments = ["--methods", ",".join(methods), "--label-noise", noise, "--out", str(out), "--resume", refit]
        command = [sys.executable, "-m", "letsam", "trial", task, *TASKS[task], "--seeds", "3", *arguments]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        part = Results.load(out / "results.json")
        for one in part.runs:
            results = (results or dataclasses.replace(part, runs=())).with_run(_without_curves(one))
    assert results is not None
    config = {key: results.config[key] for key in ("epochs", "label_noise", "seeds", "train_size", "validation_share")}
    environment = {
        key: results.environment[key] for key in ("letsam", "torch", "python", "platform", "device", "threads")
    }
    dataclasses.replace(results, config=config, environment=environment).save(KEPT / f"{setting}.json")


def _without_curves(run: Run) -> Run:
    history = {name: column[-1:] for name, column in run.history.items() if name != "rho_schedule"}
    return dataclasses.replace(run, history=history)


def table() -> None:
    """Write docs/evidence.md from docs/evidence/*.json and the text in docs/evidence/text.md."""
    parts = [(KEPT / "text.md").read_text()]
    for setting in SETTINGS:
        results = Results.load(KEPT / f"{setting}.json")
        task, _, noise = setting.rpartition("-")
        size = f", {results.config['train_size']:,} labels" if results.config["train_size"] else ""
        parts.append(
            f"## {task}{size}, {float(noise):.0%} label noise\n\n{_summary(results)}\n\n{markdown_table(results)}"
        )
    write_atomically(PAGE, "\n".join(part.rstrip() + "\n" for part in parts))


def _summary(results: Results) -> str:
    """Best of the grid, and each learned start beside it, in points."""
    rows = {row.method: row for row in summarize(results)}
    best = max((row for name, row in rows.items() if name.startswith("sam:")), key=lambda row: row.test_accuracy)
    lines = [f"Best of the grid: `{best.method}`, {100 * best.test_accuracy:.1f}%. Learned minus best of the grid:\n"]
    for family in ("lets-sam", "lets-paper-sam"):
        for suffix in ("", "+refit"):
            names = [f"{family}:{rho}{suffix}" for rho in STARTS]
            if all(name in rows for name in names):
                gains = [100 * (rows[name].test_accuracy - best.test_accuracy) for name in names]
                starts = ", ".join(f"{gain:+.1f} (from {rho})" for gain, rho in zip(gains, STARTS, strict=True))
                lines.append(f"- `{family}{suffix}`: {starts}; spread between the starts {max(gains) - min(gains):.1f}")
    return "\n".join(lines)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument("settings", nargs="*", help=f"of {', '.join(SETTINGS)}; all without")
    arguments = parser.parse_args()
    if unknown := set(arguments.settings) - set(SETTINGS):
        parser.error(f"unknown settings {', '.join(sorted(unknown))}, expected {', '.join(SETTINGS)}")
    if arguments.action == "table":
        table()
        return
    for setting in arguments.settings or SETTINGS:
        run(setting)


if __name__ == "__main__":
    main()
