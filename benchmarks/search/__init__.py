"""Which ideas for the learned radius were tried, and what they gave. Command line: `python -m benchmarks.search`."""
