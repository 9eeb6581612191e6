"""Install letsam from this folder into a virtual environment, telling what happens from the first second.

`python3 tools/install.py .venv --extras trial` makes the environment where there is none, brings a pip that knows
dependency groups, and installs letsam so that changes of its code take effect (`-e`), with the versions of
`constraints.txt`. `make` calls it. It needs nothing but Python.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINE_SECONDS = 10.0
"""How long there is no line after a line, where stderr is no terminal."""
KEPT = {"Collecting": "finding", "Downloading": "downloading", "Installing": "installing"}


class Progress:
    """What is happening, and for how long: a line that a terminal renews every second, or a line now and then.

    Args:
        packages: the folder that packages are installed into; their number is shown while they are.
    """

    def __init__(self, packages: Path | None = None) -> None:
        self._what, self._packages, self._started = "asking what is needed", packages, time.monotonic()
        self._terminal, self._told, self._width = sys.stderr.isatty(), 0.0, 0
        self._total, self._at_start = 0, 0
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self._thread.join()
        self._write("", now=self._terminal)

    def read(self, line: str) -> None:
        """Take in a line of pip's."""
        words = line.split()
        if not words or words[0] not in KEPT:
            return
        if line.startswith("Installing collected packages:"):
            self._total, self._at_start = line.count(",") + 1, self._installed()
            self._what = f"installing {self._total} packages"
        elif words[0] != "Installing":  # of build dependencies
            self._what = f"{KEPT[words[0]]} {' '.join(words[1:3] if words[0] == 'Collecting' else words[1:])}"
            self._what = re.sub(r" \(from.*", "", self._what)
        self._write(self._text(), now=False)

    def _installed(self) -> int:
        return 0 if self._packages is None else sum(1 for _ in self._packages.glob("*.dist-info"))

    def _text(self) -> str:
        done = f", {self._installed() - self._at_start} of them done" if self._total else ""
        return f"  {time.monotonic() - self._started:3.0f} s  {self._what}{done}"

    def _renew(self) -> None:
        while not self._finished.wait(1.0):
            self._write(self._text(), now=self._terminal)

    def _write(self, text: str, *, now: bool) -> None:
        if self._terminal:
            shown = text[:100]
            print(f"\r{shown:{self._width}}\r{shown}", end="", file=sys.stderr, flush=True)
            self._width = len(shown)
        elif text and (now or time.monotonic() - self._told >= LINE_SECONDS):
            self._told = time.monotonic()
            print(text, file=sys.stderr, flush=True)


def pip(python: Path, arguments: Sequence[str], packages: Path) -> None:
    """Run pip with progress; where it fails, show all that it has said, and end with its exit status."""
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", *arguments]
    said: list[str] = []
    with Progress(packages) as progress:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            progress.read(line.strip())
        status = process.wait()
    if status:
        sys.exit(f"{''.join(said)}error: pip has failed, see above: {' '.join(command)}")


def say(text: str) -> None:
    """A line on stderr, at once."""
    print(text, file=sys.stderr, flush=True)


def install(folder: Path, extras: str, groups: Sequence[str]) -> None:
    """Make the environment, where there is none, and install into it.

    Args:
        folder: of the environment.
        extras: of letsam, separated by commas.
        groups: dependency groups of `pyproject.toml`.
    """
    started, folder = time.monotonic(), folder.absolute()
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not python.exists():
        say(f"1/3 a virtual environment in {folder}, with Python {sys.version.split()[0]} (a few seconds)")
        venv.create(folder, with_pip=True)
    site = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.run([python, "-c", site], check=True, capture_output=True, text=True).stdout.strip())
    constraints = ["-c", "constraints.txt"]
    say("2/3 the version of pip that constraints.txt names (a few seconds)")
    pip(python, [*constraints, "pip"], packages)
    what = " and ".join([f"letsam[{extras}]" if extras else "letsam", *(f"the group {group}" for group in groups)])
    say(f"3/3 {what}, with torch and all that they need (a minute or two, once; more where downloads are slow)")
    named = [argument for group in groups for argument in ("--group", group)]
    pip(python, [*constraints, "-e", f".[{extras}]" if extras else ".", *named], packages)
    say(f"installed in {time.monotonic() - started:.0f} s")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the virtual environment")
    parser.add_argument("--extras", default="", help="of letsam, separated by commas")
    parser.add_argument("--groups", nargs="*", default=[], help="dependency groups of pyproject.toml")
    asked = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036  (whatever Python `make` finds)
        sys.exit(f"error: letsam needs Python 3.11 or newer, this is {sys.version.split()[0]}: make PYTHON=python3.12")
    install(asked.folder, asked.extras, asked.groups)


if __name__ == "__main__":
    main()
