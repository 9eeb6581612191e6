"""Tasks by name, from a file and from a module."""

import sys
from pathlib import Path

import pytest

from letsam.tasks import Task, TaskError, available_tasks, load_task

# Names


def test_available_tasks_have_descriptions() -> None:
    names = [name for name, _ in available_tasks()]
    assert names[:5] == ["digits", "fashion-mnist", "cifar10", "cifar100", "imagenet"]
    assert len(set(names)) == len(names)
    assert all(description and "\n" not in description for _, description in available_tasks())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", r"^unknown task 'digit', did you mean 'digits'\?$"),
        ("Fashion_MNIST", r"did you mean 'fashion-mnist'\?"),
        (
            "zzz",
            r"^unknown task 'zzz', expected one that `letsam tasks` lists, a file or folder of data, or your own as",
        ),
        ("", r"^unknown task ''"),
        ("my_task.py", r"names a file but no function, expected my_task\.py:function"),
        ("my_task.py:", r"must be written path/to/file\.py:function or package\.module:function"),
        (":make", r"must be written path/to/file\.py:function"),
        ("a.py:not a name", r"must be written path/to/file\.py:function"),
        ("nowhere/my_task.py:make", r"^task file nowhere/my_task\.py does not exist"),
        (
            "no_such_package.tasks:make",
            r"^no module named 'no_such_package\.tasks', in the current folder or installed",
        ),
        ("letsam.no_such_part:make", r"^no module named 'letsam\.no_such_part'"),
        ("..:make", r"^importing \.\. raised TypeError"),
        ("torch:no_such_function", r"^torch has no function 'no_such_function'"),
        ("torch:pi", r"^torch has something that is not a function under the name 'pi'"),
    ],
)
def test_specs_that_lead_nowhere(spec: str, message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        load_task(spec)
    assert "\n" not in str(caught.value)


@pytest.fixture(autouse=True)
def _no_installed_data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only tests marked `data` may see what this machine has installed."""
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("LETSAM_DATA", raising=False)
        monkeypatch.setattr("letsam.tasks.fashion_mnist.DEBIAN_FOLDER", tmp_path / "not-installed")


# Tasks of one's own

TASK_FILE = """
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from letsam.tasks import Task

def data(count):
    return TensorDataset(torch.zeros(count, 4), torch.arange(count) % 2)

def make_task():
    return Task(name="mine", model=lambda: nn.Linear(4, 2), train=data(8), test=data(4))

def make_sized(train_size=6, *, data_dir=None):
    return Task(name=f"sized {data_dir}", model=lambda: nn.Linear(4, 2), train=data(train_size), test=data(4))

def make_any(**options):
    return Task(name=str(sorted(options)), model=lambda: nn.Linear(4, 2), train=data(8), test=data(4))

def make_dict():
    return {"name": "mine"}

def make_bad_field():
    return Task(name="mine", model=lambda: nn.Linear(4, 2), train=data(8), test=data(4), epochs=0)

def fail():
    raise KeyError("first\\nsecond")

def leave():
    raise SystemExit(3)

def silent():
    raise NotImplementedError

constant = 3
"""


@pytest.fixture
def task_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "my_task.py"
    path.write_text(TASK_FILE)
    return path


RAISING_LINE = TASK_FILE.splitlines().index('    raise KeyError("first\\nsecond")') + 1


def test_task_from_a_file(task_file: Path) -> None:
    task = load_task(f"{task_file}:make_task")
    assert isinstance(task, Task)
    assert task.name == "mine"


def test_task_from_a_relative_path_without_a_folder(task_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(task_file.parent)
    assert load_task("my_task.py:make_task").name == "mine"


def test_task_from_a_module_in_the_current_folder(task_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = task_file.parent / "letsam_test_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "own.py").write_text(TASK_FILE)
    monkeypatch.chdir(task_file.parent)
    try:
        assert load_task("letsam_test_package.own:make_task").name == "mine"
        with pytest.raises(TaskError, match=r"^no module named 'letsam_test_package\.other'"):
            load_task("letsam_test_package.other:make_task")
        with pytest.raises(
            TaskError, match=r"^letsam_test_package\.own has no function 'make'; it has data, make_task,"
        ):
            load_task("letsam_test_package.own:make")
        with pytest.raises(TaskError, match=rf"KeyError: .* \(own\.py, line {RAISING_LINE}\)$"):
            load_task("letsam_test_package.own:fail")
    finally:
        for name in [name for name in sys.modules if name.startswith("letsam_test_package")]:
            del sys.modules[name]


def test_two_files_of_the_same_name(task_file: Path) -> None:
    other = task_file.parent / "other" / "my_task.py"
    other.parent.mkdir()
    other.write_text(TASK_FILE.replace('name="mine"', 'name="other"'))
    assert load_task(f"{task_file}:make_task").name == "mine"
    assert load_task(f"{other}:make_task").name == "other"
    assert load_task(f"{task_file}:make_task").name == "mine"


def test_a_file_imports_what_lies_beside_it_and_hides_nothing(task_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    (task_file.parent / "colorsys.py").write_text("raise RuntimeError('hides the standard library')")
    (task_file.parent / "letsam_test_helper.py").write_text("import colorsys\nNAME = 'helped'")
    task_file.write_text(
        TASK_FILE.replace('name="mine"', "name=letsam_test_helper.NAME") + "\nimport letsam_test_helper"
    )
    try:
        assert load_task(f"{task_file}:make_task").name == "helped"
    finally:
        sys.modules.pop("letsam_test_helper", None)


def test_options_reach_functions_that_take_them(task_file: Path, tmp_path: Path) -> None:
    sized = load_task(f"{task_file}:make_sized", train_size=5, data_dir=tmp_path)
    assert len(sized.train) == 5  # type: ignore[arg-type]
    assert sized.name == f"sized {tmp_path}"
    assert len(load_task(f"{task_file}:make_sized").train) == 6  # type: ignore[arg-type]
    assert load_task(f"{task_file}:make_any", train_size=5).name == "['train_size']"
    assert load_task(f"{task_file}:make_any", model="mlp").name == "['model']"
    with pytest.raises(TaskError, match=r"my_task\.py:make_sized' takes no `model`$"):
        load_task(f"{task_file}:make_sized", model="mlp")
    with pytest.raises(TaskError, match=r"my_task\.py:make_task' takes no `train_size`$"):
        load_task(f"{task_file}:make_task", train_size=5)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("make_dict", r"my_task\.py:make_dict must return a letsam\.tasks\.Task, got dict$"),
        ("data", r"my_task\.py:data raised TypeError: data\(\) missing 1 required positional argument: 'count'$"),
        (
            "make_bad_field",
            r"raised ValueError: `epochs` must be a whole number >= 1, got 0 \(my_task\.py, line \d+\)$",
        ),
        ("fail", r"raised KeyError: 'first.*second' \(my_task\.py, line \d+\)$"),
        ("leave", r"raised SystemExit: 3 \(my_task\.py, line \d+\)$"),
        ("silent", r"raised NotImplementedError \(my_task\.py, line \d+\)$"),
        ("constant", r"something that is not a function under the name 'constant'"),
        ("make", r"has no function 'make'; it has data, make_task, make_sized"),
    ],
)
def test_functions_that_give_no_task(task_file: Path, function: str, message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        load_task(f"{task_file}:{function}")
    assert "\n" not in str(caught.value)


def test_the_line_named_is_the_one_that_raised(task_file: Path) -> None:
    with pytest.raises(TaskError, match=rf"\(my_task\.py, line {RAISING_LINE}\)$"):
        load_task(f"{task_file}:fail")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import no_such_module_anywhere",
            r"importing my_task\.py raised ModuleNotFoundError: No module named .* line 1\)$",
        ),
        ("def make_task(:\n", r"importing my_task\.py raised SyntaxError: .*my_task\.py, line 1"),
        (
            "x = 1\nraise RuntimeError('a\\nb')",
            r"importing my_task\.py raised RuntimeError: a b \(my_task\.py, line 2\)$",
        ),
        ("import sys; sys.exit('bye')", r"importing my_task\.py raised SystemExit: bye"),
        ("", r"has no function 'make_task'$"),
    ],
    ids=["import", "syntax", "raise", "exit", "empty"],
)
def test_files_that_cannot_be_imported(task_file: Path, text: str, message: str) -> None:
    task_file.write_text(text)
    with pytest.raises(TaskError, match=message) as caught:
        load_task(f"{task_file}:make_task")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_python_file(task_file: Path) -> None:
    other = task_file.with_suffix(".txt")
    other.write_text(TASK_FILE)
    with pytest.raises(TaskError, match=r"my_task\.txt must be a Python file, with a name that ends in \.py"):
        load_task(f"{other}:make_task")


def test_a_module_whose_own_import_is_missing_says_which(task_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (task_file.parent / "letsam_test_broken.py").write_text("import no_such_module_anywhere")
    monkeypatch.chdir(task_file.parent)
    with pytest.raises(
        TaskError, match=r"importing letsam_test_broken raised ModuleNotFoundError: .*no_such_module_any"
    ):
        load_task("letsam_test_broken:make_task")


def test_interrupting_is_no_task_error(task_file: Path) -> None:
    task_file.write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_task(f"{task_file}:make_task")
