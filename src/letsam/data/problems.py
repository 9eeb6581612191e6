"""The error for data that cannot be used."""


class DataError(ValueError):
    """Data cannot be used; the message is one line with the file or column, what was expected and what came."""
