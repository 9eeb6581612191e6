"""Models that return a dict or a `ModelOutput`: runs equal those of the same network that returns a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from letsam.results import Run
from letsam.tasks import Task
from letsam.tasks.model_outputs import logits_of, model_outputs, of_outputs
from training_cases import blobs, finish, start, without_seconds


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor


class Returning(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
        self.form = form

    def forward(self, inputs: Tensor) -> Any:
        logits = self.layers(inputs)
        forms = {
            "tensor": logits,
            "dict": {"hidden": inputs, "logits": logits},
            "dict of one": {"out": logits, "n": 1},
            "output": Output(logits, inputs),
        }
        return forms[self.form]


def record(form: str, **changes: Any) -> dict[str, Any]:
    task = Task(name="small", model=lambda: Returning(form), train=blobs(48, 0), test=blobs(24, 1), epochs=2, **changes)
    return without_seconds(finish(start(task, "lets-sam")).result())


@pytest.mark.parametrize("form", ["dict", "dict of one", "output"])
@pytest.mark.parametrize("loss", [nn.functional.cross_entropy, nn.CrossEntropyLoss()])
def test_the_logits_are_found(form: str, loss: Any) -> None:
    assert record(form, loss=loss) == record("tensor")


def test_a_function_of_the_user_gets_what_the_model_returned() -> None:
    def loss(outputs: Any, targets: Tensor) -> Tensor:
        assert set(outputs) == {"hidden", "logits"}
        return nn.functional.cross_entropy(outputs["logits"], targets)

    assert record("dict", loss=loss) == record("tensor")


class Tokens(Dataset[Any]):
    def __init__(self, samples: int) -> None:
        generator = torch.Generator().manual_seed(samples)
        self.ids = torch.randint(4, 40, (samples, 6), generator=generator)
        self.targets = (self.ids[:, 0] > 20).long()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Any:
        ids = self.ids[index]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, self.targets[index]


def test_a_model_of_transformers_is_called_with_keywords() -> None:
    import transformers

    def model() -> nn.Module:
        sizes = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16}
        config = transformers.BertConfig(**sizes, num_attention_heads=2, max_position_embeddings=8, num_labels=2)
        return transformers.BertForSequenceClassification(config)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model()

        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            return self.model(**inputs).logits

    def trained(made: Any) -> Run:
        task = Task(name="small", model=made, train=Tokens(32), test=Tokens(16), epochs=1, batch_size=8)
        return finish(start(task, "sam")).result()

    assert without_seconds(trained(model)) == without_seconds(trained(Wrapped))


def test_by_hand() -> None:
    ones = torch.ones(2)
    assert logits_of(("a", ones)) == ("a", ones)
    two: dict[str, Tensor] = {"a": ones, "b": ones}
    assert logits_of(two) is two
    assert model_outputs(lambda inputs: inputs, two) is two
    assert of_outputs(lambda outputs, _: outputs, two, None) is two
