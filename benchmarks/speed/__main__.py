"""See the package."""

import sys

from benchmarks.harness import main
from benchmarks.speed.benchmark import Speed

if __name__ == "__main__":
    sys.exit(main(Speed))
