"""The evidence: does a learned radius do as well as the best of a grid?

    python -m benchmarks.evidence run [SETTING ...] [--jobs N] [--seeds K] [--family FAMILY] [--quick | --full]
    python -m benchmarks.evidence status | forget [SETTING ...] [--family FAMILY]
    python -m benchmarks.evidence table

`suite.py` lists the settings and methods. Fashion-MNIST: the Debian package `dataset-fashion-mnist`, or LETSAM_DATA.
"""
