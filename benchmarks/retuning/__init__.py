"""How to re-tune a model when the world changes: radius learned afresh or going on, learning rate, length.

    python -m benchmarks.retuning run [--again] [noise-sets-in ...]
    python -m benchmarks.retuning table

`run` takes about half an hour on one thread.
"""
