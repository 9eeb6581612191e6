"""How true are the estimators of the hypergradient? Command line: `python -m benchmarks.fidelity`."""
