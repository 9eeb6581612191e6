"""Models for files of data: which one, and how its weights are trained.

- `model_options`: what the user asks for
- `choosing`: the model for the data, with its optimizer, epochs and batch size
"""

from letsam.models.choosing import Chosen, choose
from letsam.models.model_options import ModelOptions

__all__ = ["Chosen", "ModelOptions", "choose"]
