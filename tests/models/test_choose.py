"""Choosing a model by name or by the kind and size of the data, its base optimizer, and building it again."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from letsam.models import MODELS, BaseOptimizer, DataDescription, ModelOptions, choose, rebuild, with_options
from letsam.tasks import TaskError


def described(modality: str, shape: tuple[int, ...], samples: int = 1000, **more: Any) -> DataDescription:
    return DataDescription(modality=modality, samples=samples, outputs=3, input_shape=shape, **more)


TABLE = described("table", (7,))
TEXT = described("text", (12,), vocabulary=50)
IMAGE = described("image", (3, 32, 32))


def inputs_for(data: DataDescription) -> Any:
    if data.form != "tokens":
        return torch.randn(2, *data.input_shape)
    mask = torch.tensor([[1] * 12, [1] * 5 + [0] * 7])
    return {"input_ids": torch.randint(50, (2, 12)) * mask, "attention_mask": mask}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (TABLE, "mlp"),
        (described("table", (7,), 50_000), "resnet"),
        (TEXT, "transformer"),
        (IMAGE, "cnn"),
        (described("image", (1, 28, 28), 60_000), "resnet"),
        (described("image", (3, 32, 32), 1_000_000), "vit"),
        (described("image", (3, 32, 48), 1_000_000), "resnet"),
        (described("audio", (1, 64, 101)), "cnn"),
        (described("tensors", (5, 4)), "mlp"),
        (described("tensors", (2, 9, 9)), "cnn"),
    ],
)
def test_auto_picks_by_kind_and_size(data: DataDescription, name: str) -> None:
    chosen = choose(data, ModelOptions())
    assert chosen.name == name
    assert chosen.make()(inputs_for(data)).shape == (2, 3)
    assert 1 <= chosen.epochs <= 100
    assert 8 <= chosen.batch_size <= 256


QUICK = [
    *[(TABLE, name) for name in MODELS["rows"]],
    *[(IMAGE, name) for name in ("cnn", "resnet", "vit", "resnet18")],
    (described("image", (1, 64, 50)), "resnet"),
    (described("image", (2, 200, 130)), "resnet"),
    (TEXT, "transformer"),
]


@pytest.mark.parametrize(("data", "name"), QUICK)
def test_a_network_is_built_again_from_its_config(data: DataDescription, name: str) -> None:
    torch.manual_seed(0)
    chosen = choose(data, ModelOptions(name=name))
    network = chosen.make().eval()
    again = rebuild(chosen.config, Path()).eval()
    again.load_state_dict(network.state_dict())
    inputs = inputs_for(data)
    assert torch.equal(network(inputs), again(inputs))
    assert pickle.loads(pickle.dumps(chosen)).config == chosen.config  # workers get it


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (TABLE, "resnet18", r"^`model` must be one of mlp, resnet, got 'resnet18', did you mean 'resnet'\?$"),
        (TEXT, "mlp", "^`model` must be one of transformer, got 'mlp'$"),
        (IMAGE, "wrn", r"did you mean 'wrn-28-10'|must be one of cnn"),
        (described("image", (3, 28, 28)), "wrn-28-10", r"^model 'wrn-28-10' needs images of 32x32, got 28x28$"),
        (described("image", (3, 28, 30)), "vit", r"^model 'vit' needs square images, got 28x30$"),
        (described("image", (1, 32, 32)), "vit-s", r"^model 'vit-s' needs images of 3 channels, got 1$"),
        (TABLE, "timm:resnet18", "^`model` timm:NAME needs images, got a table task$"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused(data: DataDescription, name: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        choose(data, ModelOptions(name=name))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora": True}, "`lora` needs a pretrained model"),
        ({"name": "mlp", "pretrained": "x"}, "`model` must not be given together with `pretrained`, got 'mlp'"),
        ({"pretrained": "timm:x", "lora": True}, "`lora` needs a model of transformers, got 'timm:x'"),
        ({"optimizer": "rmsprop"}, "`optimizer`"),
        ({"lr": 0}, "`lr`"),
        ({"lr": "fast"}, "`lr`"),
        ({"weight_decay": -1.0}, "`weight_decay` must be at least 0, got -1.0"),
        ({"lora_rank": 0, "pretrained": "x"}, "`lora_rank`"),
        ({"name": ""}, "`name`"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        ModelOptions(**options)


def test_options_are_read_back_from_json() -> None:
    options = ModelOptions(pretrained="minilm", lora=True, lora_rank=4, optimizer="adam", lr="auto", weight_decay=0.0)
    assert ModelOptions.from_json({**options.as_json(), "of_a_newer_version": 1}) == options


def grouped(parameters: Any) -> torch.optim.Optimizer:
    first, second = list(parameters)
    return torch.optim.SGD([{"params": [first]}, {"params": [second], "lr": 0.01, "weight_decay": 0.0}], lr=0.1)


@pytest.mark.parametrize(
    ("factory", "options", "expected"),
    [
        (BaseOptimizer("sgd", 0.05, 5e-4), {}, [("SGD", 0.05, 5e-4)]),
        (BaseOptimizer("sgd", 0.05, 5e-4), {"lr": 0.2}, [("SGD", 0.2, 5e-4)]),
        (BaseOptimizer("sgd", 0.05, 5e-4), {"weight_decay": 0.0}, [("SGD", 0.05, 0.0)]),
        (BaseOptimizer("sgd", 0.05, 5e-4), {"optimizer": "sgd", "lr": 1.0}, [("SGD", 1.0, 5e-4)]),
        (BaseOptimizer("sgd", 0.05, 5e-4), {"optimizer": "adamw"}, [("AdamW", 1e-3, 0.01)]),
        (BaseOptimizer("adamw", 0.05, 0.3), {"optimizer": "adam", "lr": 0.2}, [("Adam", 0.2, 0.0)]),
        (BaseOptimizer("adamw", 0.05, 0.3), {"lr": "auto"}, [("AdamW", 0.05, 0.3)]),
        (grouped, {"lr": 0.2}, [("SGD", 0.2, 0.0), ("SGD", 0.02, 0.0)]),
        (grouped, {"weight_decay": 0.1}, [("SGD", 0.1, 0.1), ("SGD", 0.01, 0.1)]),
        (grouped, {"optimizer": "sgd"}, [("SGD", 0.05, 5e-4)]),
    ],
)
def test_options_of_the_base_optimizer(factory: Any, options: dict[str, Any], expected: list[Any]) -> None:
    made = with_options(factory, ModelOptions(**options))(nn.Linear(2, 1).parameters())
    found = [(type(made).__name__, group["lr"], group["weight_decay"]) for group in made.param_groups]
    assert [name for name, *_ in found] == [name for name, *_ in expected]
    assert [pytest.approx(numbers) for _, *numbers in expected] == [numbers for _, *numbers in found]


def test_a_found_learning_rate_replaces_auto() -> None:
    made = with_options(BaseOptimizer("sgd", 0.05, 5e-4), ModelOptions(lr="auto"), lr=0.3)
    assert made == BaseOptimizer("sgd", 0.3, 5e-4)


def test_a_text_without_tokens_and_padding_change_nothing_else() -> None:
    torch.manual_seed(0)
    network = choose(TEXT, ModelOptions()).make().eval()
    ids = torch.tensor([[4, 5, 6]])
    short = network({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    padded = torch.tensor([[4, 5, 6, 0, 0], [0, 0, 0, 0, 0]])
    both = network({"input_ids": padded, "attention_mask": (padded > 0).long()})
    torch.testing.assert_close(both[:1], short)
    assert both.isfinite().all()
