"""Which ideas for the learned radius were tried, and what did they give?

    python -m benchmarks.search run [--again] [default "no prior" ...]
    python -m benchmarks.search table

`run` tries every idea (`ideas.py`) with several seeds from two starts far apart, beside a grid of fixed radii (`grid`):
some twelve minutes on one thread; results are in docs/evidence/search.json. `table` makes docs/search.md. Fashion-MNIST:
the Debian package `dataset-fashion-mnist`, or LETSAM_DATA.
"""

import sys

from benchmarks.harness import main
from benchmarks.search.benchmark import Search

if __name__ == "__main__":
    sys.exit(main(Search, __doc__))
