"""How long does a step take, with its passes and beside them, and how much memory, next to other implementations?

    python -m benchmarks.speed run [--again] [whole forward few-large/SAM/float32 ...]
    python -m benchmarks.speed table

`run` measures, a quarter of an hour on one thread; results are in docs/evidence/speed.json. `table` makes docs/speed.md.
Needs `pip install "letsam[evidence]"`; what is said of `betty-ml` on the page needs that, too.
"""

import sys

from benchmarks.harness import main
from benchmarks.speed.benchmark import Speed

if __name__ == "__main__":
    sys.exit(main(Speed, __doc__))
