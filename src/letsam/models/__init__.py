"""Models for data that are given as files: chosen by name or by kind and size, with a base optimizer.

- `model_options`: the options of the commands
- `described`: what the choice depends on
- `choosing`: the choice, and building a network again
- `registry`: the models by name, and what "auto" stands for
- `perceptrons`, `convolutional`, `text_encoder`: networks; others are in `letsam.tasks.models`
- `pretrained`, `timm_models`: models of other packages, which are imported when they are used
- `rescaled`: outputs in the units of numbers to predict
- `base_optimizers`: SGD, Adam and AdamW with options
- `lr_range`: the range test behind ``--lr auto``

Importing this package imports only torch.
"""

from letsam.models.base_optimizers import BaseOptimizer, with_options
from letsam.models.choosing import Chosen, choose, rebuild
from letsam.models.described import DataDescription
from letsam.models.lr_range import LearningRates, range_test
from letsam.models.model_options import ModelOptions
from letsam.models.pretrained import pretrained_pixels, pretrained_tokens, save_network
from letsam.models.registry import MODELS
from letsam.models.rescaled import Rescaled

__all__ = [
    "MODELS",
    "BaseOptimizer",
    "Chosen",
    "DataDescription",
    "LearningRates",
    "ModelOptions",
    "Rescaled",
    "choose",
    "pretrained_pixels",
    "pretrained_tokens",
    "range_test",
    "rebuild",
    "save_network",
    "with_options",
]
