"""Are the solutions of SGD, SAM and a learned radius flat, and do flat ones generalize?

    python -m benchmarks.flatness run [--again] [digits-0.4 digits-0.0 fashion-mnist-0.4]
    python -m benchmarks.flatness table

`run` takes about five minutes on one thread. Fashion-MNIST: the Debian package `dataset-fashion-mnist`, or LETSAM_DATA.
"""
