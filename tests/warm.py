"""Processes that need not import anything: they are forked from one that has imported what they use.

A new interpreter spends some six seconds of processor time on importing torch, Lightning and transformers. The fork
server of `multiprocessing` does so once; no random number, thread or CUDA context has been made in it. What a user
starts with `python` is started here by `start`. Tests of the start itself use `subprocess`.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing

import letsam

CONTEXT = multiprocessing.get_context("forkserver")
# The server ends, and is waited for, with the tests: its processor time counts as theirs.
atexit.register(forkserver._forkserver._stop)  # type: ignore[attr-defined]
CONTEXT.set_forkserver_preload(
    [
        *("torch.distributed.fsdp", "torch.distributed.checkpoint", "torch.distributed.tensor.parallel"),
        *("letsam.cli", "letsam.doctor", "letsam.training.trial", "letsam.reports.html", "sklearn.datasets"),
        *("accelerate", "lightning.pytorch", "transformers.trainer"),
        "frozen_imports",
    ]
)


def environment(**extra: str) -> dict[str, str]:
    """The environment of a process of its own: the same letsam, one thread, nothing that changes what it prints."""
    kept = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "LETSAM_TRACEBACK")}
    path = os.pathsep.join([str(Path(letsam.__file__).parents[1]), kept.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **extra}


@functools.cache
def _outputs() -> tempfile.TemporaryDirectory[str]:
    """The folder of all outputs; it is removed with the tests."""
    return tempfile.TemporaryDirectory(prefix="letsam-test-")


@dataclass
class Started:
    """A process that was started, and the files that it writes its output to."""

    process: BaseProcess
    out: Path
    err: Path

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGINT)

    def wait(self, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Its status and output when it has ended; it is killed if that takes longer than `timeout` seconds."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"the process has not ended within {timeout} seconds: {self.err.read_text()}")
        err = self.err.read_text() if self.err.is_file() else ""
        return subprocess.CompletedProcess([], self.process.exitcode, self.out.read_text(), err)


def start(
    *arguments: str, env: Mapping[str, str] | None = None, out: Path | None = None, err: Path | None = None
) -> Started:
    """Start ``python ARGUMENTS`` in the current folder, where the arguments are a script or ``-m module``.

    Args:
        arguments: as on a command line.
        env: its whole environment; None: `environment()`.
        out: the file for what it prints; None: a new one.
        err: the file or terminal for its stderr; None: a new file.
    """
    folder = Path(tempfile.mkdtemp(dir=_outputs().name))
    out, err = out or folder / "out", err or folder / "err"
    for path in (out, err):
        if not path.exists():
            path.touch()
    known = dict(environment() if env is None else env)
    process = CONTEXT.Process(target=_run, args=(arguments, known, os.getcwd(), str(out), str(err)), daemon=False)
    process.start()
    return Started(process, out, err)


def torchrun(*arguments: str, ranks: int = 2, timeout: float = 300.0, **extra: str) -> tuple[int, str]:
    """The same as ``torchrun --nproc-per-node RANKS ARGUMENTS``: the worst status, and what all ranks have written."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        **extra,
    }
    output = Path(tempfile.mkdtemp(dir=_outputs().name)) / "output"
    started = [
        start(*arguments, env=environment(**shared, RANK=str(rank), LOCAL_RANK=str(rank)), out=output, err=output)
        for rank in range(ranks)
    ]
    deadline = time.monotonic() + timeout
    while any(one.process.exitcode is None for one in started):
        failed = any(one.process.exitcode for one in started)  # the others would wait for it
        if failed or time.monotonic() > deadline:
            time.sleep(2.0)  # they may be about to say why
            for one in started:
                one.process.kill()
        time.sleep(0.05)
    codes = [one.process.exitcode or 0 for one in started]
    return max(codes, key=abs), output.read_text()


def in_ranks(main: Callable[[int, Path], None], folder: Path, ranks: int, limit: float) -> list[dict[str, Any]]:
    """Call ``main(rank, folder)`` in processes of their own; what each has saved as ``RANK.pt`` in the folder.

    Args:
        main: a function at the top level of a module.
        folder: of the results.
        ranks: the number of processes.
        limit: seconds; a hang must not hang the whole run.
    """
    context = torch.multiprocessing.start_processes(
        main, args=(folder,), nprocs=ranks, join=False, start_method="forkserver"
    )
    deadline = time.monotonic() + limit
    while not context.join(timeout=1.0):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            raise TimeoutError(f"the processes have not ended within {limit} seconds")
    return [torch.load(folder / f"{rank}.pt") for rank in range(ranks)]


def _run(arguments: Sequence[str], known: dict[str, str], folder: str, out: str, err: str) -> None:
    """What the forked process does: as an interpreter with these arguments, environment and files."""
    os.environ.clear()
    os.environ.update(known)
    os.chdir(folder)
    for number, path in ((1, out), (2, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in known
    sys.path[:] = [*known.get("PYTHONPATH", "").split(os.pathsep), *sys.path]
    try:
        if arguments[0] == "-m":
            sys.argv = list(arguments[1:])
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(arguments)
            sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
            runpy.run_path(arguments[0], run_name="__main__")
        code: object = 0
    except SystemExit as stopped:
        code = stopped.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)
