"""See the package."""

import sys

from benchmarks.evidence.benchmark import Evidence
from benchmarks.harness import main

if __name__ == "__main__":
    sys.exit(main(Evidence))
