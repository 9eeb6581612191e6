"""The one error for everything about a task that its user can put right."""


class TaskError(ValueError):
    """A task cannot be loaded; the message is one line that says what was expected."""
