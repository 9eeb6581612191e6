"""Run what is missing, side by side, and say how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from benchmarks.evidence.records import Store
from benchmarks.evidence.suite import ALL_FAMILIES, FAMILIES, Setting, Unit, units
from benchmarks.evidence.work import Order, perform
from letsam.training.parallel import run_in_parallel


def rows(setting: Setting, seeds: int | None = None) -> list[tuple[str, int]]:
    """(row, seed) of a setting in the order of its file: method by method."""
    found = [(name, unit.seed) for unit in units([setting], ALL_FAMILIES, seeds) for name in unit.rows]
    order = {row: place for place, (row, _) in reversed(list(enumerate(found)))}
    return sorted(found, key=lambda pair: (order[pair[0]], pair[1]))


def most_seeds(setting: Setting, store: Store, asked: int | None = None) -> int:
    """How many seeds a setting's file has room for: those asked for, its own, and those that it holds already."""
    return max(asked or 0, setting.seeds, *(seed + 1 for _, seed in store.kept_records(setting)))


def run(
    settings: list[Setting],
    store: Store,
    *,
    families: tuple[str, ...] = FAMILIES,
    seeds: int | None = None,
    jobs: int = 1,
    device: str = "cpu",
) -> int:
    """Run what is not finished; every finished run is kept at once, so that this may be killed at any moment.

    Args:
        settings: which, in their order.
        store: where the results are.
        families: which methods.
        seeds: how many; None: each setting's own number.
        jobs: worker processes, each with one thread.
        device: as for `letsam trial`.

    Returns:
        The number of units that could not be run; why is on stderr.
    """
    waiting = missing(settings, store, families, seeds)
    print(f"{len(waiting)} of {len(units(settings, families, seeds))} units are to be run", flush=True)
    hindered: dict[str, int] = {}
    started = time.perf_counter()
    orders = [Order(unit, store, device) for unit in waiting]
    for count, (order, message) in enumerate(run_in_parallel(perform, orders, jobs), start=1):
        unit = order.unit
        if message is not None:
            if message not in hindered:
                print(f"not run: {message}", file=sys.stderr, flush=True)
            hindered[message] = hindered.get(message, 0) + 1
            continue
        store.collect(unit.setting, rows(unit.setting, most_seeds(unit.setting, store, seeds)))
        minutes = (time.perf_counter() - started) / 60
        print(f"{count}/{len(orders)} {minutes:.1f} min: {unit.setting.name} {unit.method} {unit.seed}", flush=True)
    return sum(hindered.values())


def missing(settings: list[Setting], store: Store, families: tuple[str, ...], seeds: int | None) -> list[Unit]:
    """The units that are not finished."""
    finished = {setting.name: store.finished(setting) for setting in settings}
    return [
        unit
        for unit in units(settings, families, seeds)
        if not all(finished[unit.setting.name](row, unit.seed) for row in unit.rows)
    ]


def forget(settings: list[Setting], store: Store, families: tuple[str, ...], seeds: int | None = None) -> int:
    """Remove the results of these families, such as after a change of the learned radius; returns how many.

    What is kept for the tables goes too; without `seeds` that of all seeds.
    """
    count = 0
    for setting in settings:
        most = most_seeds(setting, store, seeds)
        gone = [(row, unit.seed) for unit in units([setting], families, seeds or most) for row in unit.rows]
        count += store.forget(setting, gone)
        store.collect(setting, [pair for pair in rows(setting, most) if pair not in set(gone)])
    return count


def status(settings: list[Setting], store: Store, seeds: int | None = None) -> Iterator[str]:
    """One line a setting: how many units of each family are finished."""
    for setting in settings:
        parts: list[str] = []
        for family in ALL_FAMILIES:
            wanted = units([setting], (family,), seeds)
            left = missing([setting], store, (family,), seeds)
            parts.append(f"{family} {len(wanted) - len(left)}/{len(wanted)}")
        yield f"{setting.name:22} " + "  ".join(parts)
