"""Every variant, fixed and learned, on four settings; and the errors of their hypergradients.

    python -m benchmarks.variants run [--jobs N] [--quick] [digits-0.4 errors ...]
    python -m benchmarks.variants table

`run` trains, and measures the hypergradients (`errors`: float64, a minute or two); results are in
docs/evidence/variants.json. `table` makes docs/variants.md. `--quick` makes one epoch of one setting, kept under
runs/variants-quick, to see that all works. Fashion-MNIST: the Debian package `dataset-fashion-mnist`, or LETSAM_DATA.
"""

import sys

from benchmarks.harness import main
from benchmarks.variants.benchmark import Variants

if __name__ == "__main__":
    sys.exit(main(Variants, __doc__))
