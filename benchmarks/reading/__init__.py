"""What reading costs: epochs over 20,000 JPEGs, in memory or read by worker processes, and their passes alone.

    python -m benchmarks.reading run [--again] [memory workers-2 ...]
    python -m benchmarks.reading table

`run` takes five minutes on two cores, which nothing else should use. The JPEGs are written to a temporary folder.
Fashion-MNIST: the Debian package `dataset-fashion-mnist`, or LETSAM_DATA.
"""
