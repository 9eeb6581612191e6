"""Measures of flatness: how fast the loss rises around the weights. The optimizer never imports them.

- `ascent_sharpness`: how much the loss rises one step uphill, the quantity that SAM keeps low;
- `landscape_slice`: the loss along random directions that are scaled like the network's own filters;
- `hessian_spectrum`: the largest eigenvalues and the trace of the Hessian.

All three look at the model in evaluation mode and leave weights, buffers, gradients and modes as they were, bit for
bit, also when something raises. None of them proves that a model generalizes: docs/flatness.md shows where they agree
with the test accuracy and where they do not.
"""

from .hessian import HessianSpectrum, hessian_spectrum
from .landscape import LandscapeSlice, landscape_slice
from .loss_increase import ascent_sharpness

__all__ = ["HessianSpectrum", "LandscapeSlice", "ascent_sharpness", "hessian_spectrum", "landscape_slice"]
