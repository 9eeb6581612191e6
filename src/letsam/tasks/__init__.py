"""Tasks: data, model, loss, metric and training defaults, in one frozen dataclass each.

    load_task("digits")                              a built-in task
    load_task("fashion-mnist", train_size=2000)      with an option
    load_task("path/to/my_task.py:make_task")        your own, from a file
    load_task("package.module:make_task")            your own, from a module

Importing this package imports only torch and loads no data; a task imports and loads what it needs when it is built.
"""

from letsam.tasks.errors import TaskError
from letsam.tasks.label_noise import targets_of, with_label_noise
from letsam.tasks.loading import available_tasks, load_task
from letsam.tasks.task import Task, accuracy

__all__ = ["Task", "TaskError", "accuracy", "available_tasks", "load_task", "targets_of", "with_label_noise"]
