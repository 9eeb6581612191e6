"""The HTML page of a trial."""

import ast
import base64
import csv
import dataclasses
import gzip
import hashlib
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from letsam.decision import decide, explanation, headline, numbers_beneath
from letsam.results import Results, Run
from report_cases import trial

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from letsam.reports import figures
from letsam.reports import table as tables
from letsam.reports.html import render_report, write_report
from letsam.reports.verdict import verdict


@pytest.fixture(scope="module")
def html(five: Results) -> str:
    """The page of five methods."""
    return render_report(five)


class Page(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.ids, self.loads, self.text, self.downloads = [], [], [], [], {}
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if "download" in dict(attrs):
            self.downloads[dict(attrs)["download"]] = dict(attrs)["href"]
            return
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in {"src", "href", "xlink:href", "data", "srcset", "action"} and not value.startswith("#"):
                self.loads.append(value)
            if name.startswith("on"):
                self.loads.append(f"{name}={value}")

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_one_file(five, html, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "letsam.reports.html.render_report",
        lambda results, predictions, language: html if (results, predictions, language) == (five, (), "en") else "",
    )
    path = tmp_path / "out" / "report.html"
    write_report(five, path)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == html


def test_the_page_is_self_contained(html):
    page = Page(html)
    assert page.loads == []
    assert all(link.startswith("data:") for link in page.downloads.values())
    assert not {"link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert page.tags.count("script") == 4  # numbers, figures, Plotly, and the script of the page
    assert set(re.findall(r"https?://[^\s\"'<]*", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"@import|url\((?!#)", html)
    assert page.tags.count("figure") == 8
    assert len(page.ids) == len(set(page.ids))


def test_the_policy_of_the_page_allows_its_two_scripts_alone(html):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html).group(1)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    packed = re.search(r'<script type="text/plain" id="plotly">(.*?)</script>', html).group(1)
    plotly = gzip.decompress(base64.b64decode(packed))
    assert b"plotly.js" in plotly[:200]
    allowed = re.search("script-src ([^;]*)", policy).group(1).split()
    digests = [base64.b64encode(hashlib.sha256(code).digest()).decode() for code in (script.encode(), plotly)]
    assert allowed == [f"'sha256-{digest}'" for digest in digests]


def test_every_reference_within_the_page_has_a_target(html):
    ids = set(Page(html).ids)
    targets = set(re.findall(r'href="#([^"]+)"', html)) | set(re.findall(r"url\(#([^)]+)\)", html))
    assert targets
    assert targets <= ids


def test_the_page_holds_verdict_table_configuration_and_environment(five, html):
    text = "".join(Page(html).text)
    found = verdict(five)
    for expected in (found.headline, found.comparisons[0][1], *found.caveats):
        assert expected in text
    for cell in ("91.00 ± 1.00", "0.05 → 0.2", "epochs", "torch", "2.9", "Generalization gap"):
        assert cell in text


def test_the_same_results_give_the_same_page(five, html):
    assert render_report(five) == html


def test_text_is_escaped():
    results = trial({"sgd": [0.5], "<b>x</b>&": [0.6]}, note="<script>alert(1)</script>")
    html = render_report(Results("<i>task</i>", results.config, {"platform": "<img src=x>"}, results.runs))
    page = Page(html)
    assert not {"img", "i"} & set(page.tags)
    assert page.tags.count("script") == 4
    assert "<script>alert(1)</script>" in "".join(page.text)
    assert "<i>task</i>" in "".join(page.text)


def test_a_trial_of_sgd_alone_says_that_there_is_no_radius():
    page = Page(render_report(trial({"sgd": [0.7]})))
    text = "".join(page.text)
    assert "No radius to show" in text
    assert "No hypergradient to show" in text
    assert "figure-radius" in page.ids
    assert not any(name.startswith("radius-") for name in page.ids)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_an_incomplete_trial_has_a_page(broken, count):
    html = render_report(Results("digits", {"methods": ["sgd", "lets-sam"], "seeds": [0, 1]}, {}, broken.runs[:count]))
    expected = (
        "No run has finished yet" if count == 0 else f"The trial is incomplete: {4 - count} of 4 runs are missing"
    )
    assert expected in html


def test_diverged_runs_have_a_page(broken):
    assert "diverged" in render_report(broken)
    assert "Nothing to draw" in render_report(trial({"sgd": [math.nan]}))


def test_another_metric_goes_by_its_name_everywhere(five):
    runs = tuple(Run(**{**vars(run), "metric": "BLEU"}) for run in five.runs)
    bleu = Results(five.task, five.config, five.environment, runs)
    assert tables.markdown_table(bleu).startswith("| method | test BLEU | test loss |")
    assert "91.00 ± 1.00 |" in tables.markdown_table(bleu).replace("*", "")  # times 100 all the same
    assert "lets-sam reached the highest mean test BLEU: 91.00 ± 1.00 over 3 seeds." in verdict(bleu).headline
    for draw in (figures.learning_curves, figures.method_comparison):
        assert draw(bleu).axes[0].get_title(loc="left") == "Test BLEU"
        assert draw(five).axes[0].get_title(loc="left") == "Test accuracy (%)"
    page = render_report(bleu)
    assert "The BLEU of the test samples times 100" in page
    assert "accuracy" not in re.sub(r"<(svg|script).*?</\1>", "", page, flags=re.DOTALL).lower()


def read(link):
    kind, content = link.split(",", 1)
    assert kind.endswith(";charset=utf-8;base64")
    return base64.b64decode(content).decode()


def test_the_numbers_can_be_downloaded(five):
    runs = [
        *five.runs[:-1],
        dataclasses.replace(five.runs[-1], method="=1+1", metrics={"F1": 0.25}, test_loss=math.nan),
    ]
    files = Page(render_report(dataclasses.replace(five, runs=tuple(runs)))).downloads
    assert list(files) == ["runs.csv", "history.csv", "runs.json"]
    rows = list(csv.DictReader(io.StringIO(read(files["runs.csv"]))))
    assert [(row["method"], int(row["seed"])) for row in rows[:-1]] == [run.key for run in runs[:-1]]
    assert [float(row["test_accuracy"]) for row in rows] == [run.test_accuracy for run in runs]
    assert rows[-1]["method"] == "'=1+1"  # a spreadsheet would take it for a formula
    assert (rows[-1]["F1"], rows[0]["F1"], rows[0]["rho_final"]) == ("0.25", "", "")
    points = list(csv.DictReader(io.StringIO(read(files["history.csv"]))))
    assert len(points) == 3 * len(runs)
    assert (points[1]["epoch"], points[1]["test_loss"], points[1]["rho"]) == ("2.0", "0.7", "")
    whole = json.loads(read(files["runs.json"]))
    assert whole["config"] == {"methods": list(five.methods), "epochs": 3}
    assert whole["runs"][0]["history"]["test_accuracy"] == [0.5, 0.7, 0.7]
    assert whole["runs"][-1]["test_loss"] is None
    assert "rho_schedule" not in whole["runs"][-2]["history"]


def test_what_was_inferred_from_files_is_a_section(five, html):
    page = "".join(Page(render_report(dataclasses.replace(five, inferred=(("classes", "3: a, <b>, c"),)))).text)
    assert "What was inferred" in page
    assert "3: a, <b>, c" in page
    assert "What was inferred" not in html


def test_results_of_older_schemas_have_a_page(five, tmp_path):
    five.save(tmp_path / "results.json")
    value = json.loads((tmp_path / "results.json").read_text())
    value["schema"] = 1
    for run in value["runs"]:
        for name in ("metric", "metrics", "steps", "skipped_steps", "lower_is_better"):
            del run[name]
    (tmp_path / "results.json").write_text(json.dumps(value))
    write_report(Results.load(tmp_path / "results.json"), tmp_path / "report.html")
    assert "lets-sam reached the highest" in (tmp_path / "report.html").read_text()


def test_the_page_repeats_the_verdict_with_its_numbers(five):
    found = decide(five)
    page = " ".join(" ".join(Page(render_report(dataclasses.replace(five, decision=found.as_json()))).text).split())
    for text in (headline(found), *explanation(found), *(value for _, value in numbers_beneath(found))):
        assert text in page
    assert "Numbers of this verdict" not in render_report(five)


def test_reports_import_nothing_of_the_project_but_languages_results_and_decisions():
    folder = Path(figures.__file__).parent
    imported = set()
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add(node.module)
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
    ours = {name for name in imported if name.startswith("letsam") and not name.startswith("letsam.reports")}
    assert {name.split(".")[1] for name in ours} == {"languages", "results", "decision"}
    assert "matplotlib.pyplot" not in imported
