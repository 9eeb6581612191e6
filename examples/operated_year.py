"""A year of operation as a scheduler runs it: watch, re-tune, shadow and roll-out, with the commands of letsam alone.

Run it with `python examples/operated_year.py`, a few minutes on a CPU. The data are digits as a table of pixels; from
the fifth month on, the scanner lies on its side. `month` is what a scheduler would call once a month: what it remembers
is in the folder YEAR, in `state.json` and in the files of letsam.
"""

from __future__ import annotations

import argparse
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pandas
from sklearn.datasets import load_digits

from letsam.cli import run
from letsam.operation import assigned, read_watch

TURNED_FROM = 5
LIMIT = 0.85  # a lower accuracy is an alarm, too, whatever the model's own held-out accuracy was
PLAN = """\
champion = "{champion}"
challenger = "{challenger}"
shadow = "{shadow}"
champion_watch = "{champion_watch}"
challenger_watch = "{challenger_watch}"
out = "{out}"

[[stages]]
name = "shadow"
share = "0%"
max_drop = 5.0

[[stages]]
share = "50%"
min_samples = 20
max_drop = 5.0

[[stages]]
share = "100%"
min_samples = 20
"""


def letsam(*arguments: object, expected: tuple[int, ...] = (0,)) -> tuple[int, str]:
    """Run a command; returns its exit status and what it printed. Any other status than those expected is an error."""
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = run([str(one) for one in arguments])
    if status not in expected:
        raise SystemExit(f"letsam {arguments[0]}: exit status {status}\n{said.getvalue()}")
    return status, said.getvalue()


def write_data(year: Path, train: int, monthly: int) -> None:
    """The training data, and twelve months with an id for each row."""
    digits: Any = load_digits(as_frame=True)
    frame: pandas.DataFrame = digits.frame.sample(frac=1, random_state=0).reset_index(drop=True)
    frame["target"] = frame["target"].map(lambda digit: f"d{digit}")
    frame[:train].to_csv(year / "training.csv", index=False)
    turned = frame.copy()
    for row in range(8):
        for column in range(8):
            turned[f"pixel_{row}_{column}"] = frame[f"pixel_{column}_{7 - row}"]
    for number in range(1, 13):
        rows = slice(train + monthly * (number - 1), train + monthly * number)
        (turned if number >= TURNED_FROM else frame)[rows].to_csv(year / f"month-{number:02}.csv", index=False)


def served(year: Path, number: int, share: float) -> dict[str, Path]:
    """What each model is given of a month; a hash decides, so that it is the same rows whenever this is called."""
    frame = pandas.read_csv(year / f"month-{number:02}.csv")
    chosen = pandas.Series([assigned(f"{number}-{row}", share) for row in frame.index], index=frame.index)
    parts = {"champion": frame[~chosen], "challenger": frame[chosen]}
    found = {role: year / f"month-{number:02}-{role}.csv" for role, rows in parts.items() if len(rows)}
    for role, path in found.items():
        parts[role].to_csv(path, index=False)
    return found


def watch_of(year: Path, model: str) -> Path:
    """The folder of the watch of a version."""
    return year / f"watch-{model}"


