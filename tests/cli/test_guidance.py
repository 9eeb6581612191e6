"""What helps: the help of each command has examples, `letsam` alone shows what one can do, errors name their page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from letsam.cli import app
from letsam.docs import pages

COMMANDS: dict[str, Any] = dict(typer.main.get_group(app).commands)
SOURCE = Path(__file__).parents[2] / "src" / "letsam"


def example_lines(name: str) -> list[str]:
    """The example command lines in the help of a command."""
    command = COMMANDS[name]
    text = re.sub(r"\s*\\\n\s*", " ", f"{command.help}\n{command.epilog or ''}")
    examples = text.partition("Example")[2]
    return re.findall(rf"letsam {name}\b[^\n`]*", examples)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example_that_it_can_read(name: str) -> None:
    lines = example_lines(name)
    assert lines, f'the help of letsam {name} needs a line "Example: letsam {name} ..."'
    for line in lines:
        COMMANDS[name].make_context(name, shlex.split(line)[2:])  # raises for an unknown option, or a missing argument


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_shows_the_examples_as_one_types_them(name: str, letsam_run: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    status, out, _ = letsam_run(name, "--help")
    assert status == 0
    assert [line for line in example_lines(name) if line not in out] == []
    assert [page for page in re.findall(r"letsam docs ([a-z][\w/-]*)", out) if page not in pages()] == []


def test_the_list_of_commands_has_whole_sentences(letsam_run: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = letsam_run("--help")
    told = dict(re.findall(r"^  (\w+)  +(\S.*)$", out.partition("Commands:")[2], re.M))
    assert (status, told.keys()) == (0, COMMANDS.keys())
    assert {name: text for name, text in told.items() if not text.endswith(".") or text.endswith("...")} == {}


def test_letsam_alone_shows_five_things_to_do(letsam_run: Any) -> None:
    status, out, err = letsam_run()
    assert (status, err) == (0, "")
    rows = re.findall(r"^  letsam (\w+) ?(.*?)  +(\S.*)$", out, re.M)
    assert [name for name, *_ in rows] == ["trial", "trial", "train", "doctor", "docs"]
    for name, arguments, what in rows:
        COMMANDS[name].make_context(name, shlex.split(arguments))
        assert len(what) > 10
    assert "letsam --help" in out
    assert "letsam --install-completion" in out
    assert len(out.splitlines()) < 20
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("trial", "digits", "--epohcs", "3"), "no such option --epohcs, did you mean '--epochs'? (more: letsam trial"),
        (("trial", "digits", "--max-gradnorm", "3"), "no such option --max-gradnorm, did you mean '--max-grad-norm'?"),
        (("trial", "digits", "--norefit"), "no such option --norefit, did you mean '--no-refit'?"),
        (("trail", "digits"), "no such command 'trail', did you mean 'trial'? (more: letsam --help)"),
        (("reprot", "x"), "no such command 'reprot', did you mean 'report'? (more: letsam --help)"),
        (("xyz",), "no such command 'xyz' (more: letsam --help)"),
        (("--versoin",), "no such option --versoin, did you mean '--version'? (more: letsam --help)"),
        (("trial",), "Missing argument 'TASK' (more: letsam trial --help)"),
    ],
)
def test_what_is_mistyped_is_answered_with_the_nearest_and_the_help(
    arguments: tuple[str, ...], error: str, letsam_run: Any
) -> None:
    status, out, err = letsam_run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {error}")
    assert err.count("\n") == 1
    help_of = re.search(r"\(more: letsam ?(\w*) --help\)$", err.strip())
    assert help_of is not None
    assert letsam_run(*filter(None, [help_of[1]]), "--help")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "page"),
    [
        (("trial", "absent.csv", "--target", "y"), "how-to/your-data"),
        (("trial", "digts"), "how-to/your-data"),
        (("trial", "digits", "--seeds", "x"), "how-to/your-data"),  # of the command
        (("trial", "digits", "--methods", "samm"), "overview"),
        (("trial", "digits", "--executor", "slurm"), "how-to/many-machines"),
        (("trial", "digits", "--device", "gpu"), "how-to/torchrun"),
        (("trial", "digits", "--log", "paper"), "how-to/logging"),
        (("trial", "digits", "--evaluate-shift", "blurr"), "how-to/validation-data"),
        (("train", "ding-de-en", "--data-dir", ".", "--method", "sgd"), "how-to/tasks-language"),
        (("predict", "absent", "new.csv"), "how-to/models"),
        (("report", "absent"), "how-to/report"),
        (("decide", "absent"), "how-to/decision"),
        (("doctor", "absent.py:make"), "how-to/doctor"),
        (("audit", "absent.csv"), "how-to/your-data"),
    ],
)
def test_an_error_names_the_page_that_explains_it(
    arguments: tuple[str, ...], page: str, here: Path, letsam_run: Any
) -> None:
    status, out, err = letsam_run(*arguments)
    assert (status, out) == (2, "")
    assert err.endswith(f" (more: letsam docs {page})\n"), err
    assert letsam_run("docs", page)[0] == 0


def test_every_page_that_the_code_names_exists() -> None:
    named = set[str]()
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r'"((?:how-to|concepts|start|reference|tutorials)/[\w-]+)"', text))
        named |= set(re.findall(r"letsam docs ([a-z][\w-]*/[\w-]+)", text))
    named.discard("how-to/doct")  # an example of completion
    assert len(named) > 15
    assert named - pages().keys() == set()
