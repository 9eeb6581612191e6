"""The section of the page on the audit of the data."""

import dataclasses
import json

import pytest
import torch
from torch.utils.data import TensorDataset

from letsam.reports.audit_section import audit_section
from letsam.reports.html import render_report
from letsam.results import Results
from letsam.training.task_audit import audit_record
from letsam.validation import audit
from reports.browser import Opened, chromium
from reports.test_page import Page


@pytest.fixture(scope="module")
def record():
    """Of data with repeated rows, groups on both sides and drift in operation."""
    stream = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(1200, 5, generator=stream), torch.arange(1200) % 2
    train, validation = TensorDataset(inputs[:1150], targets[:1150]), TensorDataset(inputs[1100:], targets[1100:])
    found = audit(
        train,
        validation,
        inputs[:60] + 3,
        groups=(range(1150), range(1149, 1249)),
        names=([f"row {i}" for i in range(1150)], ["<b>a</b>.png", *(f"row {i}" for i in range(99))]),
        probe=False,
    )
    assert {one.code for one in found} >= {"duplicates", "group-leakage", "deployed-differs"}
    return audit_record(found, seed=3, validation_share=0.1, probe=False, deployed="july.csv")


def test_findings_say_what_how_many_and_what_to_change(five, record):
    page = Page(render_report(dataclasses.replace(five, audit=record)))
    text = " ".join("".join(page.text).split())
    assert "audit" in page.ids
    assert "Examined: 1,150 training and 100 validation samples, as seed 3 divides them" in text
    assert "They were compared with july.csv." in text
    assert "Error: duplicates 50 of 100" in text
    assert "50 of 100 validation samples are training samples" in text
    assert "What to change: leave them out of one side, or split by group." in text
    assert "<b>a</b>.png (training: row 1100)" in text
    assert "20 of these" in text  # names
    assert "split with letsam.validation.split(..., groups=...)." in text  # code without its quotes
    assert "deployed told from validation data, AUC (95 % interval)" in text


def test_every_finding_and_number_of_an_audit_is_shown(five, record):
    found = audit_section(dataclasses.replace(five, audit=record))
    assert [one.code for one in found.findings] == [one["code"] for one in record["findings"]]
    for shown, one in zip(found.findings, record["findings"], strict=True):
        for parts, name in ((shown.what, "what"), (shown.change, "change")):
            assert "`".join(text for text, _ in parts) == one[name].strip("`")
    assert len(found.numbers) == len(set(record["measures"]) - {"train", "validation", "examined"})


def test_clean_data(five, record):
    clean = {**record, "findings": [], "deployed": None, "probe": True}
    clean["measures"] = {**record["measures"], "examined": [500, 100], "slope_noise": None}
    text = "".join(Page(render_report(dataclasses.replace(five, audit=clean))).text)
    assert "Nothing is wrong." in text
    assert "500 of 1,150 training and 100 validation samples" in text
    assert "letsam audit does so" not in text
    assert "noise of the slopes" in text


def test_a_trial_without_an_audit_has_no_section(five):
    assert "audit" not in Page(render_report(five)).ids


def test_the_record_survives_the_file_and_a_damaged_one_is_named(five, record, tmp_path):
    path = tmp_path / "results.json"
    results = dataclasses.replace(five, audit=record)
    results.save(path)
    assert Results.load(path).audit == json.loads(json.dumps(record))
    for edit, message in (
        (lambda a: a.update(findings=3), "expected audit.findings to be a list, got 3"),
        (lambda a: a.pop("measures"), "expected the field audit.measures, but it is missing"),
        (lambda a: a["findings"][0].update(count="x"), r"expected audit.findings\[0\].count to be an integer"),
        (lambda a: a["findings"][0].update(samples=[1]), r"expected audit.findings\[0\].samples\[0\] to be a string"),
    ):
        value = json.loads(json.dumps({**record}))
        edit(value)
        content = json.loads(path.read_text())
        (tmp_path / "bad.json").write_text(json.dumps({**content, "audit": value}))
        with pytest.raises(ValueError, match=message):
            Results.load(tmp_path / "bad.json")


@pytest.mark.browser
@pytest.mark.parametrize(("width", "script"), [(360, True), (1280, False)])
def test_the_section_in_a_browser(five, record, tmp_path, width, script):
    path = tmp_path / "audit.html"
    path.write_text(render_report(dataclasses.replace(five, audit=record)), encoding="utf-8")
    with chromium() as browser:
        one = Opened(browser, path, width, color_scheme="dark", java_script_enabled=script)
        assert one.page.locator(".finding:visible").count() == len(record["findings"])
        one.page.locator(".finding summary").first.click()
        assert "<b>a</b>.png (training: row 1100)" in one.page.locator(".names").first.inner_text()
        one.page.locator("section[aria-labelledby=audit] .more summary").click()
        assert one.page.get_by_text("validation told from training data").is_visible()
        assert (one.width(), one.problems) == (width, [])
        one.context.close()
