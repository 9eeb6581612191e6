"""Check that two checkouts of letsam compute the same results, to the last digit.

Run one part in each checkout, then compare what was written:

    python tools/same_results.py digits CHECKOUT before.json
    python tools/same_results.py digits OTHER_CHECKOUT after.json
    python tools/same_results.py compare before.json after.json

`digits` takes about four minutes on one core. It trains every method of `letsam methods` on digits with label noise,
a part of them also with accumulation, with clipping and in mixed precision, and a few on a network with BatchNorm and
on a text model with AdamW. Every run has more than 130 steps, so that the radius is updated after its burn-in of 100.

`suite` trains the cheapest learned run of each setting of the evidence, which takes longer; `--short` trains for fewer
epochs. Two files of it are compared in the same way. `committed` compares whole runs with the numbers in docs/evidence,
which have five significant digits. Those numbers depend on the kind of CPU, even for SGD: on another kind than the one
that made them they differ for every checkout.

    python tools/same_results.py suite CHECKOUT suite.json
    python tools/same_results.py committed suite.json CHECKOUT/docs/evidence

`--only NAME ...` runs the trials or settings whose names contain one of these, and keeps what else is in the file.

Everything runs through `python -m letsam trial`, with the source of the checkout and the interpreter of this script.
The environment variable LETSAM_DATA names the folder with the data sets. A method that is refused, or whose data are
missing, is written down with its message; nothing is skipped silently.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Run = dict[str, Any]
Trial = tuple[str, Sequence[str], Sequence[str]]
"""Its name, the arguments of `letsam trial`, and the methods."""

DIGITS = ("digits", "--label-noise", "0.4", "--epochs", "12")  # 14 steps an epoch when learned, 15 otherwise
FIXED = ("sgd", "sam", "asam", "sam-layerwise", "gsam", "looksam", "msam", "subbatchsam")
VARIED = (("--accumulate", "2"), ("--max-grad-norm", "1"))  # with these: all learned methods and those of FIXED
FEW = ("sgd", "sam", "lets-sam", "lets-asam")
RESNET = ("fashion-mnist", "--model", "resnet", "--train-size", "320", "--epochs", "35")
TEXT = ("movie-snippets", "--model", "small", "--train-size", "400", "--epochs", "13")
# Epochs of the short suite by a part of the setting's name; the others are short already.
SHORT = {"fashion-10k": 2, "fashion": 6, "ding": 3, "mnist": 4, "digits": 12, "small": 3, "reviews": 3}

NOT_COMPARED = ("seconds",)  # of a run: differs each time
KEPT_DIGITS = 5  # significant digits of the numbers in docs/evidence
KEPT_POINTS = 20  # radii of a schedule that are kept there, evenly spaced
KEPT_NAMES = {
    "accuracy": "test_accuracy",
    "loss": "test_loss",
    "train_loss": "train_loss",
    "gap": "generalization_gap",
    "rho": "rho_final",
    "passes": "gradient_passes",
}


def letsam(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m letsam` with the source of a checkout, on one thread."""
    path = os.pathsep.join(filter(None, (str(checkout / "src"), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "letsam", *arguments]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)


def all_methods(checkout: Path) -> list[str]:
    """The names that `letsam methods` lists before it explains how a radius is given."""
    listing = letsam(checkout, "methods")
    names = re.findall(r"^([a-z][a-z0-9-]*) +\S", listing.stdout.split("\nWith a radius")[0], re.MULTILINE)
    if not names:
        sys.exit(f"`letsam methods` lists nothing in {checkout}: {listing.stderr}")
    return names


def trial(checkout: Path, arguments: Sequence[str], methods: Sequence[str]) -> dict[str, Run]:
    """Run a trial of seed 0; the runs by method, `{"error": message}` for a method that could not be run."""
    waiting, runs = list(methods), dict[str, Run]()
    while waiting:
        with tempfile.TemporaryDirectory() as folder:
            options = ("--methods", ",".join(waiting), "--seeds", "1", "--device", "cpu", "--out", folder)
            done = letsam(checkout, "trial", *arguments, *options)
            file = Path(folder) / "results.json"
            finished: list[Run] = json.loads(file.read_text(encoding="utf-8"))["runs"] if file.exists() else []
        runs |= {run["method"]: run for run in finished}
        waiting = [method for method in waiting if method not in runs]
        if waiting:  # methods run in their order, so the first that is missing is the one that stopped the trial
            message = (done.stderr.strip().splitlines() or ["no message"])[-1]
            runs[waiting.pop(0)] = {"error": f"exit status {done.returncode}: {message}"}
    return runs


def digits(checkout: Path) -> Iterator[Trial]:
    """Every method on digits, then parts of them under other options."""
    # SAM-ON needs normalization layers; a trial that has it on another network is refused as a whole
    methods = [method for method in all_methods(checkout) if "samon" not in method]
    varied = [method for method in methods if method.startswith("lets-") or method in FIXED]
    trials: list[tuple[Sequence[str], Sequence[str]]] = [
        (DIGITS, methods),
        *(((*DIGITS, *options), varied) for options in VARIED),
        ((*DIGITS, "--rho", "0.1", "--batch-size", "32"), FEW),
        ((*DIGITS, "--precision", "bf16-mixed"), FEW),
        (RESNET, ("sam", "lets-sam", "samon", "lets-samon")),  # SAM-ON needs normalization layers
        (TEXT, (*FEW, "asam", "lets-gsam", "lets-looksam")),
    ]
    for arguments, names in trials:
        yield " ".join(arguments), arguments, names


def suite(checkout: Path, short: bool) -> Iterator[Trial]:
    """The cheapest learned run of each setting in docs/evidence, without refit."""
    for file in sorted((checkout / "docs" / "evidence").glob("*.json")):
        value = json.loads(file.read_text(encoding="utf-8"))
        if "setting" not in value:
            continue
        config: dict[str, Any] = value["config"]
        if short and (epochs := next((n for part, n in SHORT.items() if part in value["setting"]), None)):
            config |= {"epochs": epochs}
        names = ("label_noise" if name == "noise" else name for name in config)
        options = [
            f"--{name.replace('_', '-')}={option}"
            for name, option in zip(names, config.values(), strict=True)
            if name != "task" and option is not None
        ]
        learned = [run for run in value["runs"] if re.fullmatch(r"lets-a?sam:[0-9.]+", run["method"])]
        chosen = min((run for run in learned if run["seed"] == 0), key=lambda run: run["seconds"])
        yield value["setting"], (config["task"], *options, "--no-refit"), (chosen["method"],)


def write(checkout: Path, file: Path, trials: Iterator[Trial], only: Sequence[str]) -> None:
    """Run trials, and write what is finished after each of them."""
    where = Path(letsam_file(checkout))
    if not where.is_relative_to(checkout / "src"):
        sys.exit(f"letsam is imported from {where}, not from {checkout}")
    results: dict[str, dict[str, Run]] = json.loads(file.read_text(encoding="utf-8")) if only and file.exists() else {}
    for name, arguments, methods in trials:
        if only and not any(part in name for part in only):
            continue
        started = time.perf_counter()
        runs = results[name] = trial(checkout, arguments, methods)
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {len(runs)} runs, {time.perf_counter() - started:.0f} s", flush=True)
        for method, run in runs.items():
            if "error" in run:
                print(f"  {method} was not run: {run['error']}", flush=True)


def letsam_file(checkout: Path) -> str:
    """The file that `import letsam` reads with the source of the checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, "-c", "import letsam; print(letsam.__file__)"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def difference(one: Any, other: Any, name: str = "run") -> str | None:
    """The first value in which two JSON values differ, or None; numbers must be equal to the last digit."""
    if isinstance(one, dict) and isinstance(other, dict):
        if fields := one.keys() ^ other.keys():
            return f"{name}: only one of the two has {', '.join(sorted(fields))}"
        parts = ((one[key], other[key], f"{name}.{key}") for key in one)
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return f"{name} has {len(one)} and {len(other)} entries"
        parts = ((a, b, f"{name}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True)))
    else:
        return None if one == other and type(one) is type(other) else f"{name} is {one!r} and {other!r}"
    return next((found for part in parts if (found := difference(*part))), None)


def verdict(one: Run | None, other: Run | None) -> str:
    """What to print of two runs: "equal", "not run in both", or "DIFFERENT" with the first difference."""
    if one is None or other is None:
        return f"DIFFERENT: only in the {'second' if one is None else 'first'}"
    if "error" in one and "error" in other:
        return "not run in both" + ("" if one == other else f": {one['error']!r} and {other['error']!r}")
    if "error" in one or "error" in other:
        return f"DIFFERENT: not run in the {'first' if 'error' in one else 'second'}: {(one | other)['error']}"
    compared = [{name: value for name, value in run.items() if name not in NOT_COMPARED} for run in (one, other)]
    # records of a later version may have more fields; what both have is compared
    added = sorted(compared[0].keys() ^ compared[1].keys())
    found = difference(*({name: run[name] for name in run.keys() - added} for run in compared))
    only = f" (only one has {', '.join(added)})" if added else ""
    return f"DIFFERENT: {found}" if found else f"equal to the last digit{only}"


def summary(verdicts: Sequence[str]) -> bool:
    """Print how many runs are equal, different and not run; whether none is different and some are equal."""
    counts = {word: sum(line.startswith(word) for line in verdicts) for word in ("equal", "DIFFERENT", "not run")}
    print(", ".join(f"{count} {word}" for word, count in counts.items()))
    return counts["equal"] > 0 and counts["DIFFERENT"] == 0


def compare(first: Path, second: Path) -> bool:
    """Print a line for each run of two files; whether all are the same."""
    one, other = (json.loads(file.read_text(encoding="utf-8")) for file in (first, second))
    verdicts: list[str] = []
    for name in dict.fromkeys((*one, *other)):
        print(name)
        ours, theirs = one.get(name, {}), other.get(name, {})
        for method in dict.fromkeys((*ours, *theirs)):
            verdicts.append(verdict(ours.get(method), theirs.get(method)))
            print(f"  {method}: {verdicts[-1]}")
    return summary(verdicts)


def kept(run: Run) -> Run:
    """A run as docs/evidence keeps it: fewer fields, rounded numbers, at most 20 radii."""
    schedule, last = run["history"]["rho_schedule"], len(run["history"]["rho_schedule"]) - 1
    curve = [schedule[round(i * last / (KEPT_POINTS - 1))] for i in range(KEPT_POINTS)]
    fields = {short: run[name] for short, name in KEPT_NAMES.items()} | {"curve": curve}

    def rounded(value: Any) -> Any:
        if isinstance(value, list):
            return [rounded(item) for item in value]
        return float(f"{value:.{KEPT_DIGITS}g}") if isinstance(value, float) else value

    return {name: rounded(value) for name, value in fields.items()}


def committed(file: Path, folder: Path) -> bool:
    """Compare a file of `suite` with the committed numbers; whether all are the same."""
    verdicts: list[str] = []
    for setting, runs in json.loads(file.read_text(encoding="utf-8")).items():
        numbers = json.loads((folder / f"{setting}.json").read_text(encoding="utf-8"))["runs"]
        for method, run in runs.items():
            known = next(item for item in numbers if (item["method"], item["seed"]) == (method, 0))
            found = run.get("error") or difference({name: known[name] for name in kept(run)}, kept(run))
            verdicts.append(f"DIFFERENT: {found}" if found else "equal to the committed numbers")
            print(f"{setting} {method}: {verdicts[-1]}")
    return summary(verdicts)


def main() -> None:
    """Read the command line; exit with status 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("digits", "suite", "compare", "committed"))
    parser.add_argument("paths", type=Path, nargs=2)
    parser.add_argument("--only", nargs="+", default=[], help="parts of the names of trials or settings")
    parser.add_argument("--short", action="store_true", help="fewer epochs in the suite")
    arguments = parser.parse_args()
    first, second = (path.resolve() for path in arguments.paths)
    if arguments.action in ("digits", "suite"):
        trials = digits(first) if arguments.action == "digits" else suite(first, arguments.short)
        write(first, second, trials, arguments.only)
    elif not {"compare": compare, "committed": committed}[arguments.action](first, second):
        sys.exit(1)


if __name__ == "__main__":
    main()
