"""What the README promises about the project itself: the two commands, the pages, the package."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import letsam
from letsam import cli
from letsam.results import Results
from letsam.training.config import TrialConfig
from letsam.training.trial import planned

ROOT = Path(__file__).parents[1]


def dry_run(target: str, tmp_path: Path) -> str:
    command = ["make", "--no-print-directory", "-n", target, f"VENV={tmp_path / 'venv'}"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_make_demo_sets_up_from_nothing_and_runs_the_trial(tmp_path: Path) -> None:
    lines = dry_run("demo", tmp_path).splitlines()
    steps = ["tools/install.py", "letsam trial digits --label-noise 0.4"]
    found = [next(i for i, line in enumerate(lines) if step in line) for step in steps]
    assert found == sorted(found)
    assert lines[found[0]].endswith("venv --extras trial")
    told = [line for line in lines if line.startswith("echo")]
    assert lines.index(told[0]) == found[1] - 1
    assert "39 training runs" in told[0]  # as many as the report has
    assert lines[-1] == f'echo "open it in a browser: file://{ROOT}/runs/demo/report.html"'


def test_make_test_and_lint_set_up_from_nothing(tmp_path: Path) -> None:
    assert "bin/pytest" in dry_run("test", tmp_path)
    assert "tools/install.py" in dry_run("test", tmp_path)
    for tool in ("ruff check", "ruff format --check", "pyright"):
        assert tool in dry_run("lint", tmp_path)
    assert "tools/build_site.py" in dry_run("docs", tmp_path)


def test_ci_calls_the_readmes_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test" in script
    assert "make lint" in script
    assert "make docs" in script[script.index("make lint") :]
    assert "make test" in (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_demo_shows_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: None)  # `tests/reports` makes it
    # Without the radii between; the rows that are left show what the text under the table says.
    methods = "sgd,sam:0.05,sam:0.5,asam:0.2,asam:5,lets-sam,lets-asam"
    arguments = ["trial", "digits", "--label-noise", "0.4", "--methods", methods, "--seeds", "1"]
    assert cli.run([*arguments, "--out", str(tmp_path)]) == 0
    accuracy = {run.method: run.test_accuracy for run in Results.load(tmp_path / "results.json").runs}
    small = max(accuracy["sgd"], accuracy["sam:0.05"], accuracy["asam:0.2"])
    for large in ("sam:0.5", "asam:5", "lets-sam", "lets-sam+refit", "lets-asam", "lets-asam+refit"):
        assert accuracy[large] > small + 0.05
    text = (ROOT / "docs" / "overview.md").read_text()
    rows = [row[0].strip("*") for row in cells(text[text.index("## The demo") :])]
    assert rows[2:] == [run.name for run in planned(TrialConfig(task="digits", seeds=(0,)))]


def test_the_readme_has_the_numbers_of_the_evidence_page() -> None:
    """Of one number for all tasks: mean and worst on images and on text."""
    text = (ROOT / "docs" / "evidence.md").read_text()
    page_rows = cells(text[text.index("### One number for all tasks, SAM") :])
    rows = [row for row in cells((ROOT / "README.md").read_text()) if row[0].endswith("`") and len(row) == 6]
    assert len(rows) > 5
    for row in rows:
        name = row[0].split(", ")[-1]
        found = next(found for found in page_rows if found[0] == name)
        assert row[1:5] == [found[place] for place in (1, 2, 4, 5)], name


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def cells(text: str) -> list[list[str]]:
    """The rows of all tables."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
PAGES += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("document", PAGES)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing


def test_the_package_says_what_it_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "MIT"
    assert project["requires-python"] == ">=3.11"
    assert project["dependencies"] == ["torch>=2.6"]  # everything else is an extra
    assert (Path(letsam.__file__).parent / "py.typed").exists()
    assert f"## {letsam.__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_pins_are_in_one_place() -> None:
    pinned = re.findall(r"^([a-z-]+)==", (ROOT / "constraints.txt").read_text(), re.M)
    assert "torch" in pinned
    elsewhere = [*ROOT.glob("*.toml"), ROOT / "Makefile", ROOT / ".ci" / "run"]
    assert not [path.name for path in elsewhere if re.search(r"\w==\d", path.read_text())]
