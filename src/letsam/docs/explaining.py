"""The page of the documentation that explains an error."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import ParamSpec, TypeVar

__all__ = ["explained", "page_about"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

PAGES = {
    "closures": "how-to/plain-loop",
    "closures.accumulation": "how-to/accumulation-and-clipping",
    "data": "how-to/your-data",
    "decision": "how-to/decision",
    "doctor": "how-to/doctor",
    "groups": "how-to/accumulation-and-clipping",
    "joint": "base-optimizers",
    "model_folder": "how-to/models",
    "model_folder.lineage": "how-to/retune",
    "model_folder.signatures": "how-to/retune",
    "model_folder.version_folder": "how-to/retune",
    "models": "how-to/models",
    "operation.retune_plan": "how-to/retune",
    "operation.retune_state": "how-to/retune",
    "optimizer": "how-to/plain-loop",
    "radius": "how-to/radii",
    "reports": "how-to/report",
    "step": "how-to/plain-loop",
    "step.activity": "how-to/radii",
    "step.leftovers": "how-to/accumulation-and-clipping",
    "step.precision": "how-to/mixed-precision",
    "step.ranks": "how-to/distributed",
    "step.snapshot": "how-to/batchnorm-and-dropout",
    "step.wrapper": "base-optimizers",
    "tangent": "base-optimizers",
    "tasks": "how-to/tasks-vision",
    "tasks.ding": "how-to/tasks-language",
    "tasks.glue": "how-to/tasks-language",
    "tasks.iwslt": "how-to/tasks-language",
    "tasks.movie_snippets": "how-to/tasks-language",
    "tasks.text": "how-to/tasks-language",
    "tasks.translation": "how-to/tasks-language",
    "training.dask_cluster": "how-to/many-machines",
    "training.devices": "how-to/torchrun",
    "training.executors": "how-to/many-machines",
    "training.hyperparameter_search": "how-to/hyperparameter-search",
    "training.learning_rate": "how-to/models",
    "training.loggers": "how-to/logging",
    "training.methods": "overview",
    "training.ray_cluster": "how-to/many-machines",
    "training.shifted_tests": "how-to/validation-data",
    "validation": "how-to/validation-data",
}
"""The page that explains the errors of a package or module of letsam."""
OF_THE_CALLER = {"tasks.hub", "tasks.loading"}
"""Modules without a page, in packages with one, as are those outside of all: the page is that of who called them."""


def page_about(error: BaseException) -> str | None:
    """The page that explains an error: that of the innermost module it has passed which has one in `PAGES`.

    Args:
        error: as it was raised.
    """
    for module in reversed([*_modules(error.__traceback__)]):
        parts = module.split(".")[1:] if module.startswith("letsam.") else []
        if ".".join(parts) in OF_THE_CALLER:
            continue
        if parts[:1] == ["training"] and ".".join(parts) not in PAGES:
            return None  # about the code or data of a task, whatever it has passed
        for count in range(len(parts), 0, -1):
            if page := PAGES.get(".".join(parts[:count])):
                return page
    return None


def explained(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let the errors that letsam raises in a function carry a note, below a traceback, with the page about them.

    Errors of other code, such as a user's closure, stay as they are.
    """

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError, RuntimeError) as error:
            page = page_about(error)
            if page is not None and [*_modules(error.__traceback__)][-1].startswith("letsam."):
                error.add_note(f"explained by: letsam docs {page}")
            raise

    return call


def _modules(traceback: TracebackType | None) -> Iterator[str]:
    """The modules that an error has passed, from the outermost to the innermost."""
    while traceback is not None:
        yield str(traceback.tb_frame.f_globals.get("__name__"))
        traceback = traceback.tb_next
