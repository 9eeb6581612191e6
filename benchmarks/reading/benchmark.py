"""The settings, the work and the page of the benchmark."""

from __future__ import annotations

import dataclasses
import functools
import gc
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from benchmarks.harness import Benchmark, Row, Unit
from benchmarks.harness.page import filled, table
from benchmarks.harness.training import begun
from benchmarks.reading.pictures_on_disk import write_pictures
from letsam.data import DataOptions, data_task
from letsam.models import ModelOptions
from letsam.tasks import Task
from letsam.training.loop import Training

COUNT, TEST = 20_000, 500
WRITTEN, SIDE = 128, 32  # pixels on disk, and in the network
BATCH = 64
STEPS = 312  # an epoch
BLOCKS = 6  # pieces of it, which take turns with the passes alone
METHOD = "sam"
GOAL = 1.1

READING = {"memory": None, "workers-0": 0, "workers-1": 1, "workers-2": 2}
"""Workers of each unit; None: decoded once and kept in memory."""


@dataclass(frozen=True)
class Epoch(Row):
    """Steps of an epoch, and their passes alone."""

    parts: ClassVar[tuple[str, ...]] = ("reading",)

    reading: str
    steps: int
    seconds: float  # of the steps
    alone: float  # seconds of the same number of steps on batches that are there
    ratio: float  # of the two: the median over the pieces
    processor: float  # the same ratio for the processor time of the training process
    workers: float  # processor seconds of the workers, from their start to their end
    cores: int
    threads: int


class Reading(Benchmark[Epoch]):
    """Time epochs that differ in nothing but where the images come from."""

    name = "reading"
    row, rows, head = Epoch, "epochs", {"schema": 1, "images": COUNT, "pixels": WRITTEN, "side": SIDE, "batch": BATCH}
    settings = READING

    def units(self) -> list[Unit]:
        """One for each way of reading."""
        return [Unit(name, (name,), workers) for name, workers in self.settings.items()]

    def measure(self, unit: Unit) -> list[Epoch]:
        """Time an epoch."""
        task = task_of(written().name, in_memory=unit.work is None)
        return [timed(unit.name, task, unit.work, BATCH, STEPS, BLOCKS)]

    def sections(self, rows: Sequence[Epoch]) -> Mapping[str, object]:
        """The table, and what it says about the goal."""
        cells = [
            [
                _named(row.reading),
                f"{1000 * row.seconds / row.steps:.0f}",
                f"{1000 * row.alone / row.steps:.0f}",
                f"**{row.ratio:.2f}**",
                f"{row.processor:.2f}",
                f"{1000 * row.workers / row.steps:.0f}" if row.workers else "",
            ]
            for row in rows
        ]
        head = ["images", "ms a step", "passes alone, ms", "ratio", "ratio of processor time", "workers, ms a step"]
        return {
            "table": table(head, cells),
            "cores": rows[0].cores if rows else "?",
            "threads": rows[0].threads if rows else "?",
            "steps": STEPS,
            "verdict": filled(_verdict(rows)),
            **{name: f"{value:,}" for name, value in (("count", COUNT), ("written", WRITTEN), ("side", SIDE))},
            "batch": BATCH,
        }


def _verdict(rows: Sequence[Epoch]) -> str:
    """For each number of workers, whether the goal is reached."""
    ratios = {_named(row.reading): row.ratio for row in rows if row.workers}
    found = [f"{name}: {ratio:.2f}, {'reached' if ratio <= GOAL else 'missed'}" for name, ratio in ratios.items()]
    return f"The goal is at most {GOAL} times the passes alone. {'; '.join(found).capitalize()}."


def _named(reading: str) -> str:
    if reading == "memory":
        return "decoded once, kept in memory"
    count = reading.removeprefix("workers-")
    names = {"0": "read by the training process", "1": "read by 1 worker process"}
    return names.get(count, f"read by {count} worker processes")


@functools.cache
def written() -> tempfile.TemporaryDirectory[str]:
    """The folder of the images, for all units that this process measures."""
    folder = tempfile.TemporaryDirectory(prefix="letsam-reading-")
    write_pictures(Path(folder.name), COUNT, TEST, WRITTEN)
    return folder


def task_of(folder: str, *, in_memory: bool) -> Task:
    """The task of the images, with the small CNN."""
    options = DataOptions(path=folder, image_size=SIDE, memory=4.0 if in_memory else 0.0)
    task = data_task(options, ModelOptions(name="cnn"))
    return dataclasses.replace(task, epochs=2, evaluations=1)


def timed(name: str, task: Task, workers: int | None, batch: int, steps: int, blocks: int) -> Epoch:
    """Time steps, in pieces that take turns with as many steps on batches that are on the device already."""
    before = _children()
    training = begun(task, METHOD, 0, batch_size=batch, workers=workers)
    pairs = _pieces(training, steps // blocks, blocks)
    del training  # and its workers with it
    gc.collect()
    return Epoch(
        name,
        blocks * (steps // blocks),
        sum(one[0] for one, _ in pairs),
        sum(other[0] for _, other in pairs),
        statistics.median(one[0] / other[0] for one, other in pairs),
        statistics.median(one[1] / other[1] for one, other in pairs),
        _children() - before,
        len(os.sched_getaffinity(0)),
        torch.get_num_threads(),
    )


def _pieces(training: Training, size: int, blocks: int) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The times of each piece of the epoch, and of as many passes alone."""
    training.feed.begin(0)
    ready = [[training.train.one(indices)] for indices in training.feed.order(1)[:8]]
    _passes(training, ready, 3)
    return [
        (_clocked(lambda: training.advance(size)), _clocked(lambda: _passes(training, ready, size)))
        for _ in range(blocks)
    ]


def _clocked(call: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and seconds of processor time of this process."""
    started, used = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - started, time.process_time() - used


def _children() -> float:
    """Processor seconds of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _passes(training: Training, ready: list[list[tuple[torch.Tensor, torch.Tensor]]], steps: int) -> None:
    for step in range(steps):
        training._step(ready[step % len(ready)])
