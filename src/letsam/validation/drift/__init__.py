"""Simulated drift: shifts of inputs, one file for each modality, and data sets that they are applied to.

- `known_shifts`: the shifts by modality; `shift`: what a shift is
- `image_shifts`, `weather`, `text_shifts`, `table_shifts`, `audio_shifts`: the shifts; `resampling`: of whole data sets
- `mixture`: ``"noise:2,blur:1"``; `learned_mixture`: the mixture that resembles deployed data
- `shifted_data`: `shifted`; `draws`: random numbers by sample; `drift_features`: what two-sample tests compare
"""

from letsam.validation.drift.known_shifts import available_shifts
from letsam.validation.drift.mixture import Mixture
from letsam.validation.drift.shifted_data import ShiftedDataset, shifted

__all__ = ["Mixture", "ShiftedDataset", "available_shifts", "shifted"]
