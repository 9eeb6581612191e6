"""See the package."""

import sys

from benchmarks.fidelity.benchmark import Fidelity
from benchmarks.harness import main

if __name__ == "__main__":
    sys.exit(main(Fidelity))
