"""A simulated year of operation: is it worth to re-train, how, and are the alarms right?

    python -m benchmarks.operation run [images flights calm-images calm-flights ...]
    python -m benchmarks.operation table

`worlds.py` has the data and says where they come from, `year.py` what happens in a year, `findings.py` the tables.
"""
