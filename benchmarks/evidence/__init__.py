"""The evidence table (python -m benchmarks.evidence)."""
