"""What the commands tell to help: examples, the page that explains an error, and what `letsam` alone shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from letsam._version import __version__
from letsam.docs.explaining import page_about
from letsam.results.nearest import did_you_mean

__all__ = ["EXAMPLES", "OVERVIEW", "examples", "explained_by", "usage_message"]

OVERVIEW = f"""\
letsam {__version__}: sharpness-aware training for PyTorch, with a perturbation radius that is learned

Five things to do with it:

  letsam trial digits --label-noise 0.4                  see it work: a trial on real data, with a report
  letsam trial FILE --target COLUMN                      compare the methods on your own data: a verdict
  letsam train FILE --target COLUMN --method lets-sam    train a model, for letsam predict
  letsam doctor FILE.py:FUNCTION                         find the mistakes in your own training loop
  letsam docs                                            read the documentation

All commands: letsam --help. Examples and options of one: letsam COMMAND --help.
Completion in your shell: letsam --install-completion.
"""


def examples(page: str, *commands: str) -> str:
    """The end of the help of a command: examples, and the page with more.

    Args:
        page: of the documentation, which also explains errors that have none of their own; "" for none.
        commands: whole command lines.

    Example:
        >>> print(examples("how-to/report", "letsam report runs/patients").replace(chr(8), ""))
        <BLANKLINE>
        Examples:
          letsam report runs/patients
        <BLANKLINE>
        More: letsam docs how-to/report
    """
    lines = "\n".join(f"  {command}" for command in commands)
    return f"\b\nExamples:\n{lines}" + (f"\n\nMore: letsam docs {page}" if page else "")


EXAMPLES = {
    name: examples(page, *commands)
    for name, page, *commands in (
        (
            "trial",
            "how-to/your-data",
            "letsam trial digits --label-noise 0.4",
            "letsam trial patients.csv --target outcome --out runs/patients",
            "letsam trial folder/of/images --methods sgd,sam:0.05,lets-sam --seeds 5 --jobs 2",
        ),
        (
            "train",
            "how-to/models",
            "letsam train patients.csv --target outcome --method lets-sam --out runs/model",
            "letsam train patients.csv --target outcome --method lets-sam --out runs/model --epochs 60 --resume",
            "letsam train --from runs/model",
        ),
        ("predict", "how-to/models", "letsam predict runs/model new-patients.csv --out predictions.csv"),
        ("report", "how-to/report", "letsam report runs/patients", "letsam report runs/patients --language ja"),
        ("decide", "how-to/decision", "letsam decide runs/patients --baseline sam:0.05 --minimum-effect 1"),
        ("doctor", "how-to/doctor", "letsam doctor train.py:make_optimizer"),
        (
            "audit",
            "how-to/validation-data",
            "letsam audit patients.csv --target outcome",
            "letsam audit patients.csv --target outcome --deployed last-month.csv --out runs/patients",
        ),
        ("tasks", "how-to/tasks-vision", "letsam tasks"),
        ("methods", "overview", "letsam methods"),
        ("docs", "", "letsam docs", "letsam docs how-to/doctor"),
    )
}
"""The end of the help of each command that has no file of its own."""


def explained_by(error: BaseException, epilog: str | None) -> str | None:
    """The page that explains an error: of what raised it, or else that which the end of the command's help names."""
    found = re.search(r"^More: letsam docs (\S+)$", epilog or "", re.M)
    return page_about(error) or (found and found[1])


def usage_message(error: Any, commands: Sequence[str]) -> str:
    """The message of an error that typer raises: the nearest option or command, and which help lists them.

    Args:
        error: with `format_message` and `ctx`.
        commands: the names of all commands.
    """
    message, context = str(error.format_message()), error.ctx
    unknown = re.match(r"No such command '([^']*)'", message)
    if unknown:
        message = f"no such command {unknown[1]!r}{did_you_mean(unknown[1], commands)}"
    elif hasattr(error, "possibilities"):
        parameters = context.command.get_params(context)
        options = [name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)]
        name = error.option_name
        message = f"no such option {name}{did_you_mean(name, [one for one in options if one.startswith('--')])}"
    help_of = " ".join(["letsam", *([] if context is None or context.parent is None else [context.info_name])])
    return f"{message.removesuffix('.')} (more: {help_of} --help)"
