"""Build a `Task` from a specification: a built-in name, ``file.py:function`` or ``package.module:function``."""

import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from letsam.results.nearest import did_you_mean
from letsam.tasks.cifar import cifar10, cifar100
from letsam.tasks.digits import digits
from letsam.tasks.ding import ding_de_en
from letsam.tasks.errors import TaskError
from letsam.tasks.fashion_mnist import fashion_mnist
from letsam.tasks.glue import GLUE, glue
from letsam.tasks.imagenet import imagenet
from letsam.tasks.iwslt import iwslt14_de_en
from letsam.tasks.movie_snippets import movie_snippets
from letsam.tasks.task import Task

# A new task needs a file and a line here. The description is repeated here because building a task loads its data.
_BUILT_IN: dict[str, tuple[Callable[..., Task], str]] = {
    "digits": (digits, "8x8 handwritten digits, 1,000 train and 797 test (scikit-learn)"),
    "fashion-mnist": (fashion_mnist, "28x28 clothing, 60,000 train and 10,000 test (Debian package or a folder)"),
    "cifar10": (cifar10, "32x32 photographs in 10 classes, 50,000 train and 10,000 test (hub or a folder)"),
    "cifar100": (cifar100, "32x32 photographs in 100 classes, 50,000 train and 10,000 test (hub or a folder)"),
    "imagenet": (imagenet, "224x224 photographs in 1,000 classes, or any folders of images (a folder or hub)"),
    "movie-snippets": (movie_snippets, "sentiment, 9,041 train and 1,000 test sentences (in a package's source)"),
    "ding-de-en": (ding_de_en, "German to English, 4,706 train and 500 test phrases or sentences (Debian package)"),
    "iwslt14-de-en": (iwslt14_de_en, "German to English, 160,239 train and 6,750 test sentences (hub or a folder)"),
    **{f"glue/{name}": (functools.partial(glue, name), f"GLUE {name}, DeBERTa (hub or a folder)") for name in GLUE},
}


def available_tasks() -> list[tuple[str, str]]:
    """The built-in tasks; loads no data.

    Returns:
        Pairs of name and description.

    Example:
        >>> [name for name, _ in available_tasks()]
        ['digits', 'fashion-mnist', 'cifar10', 'cifar100', 'imagenet', ...]
    """
    return [(name, description) for name, (_, description) in _BUILT_IN.items()]


def load_task(
    spec: str, *, train_size: int | None = None, data_dir: Path | None = None, model: str | None = None
) -> Task:
    """Build a task from its name, or with a user's function.

    A user's function is called with the options that are not None, and needs to accept only those. Modules are also
    searched for in the current folder, and a task file may import other files from its own folder.

    Args:
        spec: ``name``, ``path/to/file.py:function`` or ``package.module:function``.
        train_size: Number of training samples, for tasks with this option.
        data_dir: Folder with the data, for tasks that read files.
        model: Name of the model, for tasks with this option.

    Returns:
        The task.

    Raises:
        TaskError: If there is no such task or it cannot be built; the message is one line.

    Example:
        >>> load_task("digit")
        Traceback (most recent call last):
        letsam.tasks.errors.TaskError: unknown task 'digit', did you mean 'digits'?
    """
    options = {"train_size": train_size, "data_dir": data_dir, "model": model}
    given = {name: value for name, value in options.items() if value is not None}
    if spec in _BUILT_IN:
        builder = _BUILT_IN[spec][0]
        _check_options(spec, builder, given)
        return builder(**given)
    if ":" not in spec:
        raise TaskError(_unknown(spec))
    task = call_function(spec, given)
    if not isinstance(task, Task):
        raise TaskError(f"{spec} must return a letsam.tasks.Task, got {type(task).__name__}")
    return task


