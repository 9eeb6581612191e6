"""See the package."""

import sys

from benchmarks.harness import main
from benchmarks.search.benchmark import Search

if __name__ == "__main__":
    sys.exit(main(Search))
