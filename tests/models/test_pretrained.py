"""Pretrained models of transformers with adapters of peft, and timm by a stand-in (it needs torchvision)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from letsam.models import DataDescription, ModelOptions, choose, pretrained_pixels, pretrained_tokens, rebuild
from letsam.models.pretrained import save_network
from letsam.tasks import TaskError
from tiny_pretrained import tiny_bert, tiny_vit

TEXT = DataDescription(modality="text", samples=100, outputs=3, input_shape=(16,), vocabulary=40)
IMAGE = DataDescription(modality="image", samples=100, outputs=3, input_shape=(3, 16, 16))
STAND_IN = """
import torch
from torch import nn
def create_model(name, pretrained=False, in_chans=3, num_classes=1000):
    if name != "tiny":
        raise RuntimeError(f"Unknown model ({name})")
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))
    network(torch.zeros(1, in_chans, 16, 16))
    network.pretrained = pretrained
    return network
"""


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vit(tmp_path_factory.mktemp("vit"))


def inputs_of(data: DataDescription) -> Any:
    if data is IMAGE:
        return torch.randn(2, 3, 16, 16)
    ids = torch.tensor([[2, 4, 6, 3], [2, 5, 3, 0]])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_a_pretrained_model_is_trained_and_read_back(
    kind: str, lora: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = TEXT if kind == "bert" else IMAGE
    torch.manual_seed(0)
    chosen = choose(data, ModelOptions(pretrained=str(request.getfixturevalue(kind)), lora=lora, lora_rank=2))
    network = chosen.make()
    inputs = inputs_of(data)
    before = network.eval()(inputs)
    assert before.shape == (2, 3)

    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "classifier" in name for name in trained) == lora
    optimizer = chosen.optimizer(network.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), torch.tensor([0, 1])).backward()
        optimizer.step()
    after = network(inputs)
    assert not torch.equal(before, after)

    save_network(network, tmp_path)
    again = rebuild(chosen.config, tmp_path).eval()
    torch.testing.assert_close(again(inputs), after, rtol=0, atol=1e-6 if lora else 0)
    assert (tmp_path / "network" / "model.safetensors").is_file()
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file() == lora


def test_the_body_is_that_of_the_file_and_the_head_is_of_the_seed(bert: Path) -> None:
    from safetensors.torch import load_file

    options = ModelOptions(pretrained=str(bert))
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(choose(TEXT, options).make().state_dict())
    file = load_file(bert / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(weights[0][f"model.{name}"], file[name])
    head = "model.classifier.weight"
    assert torch.equal(weights[0][head], weights[1][head])
    assert not torch.equal(weights[0][head], weights[2][head])


def test_the_tokenizer_of_the_model(bert: Path) -> None:
    tokens = pretrained_tokens(str(bert))
    assert (tokens.pad_token, tokens.pad_id, tokens.max_length) == ("[PAD]", 0, 12)
    assert tokens.tokenizer.encode("a good film").ids == [2, 7, 4, 6, 3]
    assert pretrained_tokens(str(bert), max_length=5).max_length == 5


def test_the_image_processor_of_the_model(vit: Path, bert: Path) -> None:
    pixels = pretrained_pixels(str(vit))
    assert (pixels.size, pixels.mean, pixels.std) == ((16, 16), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    with pytest.raises(TaskError, match="`pretrained` must have an image processor"):
        pretrained_pixels(str(bert))


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (
            DataDescription(modality="table", samples=9, outputs=2, input_shape=(3,)),
            "bert",
            "texts or images, got a table",
        ),
        (IMAGE, "bert", "`pretrained` must have a model for image classification, got"),
        (TEXT, "vit", "`pretrained` must have a model for text classification, got"),
    ],
)
def test_a_pretrained_model_of_another_kind_is_refused(
    data: DataDescription, name: str, message: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        choose(data, ModelOptions(pretrained=str(request.getfixturevalue(name)))).make()
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"without config\.json"):
        choose(TEXT, ModelOptions(pretrained=str(tmp_path))).make()
    with pytest.raises(TaskError, match="which does not exist"):
        choose(TEXT, ModelOptions(pretrained="./nothing/here")).make()


def test_timm_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for options in (ModelOptions(name="timm:tiny"), ModelOptions(pretrained="timm:tiny")):
        with pytest.raises(TaskError, match="needs the package timm; install it with `pip install timm`"):
            choose(IMAGE, options)


def test_timm_by_a_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real timm imports torchvision, which cannot be installed where these tests run."""
    (tmp_path / "timm.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    for options, pretrained in ((ModelOptions(name="timm:tiny"), False), (ModelOptions(pretrained="timm:tiny"), True)):
        chosen = choose(IMAGE, options)
        network: Any = chosen.make()
        assert network.pretrained is pretrained
        assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 3)
        again: Any = rebuild(chosen.config, tmp_path)
        assert again.pretrained is False  # its weights are in the model folder
    with pytest.raises(TaskError, match=r"`model` timm:giant cannot be made: RuntimeError: Unknown model \(giant\)"):
        choose(IMAGE, ModelOptions(name="timm:giant")).make()
    with pytest.raises(TaskError, match="needs images, got a text task"):
        choose(TEXT, ModelOptions(name="timm:tiny"))
    monkeypatch.delitem(sys.modules, "timm")
