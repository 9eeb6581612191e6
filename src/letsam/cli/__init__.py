"""The command line: `letsam trial`, `train`, `report`, `doctor`, `tasks`, `methods`, `docs` and others.

Invalid input is reported in one line on stderr, with exit status 2; an interruption has exit status 130. A command
imports what it needs when it runs.

- `commands`, `train_command`, `audit_command`, `listing`: the commands
- `models_command`, `retune_command`, `rollout_command`, `shadow_command`, `watch_command`: models in operation; a
  further one needs an import below
- `options`: their options, and how lists are read
- `guidance`: examples, and the pages that explain errors
- `terminal`: tables, progress bars and messages
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

import typer

from letsam.cli import train_command as _train_command  # noqa: F401  # isort: skip  # before others in the help
from letsam.cli import audit_command as _audit_command  # noqa: F401
from letsam.cli import listing as _listing  # noqa: F401
from letsam.cli import models_command as _models_command  # noqa: F401
from letsam.cli import retune_command as _retune_command  # noqa: F401
from letsam.cli import rollout_command as _rollout_command  # noqa: F401
from letsam.cli import shadow_command as _shadow_command  # noqa: F401
from letsam.cli import watch_command as _watch_command  # noqa: F401
from letsam.cli.commands import app
from letsam.cli.guidance import OVERVIEW, explained_by, usage_message
from letsam.results import printable

__all__ = ["app", "run"]

EXTRAS = {
    "cryptography": "operation",
    "dask": "cluster",
    "distributed": "cluster",
    "ray": "cluster",
    "optuna": "search",
}
"""The extra of letsam that installs a package, where it is not `trial`."""


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Args:
        arguments: without the name of the program.

    Returns:
        The exit status: 0, 2 for invalid input, 130 for an interruption.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal or a pipe that has not every character
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if not arguments and "_LETSAM_COMPLETE" not in os.environ:
            print(OVERVIEW, end="")
            return 0
        status = app(args=list(arguments), prog_name="letsam", standalone_mode=False)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("LETSAM_TRACEBACK"):
            raise
        return _fail(error, arguments)
    return status if isinstance(status, int) else 0


def _fail(error: Exception, arguments: Sequence[str]) -> int:
    """Print one line on stderr, with the page that explains the error.

    For an unexpected error it names the type and how to get the traceback.
    """
    commands = typer.main.get_group(app).commands
    if hasattr(error, "format_message"):
        message = usage_message(error, [*commands])
    elif isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("letsam"):
        package = error.name.partition(".")[0]
        extra = EXTRAS.get(package, "trial")
        message = f'the command letsam needs the package {package}: install it with pip install "letsam[{extra}]"'
    elif isinstance(error, (ValueError, OSError)):
        page = explained_by(error, commands[arguments[0]].epilog if arguments[0] in commands else None)
        message = str(error) if page is None else f"{error} (more: letsam docs {page})"
    elif type(error) is ImportError:  # of an extra, which it names
        message = str(error)
    else:
        message = f"{type(error).__name__}: {error} (LETSAM_TRACEBACK=1 shows where)"
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return 2
