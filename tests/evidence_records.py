"""Results made up for the purpose."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

from benchmarks.evidence.benchmark import Evidence
from benchmarks.evidence.suite import ALL_FAMILIES, SETTINGS, Setting
from benchmarks.evidence.summary import Record

ENVIRONMENT = {"metric": "accuracy", "device": "cpu", "threads": 1}
BY_NAME = {setting.name: setting for setting in SETTINGS}
DIGITS, CLEAN = BY_NAME["digits-0.4"], BY_NAME["digits-0.0"]


def record(method: str, seed: int = 0, accuracy: float = 0.8, passes: int = 200, **fields: object) -> Record:
    rho = None if method == "sgd" else 0.1
    made = Record(method, seed, accuracy, 0.5, 0.4, 0.1, rho, passes, 1.0, None, DIGITS.name, ENVIRONMENT)
    return dataclasses.replace(made, **fields)  # pyright: ignore[reportArgumentType]


def rows(setting: Setting, seeds: int | None = None) -> list[tuple[str, int]]:
    """(row, seed) of all families."""
    keys = [
        key for unit in Evidence(settings=[setting], families=ALL_FAMILIES, seeds=seeds).units() for key in unit.keys
    ]
    return [(key.split("/")[1], int(key.split("/")[2])) for key in keys]


def made_up(setting: Setting, learned: Callable[[str], float], seeds: int = 2) -> Iterator[Record]:
    """Fixed radii peak at 0.2 (ASAM: 1) with 90%; learned ones are `learned(start)` points away from that."""
    for name, seed in rows(setting, seeds):
        kind, _, text = name.removesuffix("+refit").partition("@")[0].partition(":")
        accuracy, passes, curve, loss = 0.70, 100, None, 0.5
        if kind in ("sam", "asam", "sam-rising", "asam-rising"):
            peak = 1.0 if kind.startswith("asam") else 0.2
            accuracy = 0.90 - 0.02 * abs(math.log(float(text) / peak)) - (0.01 if "rising" in kind else 0)
            passes, loss = 200, 0.3 if text == "0.5" else 0.4
        elif kind.startswith("lets-"):
            accuracy, passes, loss = 0.90 + learned(text) / 100, 420 if "+" in name else 220, 0.4
            accuracy += 0.005 if "whole" in kind else -0.015 if "quick" in kind else -0.02 if "@clean" in name else 0
            passes = 126 if "quick" in name else 190 if "@" in name else passes
            curve = None if "+" in name else (float(text), 0.2, 0.3)
        elif kind in ("sam-late", "temperon"):
            accuracy, passes = 0.89 - 0.02 * abs(math.log(float(text) / 0.1)), 130
            accuracy -= 0.02 if kind == "temperon" else 0
        elif kind != "sgd":
            accuracy, passes = 0.85, 1600 if "optuna" in kind else 200
        yield record(name, seed, accuracy + 0.01 * seed, passes, curve=curve, loss=loss, setting=setting.name)
