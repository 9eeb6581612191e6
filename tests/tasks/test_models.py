"""The networks of the vision tasks: sizes of the published models, shapes, blocks against their formulas."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, relu

from letsam.tasks import TaskError
from letsam.tasks.models.choice import channels_last, chosen_model
from letsam.tasks.models.cnn import cnn
from letsam.tasks.models.from_transformers import resnet50, vit, vit_s
from letsam.tasks.models.pyramidnet import PyramidBlock, pyramidnet
from letsam.tasks.models.resnet import BasicBlock, resnet, resnet18
from letsam.tasks.models.wide_resnet import WideBlock, wide_resnet


def weights(build: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):
        model = build()
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("build", "millions"),
    [
        (lambda: resnet18(classes=10), 11.17),
        (lambda: resnet18(classes=100), 11.22),
        (lambda: wide_resnet(28, 10), 36.48),  # Zagoruyko and Komodakis, table 4: 36.5M
        (lambda: wide_resnet(16, 8), 10.96),  # table 4: 11.0M
        (lambda: pyramidnet(110, 270), 28.49),
        (lambda: pyramidnet(110, 48), 1.74),  # Han et al., table 4: 1.7M
        (lambda: vit_s(side=32, patch=4, classes=10), 21.34),
        (lambda: vit_s(side=224, patch=16, classes=1000), 22.05),  # DeiT, table 1: 22M
        (lambda: resnet50(classes=1000), 25.56),  # He et al.: 25.6M
    ],
)
def test_sizes_of_published_models(build: Callable[[], nn.Module], millions: float) -> None:
    assert weights(build) / 1e6 == pytest.approx(millions, abs=0.005)


def test_layers_of_published_models() -> None:
    with torch.device("meta"):
        built = {"resnet": resnet18(), "wide": wide_resnet(28, 10), "pyramid": pyramidnet(110, 270)}
    convolutions = {
        name: [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        for name, model in built.items()
    }
    # The depth counts the linear layer; in the wide network three 1x1 shortcuts too.
    assert {name: len(found) for name, found in convolutions.items()} == {"resnet": 17, "wide": 25, "pyramid": 109}
    assert convolutions["pyramid"][-1].out_channels == 16 + 270
    assert [m.out_channels for m in convolutions["pyramid"][1:6:2]] == [21, 26, 31]  # 16 + 5 k
    assert sum(m.stride == (2, 2) for m in convolutions["pyramid"]) == 2


@pytest.mark.parametrize(
    ("model", "shape", "classes"),
    [
        (lambda: cnn(), (3, 1, 28, 28), 10),
        (lambda: cnn((2, 3, 4), 5, classes=7), (3, 1, 28, 28), 7),
        (lambda: resnet((4, 8, 16), blocks=1, stem_stride=2, channels=1), (3, 1, 28, 28), 10),
        (lambda: resnet18(width=4, classes=6), (2, 3, 32, 32), 6),
        (lambda: wide_resnet(10, 1, classes=5), (2, 3, 32, 32), 5),
        (lambda: pyramidnet(8, 12, classes=5), (2, 3, 32, 32), 5),
        (lambda: vit(side=28, patch=7, width=8, depth=2, heads=2, channels=1, classes=4), (2, 1, 28, 28), 4),
    ],
)
def test_every_weight_gets_a_gradient(model: Callable[[], nn.Module], shape: tuple[int, ...], classes: int) -> None:
    torch.manual_seed(0)
    network = model()
    logits = network(torch.randn(shape))
    assert logits.shape == (shape[0], classes)
    nn.functional.cross_entropy(logits, torch.arange(shape[0])).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("key.bias"):  # softmax does not feel what all keys have in common
            assert parameter.grad.abs().max() > 0, name


def normalised(x: torch.Tensor) -> torch.Tensor:
    return batch_norm(x, None, None, training=True)


def test_basic_block_is_its_formula() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8)
    block = BasicBlock(3, 5, stride=2)
    inner = relu(normalised(conv2d(x, block.conv1.weight, stride=2, padding=1)))
    short = normalised(conv2d(x, block.shortcut[0].weight, stride=2))  # type: ignore[arg-type]
    torch.testing.assert_close(block(x), relu(normalised(conv2d(inner, block.conv2.weight, padding=1)) + short))

    same = BasicBlock(3, 3, stride=1)
    inner = relu(normalised(conv2d(x, same.conv1.weight, padding=1)))
    torch.testing.assert_close(same(x), relu(normalised(conv2d(inner, same.conv2.weight, padding=1)) + x))


def test_wide_block_is_its_formula() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8)
    kept = x.clone()
    for block in (WideBlock(3, 5, stride=2), WideBlock(3, 3, stride=1)):
        stride = block.conv1.stride
        active = relu(normalised(x))
        inner = relu(normalised(conv2d(active, block.conv1.weight, stride=stride, padding=1)))
        short = x if block.shortcut is None else conv2d(active, block.shortcut.weight, stride=stride)
        torch.testing.assert_close(block(x), conv2d(inner, block.conv2.weight, padding=1) + short)
    assert torch.equal(x, kept)  # the ReLUs in place touch nothing but their own


def test_pyramid_block_is_its_formula() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8)
    block = PyramidBlock(3, 5, stride=2)
    inner = relu(normalised(conv2d(normalised(x), block.conv1.weight, stride=2, padding=1)))
    expected = normalised(conv2d(inner, block.conv2.weight, padding=1))
    expected[:, :3] += avg_pool2d(x, 2)
    torch.testing.assert_close(block(x), expected)


def test_convolutions_start_as_he_says() -> None:
    torch.manual_seed(0)
    for network in (resnet18(), wide_resnet(16, 4), pyramidnet(14, 90)):
        widest = max((m for m in network.modules() if isinstance(m, nn.Conv2d)), key=lambda m: m.weight.numel())
        expected = (2 / (widest.out_channels * widest.kernel_size[0] ** 2)) ** 0.5
        assert widest.weight.std().item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("depth", [9, 27, 4])
def test_depths_that_do_not_exist(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"`depth` must be 10, 16, 22, 28, \.\.\., got {depth}"):
        wide_resnet(depth, 1)
    with pytest.raises(ValueError, match=rf"`depth` must be 8, 14, 20, \.\.\., got {depth}"):
        pyramidnet(depth, 12)


def test_channels_last_changes_nothing_but_the_memory() -> None:
    torch.manual_seed(0)
    network = resnet((4, 8), blocks=1)
    x = torch.randn(2, 3, 16, 16)
    expected = network(x)
    assert channels_last(network) is network
    outputs: list[torch.Tensor] = []
    network[3].register_forward_hook(lambda *parts: outputs.append(parts[-1]))  # type: ignore[index]
    torch.testing.assert_close(network(x), expected)
    assert outputs[0].is_contiguous(memory_format=torch.channels_last)
    assert not outputs[0].is_contiguous()


def test_vision_transformer_has_no_dropout_and_is_seeded_by_the_caller() -> None:
    def build() -> nn.Module:
        torch.manual_seed(3)
        return vit(side=8, patch=4, width=8, depth=1, heads=2, mlp_ratio=2)

    first, second = build(), build()
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(first.train()(x), second.eval()(x))
    assert {tuple(p.shape) for p in first.parameters()} >= {(16, 8), (8, 16)}  # the hidden layer, twice as wide


def test_a_model_that_does_not_exist() -> None:
    with pytest.raises(TaskError, match=r"^`model` must be one of cnn, vit, got 'cnnn', did you mean 'cnn'\?$"):
        chosen_model("cnnn", {"cnn": 1, "vit": 2})
    with pytest.raises(TaskError, match=r"^`model` must be one of cnn, vit, got ''$"):
        chosen_model("", {"cnn": 1, "vit": 2})


def test_transformers_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TaskError, match=r"model 'resnet50' needs the package transformers; install it with `pip inst"):
        resnet50(classes=3)
