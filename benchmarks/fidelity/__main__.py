"""How true are the estimators of the hypergradient along real training runs?

    python -m benchmarks.fidelity run [--again] [0.02 0.05 0.1 0.2 0.5 learned]
    python -m benchmarks.fidelity table

`run` trains on digits with 40% wrong labels in float64, stops every few steps and compares what `LearnedRadius` says
with the exact derivative: some two minutes on one thread of an idle machine; results are in docs/evidence/fidelity.json.
`table` makes docs/fidelity.md.
"""

import sys

from benchmarks.fidelity.benchmark import Fidelity
from benchmarks.harness import main

if __name__ == "__main__":
    sys.exit(main(Fidelity, __doc__))
