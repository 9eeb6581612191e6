"""See the package."""

import sys

from benchmarks.harness import main
from benchmarks.variants.benchmark import Variants

if __name__ == "__main__":
    sys.exit(main(Variants))
