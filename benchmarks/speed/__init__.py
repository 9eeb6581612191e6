"""How long does a step take, with its passes and without, and how much memory, next to other implementations?

    python -m benchmarks.speed run [--again] [whole forward few-large/SAM/float32 ...]
    python -m benchmarks.speed table

`run` takes a quarter of an hour on one thread. It needs `pip install --group evidence`.
"""
