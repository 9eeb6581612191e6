"""The evidence: does a learned radius do as well as the best of a grid?

    python -m benchmarks.evidence run [SETTING ...] [--jobs N] [--seeds K] [--family FAMILY] [--quick | --full]
    python -m benchmarks.evidence status [SETTING ...]
    python -m benchmarks.evidence forget [SETTING ...] --family sam-learned
    python -m benchmarks.evidence table

`run` runs what is not finished (`suite.py` says what there is); results are in docs/evidence/*.json, one file a setting.
A setting whose data is missing is named and left out. `forget` removes results, so that they are run again. `table`
makes docs/evidence.md. Fashion-MNIST: the Debian package `dataset-fashion-mnist`, or LETSAM_DATA.
"""

import sys

from benchmarks.evidence.benchmark import Evidence
from benchmarks.harness import main

if __name__ == "__main__":
    sys.exit(main(Evidence, __doc__))
