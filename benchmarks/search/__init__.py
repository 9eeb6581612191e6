"""Which ideas for the learned radius were tried, and what did they give?

    python -m benchmarks.search run [--again] [grid default "no prior" ...]
    python -m benchmarks.search table

`run` takes some twelve minutes on one thread. Fashion-MNIST: the Debian package `dataset-fashion-mnist` or LETSAM_DATA.
"""