def call_function(spec: str, options: dict[str, Any], what: str = "task") -> Any:
    """Import and call a user's function.

    Args:
        spec: ``path/to/file.py:function`` or ``package.module:function``.
        options: Its keyword arguments.
        what: What it makes, for error messages.

    Returns:
        What it returns.

    Raises:
        TaskError: If there is no such function, or it raises; the message is one line.
    """
    place, _, function_name = spec.rpartition(":")
    if not place or not function_name.isidentifier():
        raise TaskError(f"{what} {spec!r} must be written path/to/file.py:function or package.module:function")
    is_file = place.endswith(".py") or "/" in place or "\\" in place
    module = _import_file(Path(place), what) if is_file else _import_module(place, what)
    function = getattr(module, function_name, None)
    if not callable(function):
        found = "has no function" if function is None else "has something that is not a function under the name"
        raise TaskError(f"{place} {found} {function_name!r}{_functions_of(module)}")
    _check_options(spec, function, options, what)
    return _guarded(f"{spec} raised", getattr(module, "__file__", None), lambda: function(**options))


def _unknown(spec: str) -> str:
    if spec.endswith(".py"):
        return f"task {spec!r} names a file but no function, expected {spec}:function"
    folder = Path(spec).parent
    near = [str(folder / path.name) for path in folder.iterdir()] if folder.is_dir() else []
    hint = did_you_mean(spec, _BUILT_IN) or did_you_mean(spec, near, cutoff=0.75)
    if hint:
        return f"unknown task {spec!r}{hint}"
    if Path(spec).suffix or "/" in spec:
        return f"unknown task {spec!r}: there is no such file or folder of data"
    return (
        f"unknown task {spec!r}, expected one that `letsam tasks` lists, a file or folder of data, "
        "or your own as path/to/file.py:function or package.module:function"
    )


def _import_file(path: Path, what: str) -> ModuleType:
    if not path.is_file():
        raise TaskError(f"{what} file {path} does not exist")
    path = path.resolve()
    _allow_imports_from(path.parent)
    # The digest distinguishes files of the same name. The module is registered, as dataclasses and pickle require.
    name = f"_letsam_task_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise TaskError(f"{what} file {path} must be a Python file, with a name that ends in .py")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    loader = found.loader
    try:
        _guarded(f"importing {path.name} raised", str(path), lambda: loader.exec_module(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str, what: str) -> ModuleType:
    _allow_imports_from(Path.cwd())  # on the path under `python -m`, but not in a console script
    importlib.invalidate_caches()
    try:
        return _guarded(f"importing {name} raised", None, lambda: importlib.import_module(name))
    except TaskError as error:
        missing = error.__cause__
        # Only if the module itself or a parent package is missing, not a module that it imports.
        if isinstance(missing, ModuleNotFoundError) and missing.name and f"{name}.".startswith(f"{missing.name}."):
            raise TaskError(
                f"no module named {name!r}, in the current folder or installed; "
                f"a {what} in a file is written path/to/file.py:function"
            ) from missing
        raise


def _allow_imports_from(folder: Path) -> None:
    # At the end, so that a file next to the task never shadows an installed package.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _check_options(spec: str, function: Callable[..., Any], given: dict[str, Any], what: str = "task") -> None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # no signature: the call itself will raise
        return
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    accepted = {parameter.name for parameter in parameters if parameter.kind in by_name}
    for name in given:
        if name not in accepted:
            raise TaskError(f"{what} {spec!r} takes no `{name}`")


def _functions_of(module: ModuleType) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    return f"; it has {', '.join(names)}" if names else ""


def _guarded(what: str, file: str | None, call: Callable[[], Any]) -> Any:
    """Run the user's code; turn any exception into a one-line `TaskError` with the line number in the user's file."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        where = f" ({Path(file).name}, line {lines[-1]})" if file and lines else ""
        text = " ".join(str(error).split())
        kind = type(error).__name__
        raise TaskError(f"{what} {kind}: {text}{where}" if text else f"{what} {kind}{where}") from error
