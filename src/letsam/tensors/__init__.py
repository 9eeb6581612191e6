"""Arithmetic on lists of tensors, and preallocated buffers in their shapes; DTensors are processed locally.

`foreach` has the operators, `buffers` the memory, `shards` the support for DTensors. This package imports nothing else
of letsam.
"""

from .buffers import Buffers, GradientSum, dot, dots
from .foreach import (
    Average,
    Pair,
    add_,
    add_consuming_,
    add_scaled_,
    all_finite,
    cast_factor,
    copy_,
    copy_unless_,
    finite_from,
    gradients_of,
    inner,
    lacks_float64,
    lengths,
    multiply_,
    norm,
    norms,
    scalar_dtype,
    scale_,
    subtract_,
    zero_,
)
from .shards import Tensors

__all__ = [
    "Average",
    "Buffers",
    "GradientSum",
    "Pair",
    "Tensors",
    "add_",
    "add_consuming_",
    "add_scaled_",
    "all_finite",
    "cast_factor",
    "copy_",
    "copy_unless_",
    "dot",
    "dots",
    "finite_from",
    "gradients_of",
    "inner",
    "lacks_float64",
    "lengths",
    "multiply_",
    "norm",
    "norms",
    "scalar_dtype",
    "scale_",
    "subtract_",
    "zero_",
]
