"""Are the solutions flat, and do flat ones generalize? Command line: `python -m benchmarks.flatness`."""
