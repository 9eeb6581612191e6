"""Does it pay to learn the radius from validation data that are shifted as operation is?

    python -m benchmarks.validation run [digits-0.0 digits-0.4 satimage snippets letters fashion-cnn ...]
    python -m benchmarks.validation table

`data.py` has the tasks and says where their data come from, `benchmark.py` what is trained, `comparison.py` the tables.
"""
