"""What flat solutions are good for: corrupted images, quantized weights, and what a second task makes them forget.

    python -m benchmarks.robustness run [digits-0.0 digits-0.4 fashion-cnn-0.0 ...]
    python -m benchmarks.robustness table

`treatments.py` has what is done to a finished network. Fashion-MNIST: the Debian package `dataset-fashion-mnist`, or
LETSAM_DATA.
"""
