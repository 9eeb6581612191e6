"""A network as one file: its outputs are compared, here once more by onnx's reference evaluator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from letsam.model_folder.exporting import ExportError, check_export, export_model
from letsam.models.convolutional import small_cnn
from letsam.models.text_encoder import TextEncoder


def images() -> nn.Module:
    return small_cnn(1, 3, side=12, width=4)


def texts() -> nn.Module:
    return TextEncoder(30, 3, max_length=8, width=8, depth=1, heads=2)


def batch(of: Callable[[], nn.Module], samples: int, length: int = 6) -> Any:
    torch.manual_seed(samples)
    if of is images:
        return torch.randn(samples, 1, 12, 12)
    ids = torch.randint(1, 30, (samples, length))
    ids[0, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


@pytest.mark.slow
@pytest.mark.parametrize(("made", "export"), [(images, "onnx"), (texts, "onnx"), (texts, "torch")])
def test_the_file_gives_the_outputs_of_the_network(made: Callable[[], nn.Module], export: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = made().eval()
    name = export_model(network, batch(made, 2), tmp_path, export)
    other = batch(made, 5, length=4)  # of another size, and shorter
    with torch.no_grad():
        expected = network(other)
    if export == "torch":
        found = torch.export.load(tmp_path / name).module()(other)
    else:
        from onnx.reference import ReferenceEvaluator

        inputs = other if isinstance(other, dict) else {"inputs": other}
        found = ReferenceEvaluator(str(tmp_path / name)).run(None, {key: v.numpy() for key, v in inputs.items()})[0]
    torch.testing.assert_close(torch.as_tensor(found), expected, rtol=1e-4, atol=1e-5)


class Branching(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + 1 if float(inputs.sum()) > 0 else inputs


class Wrong(nn.Module):
    """Its exported program adds noise that its trace has frozen: the outputs differ from call to call."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + torch.randn(inputs.shape)


@pytest.mark.parametrize(
    ("network", "export", "message"),
    [(Branching(), "torch", "cannot be exported"), (Wrong(), "onnx", "differ|cannot be")],
)
def test_what_cannot_be_exported_leaves_no_file(network: nn.Module, message: str, export: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        export_model(network, torch.ones(2, 3), tmp_path, export)
    assert "\n" not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_option_is_checked_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    check_export(None)
    check_export("torch")
    with pytest.raises(ValueError, match=r"`export` must be .*torch.*onnx.*, got 'onxx'"):
        check_export("onxx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r'`export` onnx needs the package onnxscript; .*"letsam\[export\]"'):
        check_export("onnx")