def month(year: Path, number: int, seeds: int, epochs: int) -> list[str]:
    """One call of the scheduler. Returns what was done."""
    state = json.loads((year / "state.json").read_text())
    models, done = state["models"], list[str]()
    alarm = False

    # 1. This month's data, without labels; and last month's labels, for the models that still serve.
    batches = [(role, path, ()) for role, path in served(year, number, state["share"]).items()]
    batches += [(role, Path(path), ("--labels",)) for role, path in state["unlabelled"].items() if role in models]
    for role, path, labels in batches:
        folder = watch_of(year, models[role])
        status, _ = letsam("watch", year / "versions" / models[role], path, "--out", folder, *labels, expected=(0, 1))
        accuracy = read_watch(folder)[-1].metrics.get("accuracy")
        low = accuracy is not None and accuracy.value < LIMIT
        alarm |= role == "champion" and (status == 1 or low)
        said = "alarm" if status else "no alarm"
        said += f", accuracy {accuracy.value:.0%}" if accuracy is not None else ""
        done.append(f"watch {models[role]}{' with labels' if labels else ''}: {said}")
    state["unlabelled"] = {role: str(path) for role, path, labels in batches if not labels}

    # 2. A roll-out under way: in shadow mode compare again, with the labels; then, which share from now on?
    if "challenger" in models:
        if state["share"] == 0:
            places = [year / "versions" / models[role] for role in ("champion", "challenger")]
            shadow = year / f"shadow-{models['challenger']}"
            letsam("shadow", *places, year / f"month-{number - 1:02}.csv", "--labels", "--out", shadow)
            done.append(f"shadow of {models['challenger']} with labels")
        _, text = letsam("rollout", year / f"{models['challenger']}.toml", "--json", expected=(0, 1, 3))
        decision = json.loads(text)
        state["share"] = decision["share"]
        done.append(f"rollout of {models['challenger']}: {decision['decision']}, share {decision['share']:.0%}")
        if decision["complete"]:
            letsam("models", year / "versions", "--current", models["challenger"])
            models["champion"] = models.pop("challenger")
            state.update(share=0.0, unlabelled={"champion": state["unlabelled"]["challenger"]})
        elif decision["decision"] == "roll back":
            models.pop("challenger")
            state["share"] = 0.0

    # 3. None under way, and an alarm: re-tune on months with labels, if possible since the first alarm; then shadow.
    elif alarm and number > 1:
        since = min(state.setdefault("alarm", number), number - 1)
        months = range(max(since, number - 3), number)
        labelled = year / f"labelled-{number:02}.csv"
        pandas.concat([pandas.read_csv(year / f"month-{one:02}.csv") for one in months]).to_csv(labelled, index=False)
        options = ("--seeds", seeds, "--epochs", epochs, "--lr", 0.003, "--no-promote", "--device", "cpu")
        status, _ = letsam("retune", year / "versions", labelled, *options, expected=(0, 1))
        made = max(path.name for path in (year / "versions").glob("v*"))
        done.append(f"retune on months {months[0]} to {months[-1]}: {made}, {'no-go' if status else 'go'}")
        if status == 0:
            champion, challenger = (year / "versions" / name for name in (models["champion"], made))
            shadow = year / f"shadow-{made}"
            letsam("shadow", champion, challenger, year / f"month-{number:02}.csv", "--out", shadow)
            plan = PLAN.format(
                champion=champion,
                challenger=challenger,
                shadow=shadow,
                champion_watch=watch_of(year, models["champion"]),
                challenger_watch=watch_of(year, made),
                out=year / f"rollout-{made}",
            )
            (year / f"{made}.toml").write_text(plan)
            models["challenger"] = made
            done.append(f"shadow of {made} against {models['champion']}")

    (year / "state.json").write_text(json.dumps(state, indent=1))
    return done


def main(
    year: Path = Path("year"),
    train: int = 700,
    monthly: int = 90,
    train_epochs: int = 20,
    seeds: int = 3,
    epochs: int = 30,
) -> list[list[str]]:
    """Train a model, and go through twelve months; returns what was done in each."""
    shutil.rmtree(year, ignore_errors=True)
    year.mkdir(parents=True)
    write_data(year.resolve(), train, monthly)
    year = year.resolve()
    options = ("--target", "target", "--method", "lets-sam", "--epochs", train_epochs, "--test-share", 0.3)
    letsam("train", year / "training.csv", *options, "--no-audit", "--device", "cpu", "--out", year / "first")
    (year / "versions").mkdir()
    shutil.copytree(year / "first" / "model", year / "versions" / "v0001")
    letsam("models", year / "versions", "--current", "v0001")
    begin = {"models": {"champion": "v0001"}, "share": 0.0, "unlabelled": {}}
    (year / "state.json").write_text(json.dumps(begin))
    found: list[list[str]] = []
    for number in range(1, 13):
        found.append(month(year, number, seeds, epochs))
        print(f"month {number:2}: {'; '.join(found[-1])}", flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("year"), help="folder of the year; it is replaced")
    main(parser.parse_args().out)
