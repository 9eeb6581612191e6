"""What `letsam shadow` refuses, in one line and with nothing written; two calls at once."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import letsam
from letsam.operation import ShadowReport, shadow
from letsam.operation.model_pair import ModelPair
from letsam.results import locked_folder
from rollout_cases import call, diabetes, digits, july, killed_at, train


def refused(*arguments: object, message: str) -> None:
    out = Path(str(arguments[-1]))
    status, shown, err = call("shadow", *arguments[:-1], "--out", out)
    last = err.splitlines()[-1]
    assert re.search(message, last), err
    assert last.startswith("error: ")
    assert "Traceback" not in err
    assert (status, shown) == (2, "")
    assert not out.exists()


def test_data_that_a_model_cannot_read(tmp_path: Path) -> None:
    folder, frame = digits(), july(digits())
    models = (folder / "v1", folder / "v2")
    path, out = tmp_path / "new.csv", tmp_path / "out"
    frame.drop(columns="pixel_3_4").to_csv(path, index=False)
    refused(*models, path, out, message=r"new.csv: expected the columns of the training data, got .* 'pixel_3_4'")
    frame.drop(columns="target").to_csv(path, index=False)
    refused(*models, path, "--labels", out, message=r"new.csv: expected the target 'target' of the training data")
    frame.assign(target="letter A").to_csv(path, index=False)
    refused(
        *models,
        path,
        "--labels",
        out,
        message=r"new.csv: expected classes such as digit 0, .* got others alone: letter A",
    )
    frame.assign(target=None).to_csv(path, index=False)
    refused(*models, path, "--labels", out, message=r"new.csv: expected at least one sample with a target, got none")
    frame[:0].to_csv(path, index=False)
    refused(*models, path, out, message=r"new.csv: expected a table with a header and rows, got no rows")
    path.write_text("")
    refused(*models, path, out, message=r"new.csv: expected a table with a header and rows, got an empty file")
    refused(*models, tmp_path / "nowhere.csv", out, message=r"nowhere.csv: expected a table, but there is no such file")
    with pytest.raises(ValueError, match=r"^`data` must have at least one sample, got none$"):
        shadow(*models, torch.empty(0, 64))


def test_models_that_were_changed_or_do_not_fit(tmp_path: Path) -> None:
    folder, out = digits(), tmp_path / "out"
    data = folder / "july.csv"
    shutil.copytree(folder / "v2", tmp_path / "v3")
    weights = tmp_path / "v3" / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    refused(
        folder / "v1", tmp_path / "v3", data, out, message=r"weights.safetensors: was changed after letsam wrote it"
    )
    manifest = tmp_path / "v3" / "model" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("letsam model 1", "letsam model 9"))
    refused(
        folder / "v1", tmp_path / "v3", data, out, message=r"expected the format 'letsam model 1', got 'letsam model 9'"
    )
    refused(folder / "v1", tmp_path / "v4", data, out, message=r"v4: expected the folder of a model, but there is none")
    other = diabetes() / "v1"
    refused(folder / "v1", other, data, out, message=r"expected a model for classification, as .* is, got regression$")
    champion = letsam.load(folder / "v1")
    fewer = dataclasses.replace(champion, classes=(*champion.classes[:9], "letter A"))
    message = r"expected the classes of .*, got others: it lacks 'digit 9' and it has 'letter A'$"
    with pytest.raises(ValueError, match=message):
        ModelPair(champion, fewer)


def test_options_out_of_range(tmp_path: Path) -> None:
    folder, out = digits(), tmp_path / "out"
    models = (folder / "v1", folder / "v2", folder / "july.csv")
    refused(*models, "--level", "0.7", out, message=r"`level` must be above 0 and below 0.5, got 0.7")
    refused(*models, "--metric", "RMSE", out, message=r"`metric` must be one of accuracy, .* got 'RMSE'")
    refused(*models, "--device", "tpu", out, message=r"`device` must be one of cpu, cuda, mps, got 'tpu'")
    refused(*models, "--batch-size", "0", out, message=r"`batch_size` must be a whole number >= 1, got 0")


def test_outputs_that_are_not_finite() -> None:
    folder, frame = digits(), july(digits())
    model = letsam.load(folder / "v2")

    class Broken(nn.Module):
        def forward(self, inputs: Any) -> Any:
            outputs = model.model(inputs)
            return torch.where(torch.arange(len(outputs))[:, None] == 5, torch.nan, outputs)

    broken = dataclasses.replace(model, model=Broken().eval())
    message = r"^the challenger gives outputs that are not finite for 2 of 497 samples, the first of them 5: it cannot"
    with pytest.raises(ValueError, match=message):
        shadow(folder / "v1", broken, frame)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2], "must have one for each of 497 samples, got 2"),
        (np.full(497, 10), "must fit the 10 outputs of the champion"),
        (["digit 1"] * 496 + ["letter A"], "must be classes of the champion or numbers, got 'letter A'"),
        (np.full((497, 2), 1), "must be classes of the champion or numbers"),
    ],
)
def test_labels_in_memory_that_do_not_fit(labels: Any, message: str) -> None:
    folder = digits()
    with pytest.raises(ValueError, match=rf"^`labels` {message}"):
        shadow(folder / "v1", folder / "v2", july(folder), labels=labels)
    with pytest.raises(ValueError, match=r"^`labels` must fit the 1 outputs of the champion"):
        shadow(diabetes() / "v1", diabetes() / "v2", july(diabetes()), labels=np.ones((142, 2)))


def test_samples_with_weights(tmp_path: Path) -> None:
    """Models are compared without weights, which is never done silently; nor do the gates take them for counts."""
    frame = july(digits())
    frame["importance"] = 1 + (frame["pixel_3_3"] > 8)
    frame.to_csv(tmp_path / "train.csv", index=False)
    for name in ("v1", "v2"):
        train(tmp_path / "train.csv", tmp_path / name, "--weight", "importance", "--method", "sgd", "--epochs", "1")
    models = [tmp_path / name for name in ("v1", "v2")]
    status, out, err = call("shadow", *models, tmp_path / "train.csv", "--labels")
    assert (status, out) == (2, "")
    assert "`data` must have samples that all count the same, got weights from 1 to 2 in the column 'importance'" in err
    assert not (tmp_path / "v2" / "model-shadow").exists()
    assert call("shadow", *models, tmp_path / "train.csv")[0] == 0
    assert shadow(*models, frame.drop(columns="importance"), labels=True).gain is not None
    assert shadow(*models, frame.assign(importance=2), labels=True).gain is not None
    plan = tmp_path / "plan.toml"
    plan.write_text('champion = "v1"\nchallenger = "v2"\n[[stages]]\nshare = "0%"\nmax_drop = 100\n')
    status, out, _ = call("rollout", plan, "--json")
    assert (status, json.loads(out)["checks"][0]["state"]) == (3, "waits"), "that of all samples alike says nothing"


def test_two_calls_at_once(tmp_path: Path) -> None:
    folder, out = digits(), tmp_path / "out"
    with locked_folder(out):
        status, _, err = call("shadow", folder / "v1", folder / "v2", folder / "july.csv", "--out", out)
        assert status == 2
        assert re.search(r"out: process \d+ on .* writes to this folder", err)
        assert not (out / "shadow.json").exists()
    assert call("shadow", folder / "v1", folder / "v2", folder / "july.csv", "--out", out)[0] == 0
    first = (out / "differing.csv").read_bytes()
    assert call("shadow", folder / "v1", folder / "v2", folder / "july.csv", "--out", out)[0] == 0
    assert (out / "differing.csv").read_bytes() == first
    assert sorted(path.name for path in out.iterdir()) == ["differing.csv", "shadow.html", "shadow.json"]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_process_that_is_killed_while_it_writes(tmp_path: Path, at: int) -> None:
    folder, out = digits(), tmp_path / "out"
    found = shadow(folder / "v1", folder / "v2", folder / "july.csv")
    found.save(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert killed_at(at, lambda: shadow(folder / "v1", folder / "v2", july(folder), labels=True).save(out))
    assert ShadowReport.load(out / "shadow.json").as_json() == found.as_json()  # it is written last
    assert {name: (out / name).exists() for name in before} == dict.fromkeys(before, True)
    found.save(out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_nothing_is_lost_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = digits()
    found = shadow(folder / "v1", folder / "v2", folder / "july.csv")
    found.save(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("letsam.operation.shadow_page.shadow_page", full)
    with pytest.raises(OSError, match="No space left"):
        found.save(tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
