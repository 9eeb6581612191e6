"""Which ideas for the learned radius were tried, and with which results?

    python -m benchmarks.search run [--again] [grid default "no prior" ...]
    python -m benchmarks.search table

`run` takes about twelve minutes on one thread.
Fashion-MNIST: the Debian package `dataset-fashion-mnist` or LETSAM_DATA.
"""
