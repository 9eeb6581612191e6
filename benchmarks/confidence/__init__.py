"""How far the accuracy that is expected without labels is from the accuracy, under many shifts.

    python -m benchmarks.confidence run [digits letters snippets flights]
    python -m benchmarks.confidence table

`shifts.py` has the models and the shifted data, `estimators.py` the methods that are compared with that of the library.
"""
