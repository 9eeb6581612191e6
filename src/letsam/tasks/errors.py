"""The error for everything about a task that the user can fix."""


class TaskError(ValueError):
    """A task cannot be loaded; the message is one line with what was expected."""
