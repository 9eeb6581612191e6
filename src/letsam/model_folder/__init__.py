"""The folder ``model``: a trained network, what it needs to predict, and how it was trained.

    model = letsam.load("runs/iris")
    model.predict("new.csv").labels

The format is documented in ``docs/model-folder.md``.

- `model_writing`: the folder of a finished run, written in one step
- `manifest`: the hash of each file, compared when the folder is read
- `model_places`: where a model is: in its folder, in that of results, or in a folder of versions
- `version_record`, `data_hashes`: ``version.json``, with the hashes of the data
- `model_loading`: the network and its preparation, read without pickles
- `prediction_table`: what a model predicts, as a CSV file
- `model_card`: the README of the folder
- `exporting`: `torch.export` and ONNX
- `winner`: the method that ``--refit-best`` trains

`model_loading` imports only torch and what the model needs.
"""

from letsam.model_folder.manifest import ModelFolderError
from letsam.model_folder.model_loading import LoadedModel, load
from letsam.model_folder.model_places import model_place
from letsam.model_folder.prediction_table import PredictionTable
from letsam.model_folder.version_record import VersionRecord, version_of

__all__ = ["LoadedModel", "ModelFolderError", "PredictionTable", "VersionRecord", "load", "model_place", "version_of"]
