"""Every variant, fixed and learned, on four settings; and the errors of their hypergradients.

    python -m benchmarks.variants run [--jobs N] [--quick] [digits-0.4 errors ...]
    python -m benchmarks.variants table

`--quick` makes one epoch of one setting. Fashion-MNIST: the Debian package `dataset-fashion-mnist`, or LETSAM_DATA.
"""
