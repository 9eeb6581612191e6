"""See the package."""

import sys

from benchmarks.flatness.benchmark import Flatness
from benchmarks.harness import main

if __name__ == "__main__":
    sys.exit(main(Flatness))
