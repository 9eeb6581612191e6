"""Files and folders of data, prepared for training, without code.

    task = data_task(DataOptions(path="iris.csv", target="species"), ModelOptions())

- `data_options`: what the user says about the data
- `reading`: which reader a path needs; one module for each modality
- `loaded`, `preparation`: prepared data, and how inputs of new files are prepared in the same way
- `new_targets`: the targets of new data for a trained model
- `known_form`: how new data with targets are prepared as those that a model was trained on
- `joined`: new data with earlier ones, for a model that must not forget them
- `as_task`: the task
- `problems`: the error for data that cannot be used

Importing this package imports only torch; a reader imports its libraries when it is called.
"""

from letsam.data.as_task import data_task
from letsam.data.data_options import DataOptions
from letsam.data.known_form import KnownForm
from letsam.data.loaded import LoadedData
from letsam.data.preparation import Preparation, load_preparation
from letsam.data.problems import DataError
from letsam.data.reading import is_data, read_data

__all__ = [
    "DataError",
    "DataOptions",
    "KnownForm",
    "LoadedData",
    "Preparation",
    "data_task",
    "is_data",
    "load_preparation",
    "read_data",
]
