"""Run the notebooks of the tutorials, and keep what they print and draw.

    python tools/run_notebooks.py              # all in docs/tutorials, written back with their outputs
    python tools/run_notebooks.py own-csv      # one of them

Each runs in a folder of its own that is removed afterwards. The outputs are committed, so that a reader sees them on a
forge as well; a test runs the notebooks and compares.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).resolve().parents[1] / "docs" / "tutorials"


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs that it has today; an error in a cell is raised.

    Args:
        path: of the notebook, which stays as it is.
        folder: where it runs.
    """
    book = nbformat.read(path, as_version=4)
    kept = {name: os.environ.get(name) for name in ("PATH", "COLUMNS", "OMP_NUM_THREADS", "HF_HUB_OFFLINE", "TERM")}
    bin_folder = str(Path(sys.executable).parent)  # `!letsam` is the one of this environment
    os.environ.update(PATH=f"{bin_folder}{os.pathsep}{kept['PATH']}", COLUMNS="88", OMP_NUM_THREADS="1")
    os.environ.update(HF_HUB_OFFLINE="1", TERM="dumb")
    try:
        client = NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
        client.execute()
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    return cleaned(book)


def cleaned(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what differs from run to run: times, numbers of executions; progress that was overwritten."""
    for cell in book.cells:
        cell.metadata = {}
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        outputs = list[nbformat.NotebookNode]()
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = None
            if output.output_type != "stream":
                outputs.append(output)
            elif output.name == "stdout" and outputs and outputs[-1].output_type == "stream":
                outputs[-1].text += output.text
            elif output.name == "stdout":
                outputs.append(output)
        for output in outputs:
            if output.output_type == "stream":
                output.text = printed(output.text)
        cell.outputs = outputs
    return book


def printed(text: str) -> str:
    """What is left of a text on a terminal: the last form of each line, without colors and progress."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace("\r\n", "\n"))
    lines = (line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n"))
    return "\n".join(line for line in lines if " elapsed, " not in line)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="without a suffix; all without")
    names = parser.parse_args().names or sorted(path.stem for path in TUTORIALS.glob("*.ipynb"))
    for name in names:
        path, started = TUTORIALS / f"{name}.ipynb", time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            book = executed(path, Path(folder))
        nbformat.write(book, path)
        print(f"{path.name}: {time.perf_counter() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
