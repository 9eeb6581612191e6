"""How accurate are the estimators of the hypergradient along real training runs?

    python -m benchmarks.fidelity run [--again] [0.02 0.05 0.1 0.2 0.5 learned]
    python -m benchmarks.fidelity table

`run` takes about two minutes on one thread of an idle machine.
"""
