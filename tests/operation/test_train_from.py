"""`letsam train --from MODEL`: the same weights, bit for bit, or what differs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import letsam
from cli_cases import check_error, files
from letsam.cli import run
from letsam.model_folder.manifest import ModelFolderError, write_manifest
from letsam.model_folder.same_weights import WeightDifference, weight_difference
from picture_files import folder as pictures
from retune_cases import QUICK, champion


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


def check_same(found: tuple[int, str, str], model: Path, again: Path) -> None:
    status, out, err = found
    assert status == 0, out + err
    assert f"the same weights, bit for bit, as {model}: " in out
    mine, theirs = (load_file(folder / "weights.safetensors") for folder in (model, again))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_model_of_a_table(here: Path, letsam_run: Any) -> None:
    champion(here)
    found = letsam_run("train", "--from", "wine")
    check_same(found, Path("wine/model"), Path("wine-again/model"))
    (here / "moved").mkdir()
    (here / "old.csv").rename(here / "moved" / "data.csv")
    found = letsam_run("train", "moved/data.csv", "--from", "wine/model", "--out", "other")
    check_same(found, Path("wine/model"), Path("other/model"))


@pytest.mark.parametrize("method", ["lets-sam", "lets-asam+refit"])
def test_a_model_of_a_built_in_task(method: str, letsam_run: Any) -> None:
    options = ("--epochs", "2", "--train-size", "200", "--seed", "3", "--label-noise", "0.2", "--out", "digits")
    assert letsam_run("train", "digits", "--method", method, *options)[0] == 0
    check_same(letsam_run("train", "--from", "digits"), Path("digits/model"), Path("digits-again/model"))
    assert letsam.load("digits-again").results.runs[0].seed == 3


def test_a_model_of_a_folder_of_images(here: Path, letsam_run: Any) -> None:
    pictures(here / "images", classes="abc")
    options = ("--method", "sam", "--epochs", "2", "--lr", "auto", "--folds", "3", "--out", "cnn")
    assert letsam_run("train", "images", *options)[0] == 0
    shutil.move(here / "images", here / "elsewhere")
    found = letsam_run("train", "elsewhere", "--from", "cnn")
    check_same(found, Path("cnn/model"), Path("cnn-again/model"))


def test_the_best_model_of_a_trial_with_a_search(here: Path, letsam_run: Any) -> None:
    pytest.importorskip("optuna")
    champion(here)
    search = ("--search", "lr", "--search-trials", "2", "--epochs", "2", "--seeds", "2")
    options = ("--target", "target", "--methods", "lets-sam", "--out", "trial", "--refit-best")
    assert letsam_run("trial", "old.csv", *search, *options)[0] == 0
    assert letsam.load("trial").results.runs[0].method == "lets-sam+refit"
    assert letsam.load("trial").results.runs[0].hyperparameters
    found = letsam_run("train", "--from", "trial", "--out", "again")
    check_same(found, Path("trial/model"), Path("again/model"))


def test_a_version_that_was_re_tuned(here: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    champion(here)
    monkeypatch.setattr("letsam.operation.promotion._validation_loss", lambda results, name: -len(name))
    options = (*QUICK, "--old", "old.csv", "--radius", "continue")
    assert letsam_run("retune", "wine", "new.csv", *options)[0] in (0, 1)
    version = Path("wine-versions/v0002")
    assert letsam.load(version).results.runs[0].method.startswith("lets-sam:")
    found = letsam_run("train", "--from", str(version), "--out", "again")
    check_same(found, version, Path("again/model"))
    shutil.move(here / "new.csv", here / "later.csv")
    found = letsam_run("train", "later.csv", "--from", str(version), "--out", "again2")
    check_same(found, version, Path("again2/model"))
    shutil.rmtree(here / "wine-versions" / "v0001")
    check_error(
        letsam_run("train", "later.csv", "--from", str(version), "--out", "again3"),
        r"v0002: expected its parent, the version with the fingerprint [0-9a-f]{12}\.\.\., in the same folder",
    )
    assert not (here / "again3").exists()


def test_other_data_are_refused(here: Path, letsam_run: Any) -> None:
    champion(here)
    rows = (here / "old.csv").read_text().splitlines()
    (here / "old.csv").write_text("\n".join([*rows[:-1], rows[-1].replace("1", "2")]) + "\n")
    before = files(here)
    message = r"old\.csv: expected the data that the model was trained on, old\.csv with the hash [0-9a-f]{12}\.\.\."
    check_error(letsam_run("train", "--from", "wine"), message)
    check_error(letsam_run("train", "new.csv", "--from", "wine"), message.replace("old", "new", 1))
    assert files(here) == before


def test_other_data_of_a_task_in_code(here: Path, letsam_run: Any) -> None:
    text = "import dataclasses\nfrom letsam.tasks import load_task\n"
    text += "def few(): return dataclasses.replace(load_task('digits', train_size=COUNT), epochs=1)\n"
    (here / "mine.py").write_text(text.replace("COUNT", "100"))
    assert letsam_run("train", "mine.py:few", "--method", "sgd", "--out", "few")[0] == 0
    check_same(letsam_run("train", "--from", "few"), Path("few/model"), Path("few-again/model"))
    (here / "mine.py").write_text(text.replace("COUNT", "90"))  # of another size, else its cache may be taken
    check_error(
        letsam_run("train", "--from", "few", "--out", "other"),
        r"mine\.py:few: expected the data that the model was trained on: \[100, 0, 797\] samples",
    )


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--epochs", "3"), "epochs"),
        (("--method", "sgd"), "method"),
        (("--seed", "0"), "seed"),
        (("--lr", "0.1"), "lr"),
        (("--target", "target"), "target"),
        (("--label-noise", "0.1"), "label-noise"),
        (("--validation-shift", "noisy:1"), "validation-shift"),
    ],
)
def test_options_that_change_the_training_are_refused(options: tuple[str, ...], name: str, letsam_run: Any) -> None:
    champion(Path())
    message = f"`--{name}` must not be given with --from, as the model says how it was trained"
    check_error(letsam_run("train", "--from", "wine", *options), message)


def test_a_model_that_was_continued_or_changed(here: Path, letsam_run: Any) -> None:
    options = ("--method", "sgd", "--train-size", "100", "--out", "digits")
    assert letsam_run("train", "digits", "--epochs", "1", *options)[0] == 0
    assert letsam_run("train", "digits", "--epochs", "2", *options, "--resume")[0] == 0
    message = (
        "digits/model: was trained with another number of epochs from epoch 1 on, which its record does not repeat"
    )
    check_error(letsam_run("train", "--from", "digits"), message)
    (here / "digits" / "model" / "radius.json").write_text("{}")
    check_error(letsam_run("train", "--from", "digits"), r"radius\.json: was changed after letsam wrote it")


def test_other_weights_and_what_differs(here: Path, letsam_run: Any) -> None:
    champion(here)
    model = here / "wine" / "model"
    weights = load_file(model / "weights.safetensors")
    name = next(iter(weights))
    weights[name].view(-1)[0] += 0.5
    save_file(weights, model / "weights.safetensors")
    for file in ("results.json", "model.json"):
        text = (model / file).read_text().replace(torch.__version__, "1.99.0")
        (model / file).write_text(text)
    write_manifest(model)
    status, out, _ = letsam_run("train", "--from", "wine")
    assert status == 1
    assert re.search(r"other weights than wine/model: 1 of \d+ tensors differ, by at most 0\.5\n", out)
    assert f"what differs: torch was 1.99.0, is {torch.__version__}\n" in out


def test_as_many_threads_as_the_model_was_trained_with(
    here: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion(here)
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)  # for real, it is slow on a busy machine
    before = torch.get_num_threads()
    results = here / "wine" / "model" / "results.json"
    values = json.loads(results.read_text())
    values["environment"]["threads"] = before + 1
    results.write_text(json.dumps(values))
    write_manifest(here / "wine" / "model")
    _, _, err = letsam_run("train", "--from", "wine")
    assert asked == [before + 1]
    assert f"threads: {before + 1}, as the model was trained with" in err


def test_differences_of_weights(tmp_path: Path) -> None:
    for name, values in (
        ("a", {"x": torch.tensor([0.0, 1.0])}),
        ("b", {"x": torch.tensor([-0.0, 1.0])}),
        ("c", {"x": torch.tensor([0.0, 1.5])}),
        ("d", {"y": torch.tensor([0.0, 1.0])}),
        ("e", {"x": torch.tensor([0.0])}),
    ):
        (tmp_path / name).mkdir()
        save_file(values, tmp_path / name / "weights.safetensors")
    a, b, c, d, e = (tmp_path / name for name in "abcde")
    assert weight_difference(a, a) == WeightDifference(1, 0, 0.0)
    assert weight_difference(a, b) == WeightDifference(1, 1, 0.0)  # a bit
    assert weight_difference(a, c) == WeightDifference(1, 1, 0.5)
    assert weight_difference(a, d).largest == weight_difference(a, e).largest == float("inf")
    assert not weight_difference(a, d).same
    (tmp_path / "f").mkdir()
    with pytest.raises(ModelFolderError, match="expected weights, but it has none"):
        weight_difference(a, tmp_path / "f")
