"""The benchmarks: one command for each page of results."""
