"""Measures of flatness: how fast the loss increases around the weights. The optimizer never imports them.

- `ascent_sharpness`: the increase of the loss after one ascent step, the quantity that SAM minimizes;
- `landscape_slice`: the loss along random directions with the norms of the network's filters;
- `hessian_spectrum`: the largest eigenvalues and the trace of the Hessian.

All three evaluate the model in evaluation mode and restore weights, buffers, gradients and modes bit for bit, also if
an error is raised. None of them proves that a model generalizes: docs/flatness.md compares them with the test accuracy.
"""

from .hessian import HessianSpectrum, hessian_spectrum
from .landscape import LandscapeSlice, landscape_slice
from .loss_increase import ascent_sharpness

__all__ = ["HessianSpectrum", "LandscapeSlice", "ascent_sharpness", "hessian_spectrum", "landscape_slice"]
