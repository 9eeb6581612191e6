"""`letsam retune` on real data from end to end: champion, challengers, verdict, version, what is current."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from safetensors.torch import load_file

import letsam
from cli_cases import check_error, files
from letsam.cli import run
from letsam.decision import decide
from letsam.model_folder import model_place, version_of
from letsam.model_folder.data_hashes import hashed_source
from letsam.operation import retune
from letsam.operation.promotion import promotion
from letsam.results import Results, Run
from letsam.results.predicted import load_predictions
from retune_cases import ENOUGH, QUICK, champion, content, wines

SHIFT = ("--evaluate-shift", "noisy:1,noisy:3")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
    return tmp_path


@pytest.fixture
def letsam_run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return (run(arguments), *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def gone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a user after a re-tuning with the verdict go; what it printed is in `out.txt`."""
    folder, out = tmp_path_factory.mktemp("gone"), io.StringIO()
    champion(folder)
    with contextlib.chdir(folder), contextlib.redirect_stdout(out):
        assert run(["retune", "wine", "new.csv", *ENOUGH, *SHIFT]) == 0, out.getvalue()
    (folder / "out.txt").write_text(out.getvalue())
    return folder


@pytest.fixture
def always_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("letsam.operation.promotion.Promotion.verdict", "go")


def test_a_go_makes_the_new_version_the_current_one(gone: Path, letsam_run: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(gone)
    out, folder = (gone / "out.txt").read_text(), gone / "wine-versions"
    before = files(gone / "wine" / "model")
    assert content(folder / "current.json")["version"] == "v0002"
    assert model_place(folder) == folder / "v0002"
    assert files(folder / "v0001") == before
    record = version_of(folder / "v0002")
    assert record is not None
    assert (record.version, record.made_by, record.seed) == (2, "retune", 0)
    assert record.parent == letsam.load("wine").fingerprint
    assert record.data["sources"] == [hashed_source("train", "new.csv")]
    assert str(record.parent) in (folder / "v0002" / "README.md").read_text()
    verdict: Any = record.verdict
    assert verdict["verdict"] == verdict["held_out"]["verdict"] == "go"
    results = Results.load(folder / "retunes" / "v0002" / "results.json")
    (measured,) = [run for run in results.runs_of(verdict["candidate"]) if run.seed == 0]
    assert record.numbers["accuracy"] == measured.test_accuracy
    assert record.radius == {"initial": measured.rho_initial, "final": measured.rho_final}
    assert f"Go: use {verdict['candidate']} instead of champion." in out
    assert out.endswith(f"version: wine-versions/v0002 ({verdict['candidate']}, current)\n")

    assert letsam_run("predict", "wine-versions", "new.csv", "--out", "p.csv")[0] == 0
    predicted = [row["prediction"] for row in csv.DictReader((gone / "p.csv").open())]
    right = [one == name for one, name in zip(predicted, pandas.read_csv("new.csv")["target"], strict=True)]
    assert sum(right) / len(right) > 0.8
    old = letsam.load("wine").predict("new.csv").labels
    assert sum(a == b for a, b in zip(old, pandas.read_csv("new.csv")["target"], strict=True)) / len(right) < 0.7


def test_the_verdict_is_that_of_the_paired_test(gone: Path) -> None:
    folder = gone / "wine-versions" / "retunes" / "v0002"
    assert (folder / "report.html").stat().st_size > 1e6
    results = Results.load(folder / "results.json")
    assert [run.method for run in results.runs][:4] == ["champion", "sgd", *results.methods[2:]]
    losses = {m: sum(r.validation_loss or 0 for r in results.runs_of(m)) for m in results.methods[1:]}
    verdict: Any = version_of(gone / "wine-versions" / "v0002").verdict  # type: ignore[union-attr]
    assert verdict["candidate"] == min(losses, key=lambda name: losses[name])
    predictions = load_predictions(folder, [run.key for run in results.runs])
    assert len(predictions) == len(results.runs) == 12
    again = decide(
        results, predictions=predictions, baseline="champion", candidate=verdict["candidate"], planned_seeds=3
    )
    for name in ("gain", "lower", "upper", "verdict", "sample_error", "seeds"):
        assert verdict["held_out"][name] == getattr(again, name)
    assert results.decision == verdict["held_out"]


def test_the_champion_is_not_trained_and_the_challengers_start_from_its_weights(letsam_run: Any, here: Path) -> None:
    champion(here)
    wines(drifted=True)[:40].to_csv("test.csv", index=False)
    status, out, _ = letsam_run("retune", "wine", "new.csv", "--test", "test.csv", *QUICK, "--lr", "1e-9")
    assert status == 1
    assert "No-go: do not use" in out
    folder = here / "wine-versions"
    results = Results.load(folder / "retunes" / "v0002" / "results.json")
    labels = letsam.load("wine").predict("test.csv").labels
    right = sum(a == b for a, b in zip(labels, pandas.read_csv("test.csv")["target"], strict=True))
    for one in results.runs:
        assert one.test_accuracy == pytest.approx(right / 40)
        assert one.gradient_passes == (0 if one.method == "champion" else one.gradient_passes) >= 0
    assert {one.steps for one in results.runs_of("champion")} == {0}
    assert content(folder / "current.json")["version"] == "v0001"
    assert out.endswith("not current)\n")
    weights = [load_file(folder / name / "weights.safetensors") for name in ("v0001", "v0002")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(weights[1][name], tensor) for name, tensor in weights[0].items())
    assert letsam.load(folder).folder == folder / "v0001"


def test_nothing_is_promoted_where_it_is_not_wanted_or_the_champion_is_not_current(
    letsam_run: Any, here: Path, always_go: None
) -> None:
    champion(here)
    assert letsam_run("retune", "wine", "new.csv", *QUICK, "--no-promote", "--out", "v")[0] == 0
    assert content(here / "v" / "current.json")["version"] == "v0001"
    assert letsam_run("retune", "v", "new.csv", *QUICK)[0] == 0
    assert content(here / "v" / "current.json")["version"] == "v0003"
    # v0001 is compared, so a go says nothing on v0003, which is current
    status, out, _ = letsam_run("retune", "v/v0001", "new.csv", *QUICK)
    assert status == 0
    assert content(here / "v" / "current.json")["version"] == "v0003"
    assert out.endswith("not current)\n")
    parents = [version_of(here / "v" / f"v000{n}").parent for n in (2, 3, 4)]  # type: ignore[union-attr]
    assert len(set(parents)) == 1


def test_a_challenger_that_is_worse_under_shift_is_no_go(gone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = gone / "wine-versions"
    verdict: Any = version_of(folder / "v0002").verdict  # type: ignore[union-attr]
    results = Results.load(folder / "retunes" / "v0002" / "results.json")
    means = {
        name: sum(run.shifted[s]["metric"] or 0 for run in results.runs_of(name) for s in ("noisy:1", "noisy:3")) / 6
        for name in ("champion", verdict["candidate"])
    }
    gain = 100 * (means[verdict["candidate"]] - means["champion"])
    assert verdict["shifted"]["gain"] == pytest.approx(gain)
    assert "Under shift, " in (gone / "out.txt").read_text()

    predictions = load_predictions(folder / "retunes" / "v0002", [run.key for run in results.runs])
    found = promotion(results, predictions, results.methods[1:], 0.0)
    assert found.verdict == "go"

    def under_shift(run: Run) -> Run:
        value = 1.0 if run.method == "champion" else 0.5 + run.seed / 100
        return replace(run, shifted={name: {**test, "metric": value} for name, test in run.shifted.items()})

    worse = replace(results, runs=tuple(map(under_shift, results.runs)))
    found = promotion(worse, predictions, results.methods[1:], 0.0)
    assert (found.held_out.verdict, found.verdict, found.worse_under_shift) == ("go", "no-go", True)


def test_old_and_new_data_together(letsam_run: Any, here: Path) -> None:
    champion(here)
    letsam_run("retune", "wine", "new.csv", "--old", "old.csv", *QUICK)
    folder = here / "wine-versions"
    record = version_of(folder / "v0002")
    assert record is not None
    assert [source["role"] for source in record.data["sources"]] == ["train", "old"]
    results = Results.load(folder / "retunes" / "v0002" / "results.json")
    assert ("old data", "72 training samples") in [tuple(row) for row in results.inferred]
    assert results.config["data"]["samples"][0] == 72 + 70  # four fifths of 90 and of 88
    test = pandas.read_csv("old.csv")
    held_out = Results.load(here / "wine" / "results.json").runs[0].test_accuracy
    for one in results.runs_of("champion"):
        assert one.metrics["accuracy on old data"] == pytest.approx(held_out)
    assert len(test) == 90


def test_the_new_version_is_signed_before_it_is_current(letsam_run: Any, here: Path, always_go: None) -> None:
    champion(here)
    check_error(letsam_run("retune", "wine", "new.csv", *QUICK, "--sign", "a.pem"), r"a\.pem: expected a key, but it")
    assert letsam_run("sign", "wine", "--key", "a.pem", "--new-key")[0] == 0
    assert letsam_run("retune", "wine", "new.csv", *QUICK, "--sign", "a.pem")[0] == 0
    assert letsam_run("models", "wine-versions", "--key", "a.pub")[0] == 0
    assert letsam.load("wine-versions", key="a.pub").folder.name == "v0002"


def test_from_python(here: Path, always_go: None) -> None:
    champion(here)
    report = retune("wine", "new.csv", seeds=(5, 6, 7), epochs=1, out="v")
    assert report.version == Path("v/v0002")
    assert report.current
    assert (report.exit_status, report.promotion.verdict) == (0, "go")
    assert {run.seed for run in report.results.runs} == {5, 6, 7}
    assert report.page == Path("v/retunes/v0002/report.html")
    assert version_of(report.version).seed == 5  # type: ignore[union-attr]
