"""Are the solutions of SGD, SAM and a learned radius flat, and do flat ones generalize?

    python -m benchmarks.flatness run [--again] [digits-0.4 digits-0.0 fashion-mnist-0.4]
    python -m benchmarks.flatness table

`run` trains and measures, some five minutes on one thread; results are in docs/evidence/flatness.json. `table` makes
docs/flatness.md. Fashion-MNIST: the Debian package `dataset-fashion-mnist`, or LETSAM_DATA. Needs
`pip install "letsam[evidence]"`.
"""

import sys

from benchmarks.flatness.benchmark import Flatness
from benchmarks.harness import main

if __name__ == "__main__":
    sys.exit(main(Flatness, __doc__))
