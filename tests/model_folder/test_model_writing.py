"""The folder `model` of a run: it predicts what the run measured, and says how it was trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import letsam
from letsam.model_folder import ModelFolderError
from letsam.model_folder.model_writing import TrainedModel
from letsam.results import Results
from letsam.tasks import load_task
from letsam.training.config import TrialConfig
from letsam.training.loop import Training
from letsam.training.methods import Method
from training_cases import fabric

SPEC = "digits"


def trained(method: str = "lets-sam", precision: str | None = None, spec: str = SPEC) -> tuple[Training, Results]:
    from letsam.training.devices import make_fabric

    config = TrialConfig(task=spec, methods=(Method.parse(method),), epochs=2, train_size=200, precision=precision)
    task = config.load_task()
    config = config.for_task(task)
    run = Training(task, Method.parse(method), 0, config, make_fabric("cpu", precision=precision))
    while not run.finished:
        run.advance()
    return run, Results(spec, config.as_json(), {}, (run.result(),), task.inferred)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    run, results = trained()
    state = torch.get_rng_state()
    assert TrainedModel.of(run, results).save(folder) == folder / "model"
    assert torch.equal(torch.get_rng_state(), state)
    torch.save(run.model.state_dict(), folder / "expected.pt")
    return folder


def test_the_loaded_model_is_the_trained_one(out: Path) -> None:
    model = letsam.load(out)
    expected = torch.load(out / "expected.pt")
    assert {name: value.tolist() for name, value in model.model.state_dict().items()} == {
        name: value.tolist() for name, value in expected.items()
    }
    assert not model.model.training
    test = load_task(SPEC, train_size=200).test
    inputs, targets = torch.stack([test[i][0] for i in range(len(test))]), [int(test[i][1]) for i in range(len(test))]
    table = model.predict(inputs)
    right = sum(int(label) == target for label, target in zip(table.labels, targets, strict=True))
    assert right / len(targets) == pytest.approx(model.results.runs[0].test_accuracy)
    loss = nn.functional.cross_entropy(table.outputs, torch.tensor(targets))
    assert float(loss) == pytest.approx(model.results.runs[0].test_loss, rel=1e-5)
    torch.testing.assert_close(table.probabilities, table.outputs.double().softmax(1))


def test_it_can_be_read_from_either_folder_and_is_the_same_twice(out: Path) -> None:
    first, second = letsam.load(out), letsam.load(str(out / "model"))
    assert first.fingerprint == second.fingerprint
    assert first.folder == second.folder


def test_what_the_folder_holds(out: Path) -> None:
    names = {path.relative_to(out / "model").as_posix() for path in (out / "model").rglob("*") if path.is_file()}
    plain = {"README.md", "manifest.json", "model.json", "radius.json", "results.json", "split.json", "version.json"}
    tensors = {"weights.safetensors", "split.safetensors", "reference.safetensors"}
    assert names == plain | tensors | {"reference.json"}
    run = Results.load(out / "model" / "results.json").runs[0]
    radius = json.loads((out / "model" / "radius.json").read_text())
    assert radius["schedule"] == run.history["rho_schedule"]
    assert (radius["initial"], radius["final"]) == (run.rho_initial, run.rho_final)
    split, parts = (
        json.loads((out / "model" / "split.json").read_text()),
        load_file(out / "model" / "split.safetensors"),
    )
    assert split["samples"] == {"train": 180, "validation": 20, "test": 797}
    assert sorted(torch.cat([parts["train"], parts["validation"]]).tolist()) == list(range(200))
    config = json.loads((out / "model" / "model.json").read_text())
    assert config["format"] == "letsam model 1"
    assert config["versions"]["torch"] == torch.__version__


def test_the_card_has_the_numbers(out: Path) -> None:
    card = (out / "model" / "README.md").read_text()
    run = Results.load(out / "model" / "results.json").runs[0]
    for text in (f"{run.test_accuracy:.4g}", f"{run.test_loss:.4g}", "180", "797", "lets-sam", "letsam.load"):
        assert text in card
    assert card.startswith("---\nlibrary_name: letsam\n")


def test_weights_in_another_network(out: Path, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
    network.append(nn.Linear(128, 10))
    model = letsam.load(out, network=network)
    assert model.model is network
    with pytest.raises(ModelFolderError, match=r"weights\.safetensors: expected the weights of this network"):
        letsam.load(out, network=nn.Linear(2, 2))


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "README.md", "split.safetensors"])
def test_a_changed_file_is_refused_by_name(out: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(out / "model", tmp_path / "model")
    content = bytearray((tmp_path / "model" / name).read_bytes())
    content[-2] ^= 1
    (tmp_path / "model" / name).write_bytes(content)
    with pytest.raises(ModelFolderError, match=f"{name}: was changed after letsam wrote it"):
        letsam.load(tmp_path)


def test_no_folder_or_another_one(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="expected the folder of a model, but there is none"):
        letsam.load(tmp_path / "nowhere")
    with pytest.raises(ModelFolderError, match=r"expected the folder of a model, but it has no model\.json"):
        letsam.load(tmp_path)


def test_a_model_of_a_task_in_code_takes_no_file(out: Path) -> None:
    with pytest.raises(TypeError, match=r"`data` must be prepared inputs .* as the task 'digits' is no file of data"):
        letsam.load(out).predict("new.csv")


@pytest.mark.parametrize(("precision", "dtype"), [("64-true", torch.float64), ("bf16-true", torch.float32)])
def test_the_precision_of_the_weights(precision: str, dtype: torch.dtype, tmp_path: Path) -> None:
    run, results = trained("sgd", precision)
    TrainedModel.of(run, results).save(tmp_path)
    model = letsam.load(tmp_path)
    weights: Tensor = next(model.model.parameters())
    assert weights.dtype == dtype
    assert torch.equal(weights, next(iter(run.model.parameters())).to(dtype))
    assert len(model.predict(torch.randn(3, 1, 8, 8)).labels) == 3


def test_a_failed_write_keeps_the_earlier_model(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(out / "model", tmp_path / "model")
    before = letsam.load(tmp_path).fingerprint
    run, results = trained("sgd")

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    model = TrainedModel.of(run, results)
    with monkeypatch.context() as patch:
        patch.setattr("letsam.model_folder.model_writing.write_manifest", fail)
        with pytest.raises(KeyboardInterrupt):
            model.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert letsam.load(tmp_path).fingerprint == before
    model.save(tmp_path)
    assert letsam.load(tmp_path).results.runs[0].method == "sgd"


class Stateful(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"calls": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_a_state_that_is_no_tensor_is_refused() -> None:
    from letsam.tasks import Task
    from training_cases import blobs, start

    task = Task(name="s", model=lambda: Stateful(5, 3), train=blobs(20, 0), test=blobs(8, 1), epochs=1)
    run = start(task)
    assert fabric() is not None
    with pytest.raises(ValueError, match="`model` must keep tensors alone in its state, got '_extra_state': dict"):
        TrainedModel.of(run, Results("s", {}, {}))
