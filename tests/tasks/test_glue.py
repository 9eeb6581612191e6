"""GLUE, from small files in the real format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from letsam.tasks import (
    TaskError,
    glue,
    load_task,
    text,
)
from tasks.files import parquet, review
from training_cases import finish, start

# GLUE

ROWS: dict[str, dict[str, list[Any]]] = {
    "cola": {"sentence": [review(i)[1] for i in range(24)], "label": [i % 2 for i in range(24)]},
    "mrpc": {
        "sentence1": [review(i)[1] for i in range(24)],
        "sentence2": [review(i + i % 2)[1] for i in range(24)],
        "label": [1 - i % 2 for i in range(24)],
    },
    "mnli": {
        "premise": [review(i)[1] for i in range(24)],
        "hypothesis": [review(2 * i)[1] for i in range(24)],
        "label": [i % 3 for i in range(24)],
    },
    "stsb": {
        "sentence1": [review(i)[1] for i in range(24)],
        "sentence2": [review(i + i % 5)[1] for i in range(24)],
        "label": [5.0 - i % 5 for i in range(24)],
    },
}


@pytest.fixture(scope="module")
def deberta(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A DeBERTa with random weights and a tokenizer, saved as `transformers` saves them."""
    import transformers

    folder = tmp_path_factory.mktemp("deberta")
    words = text.word_vocabulary("t", [review(i)[1] for i in range(100)], 200)
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder
    )
    config = transformers.DebertaV2Config(
        vocab_size=200,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        pooler_hidden_size=16,
    )
    transformers.DebertaV2Model(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("name", "metric", "outputs"),
    [
        ("cola", "Matthews correlation", 2),
        ("mrpc", "accuracy", 2),
        ("mnli", "accuracy", 3),
        ("stsb", "Pearson-Spearman correlation", 1),
    ],
)
def test_glue_end_to_end(name: str, metric: str, outputs: int, tmp_path: Path, deberta: str) -> None:
    rows = ROWS[name]
    splits = {"train": rows, glue.GLUE[name].test: {k: v[:10] for k, v in rows.items()}}
    if name == "mnli":  # has two splits more, whose names are like that of the wanted one
        others = {k: v[:7] for k, v in rows.items()}
        splits |= {"validation_mismatched": others, "test_matched": others}
    parquet(tmp_path / "glue" / name, **splits)
    task = load_task(f"glue/{name}", train_size=20, data_dir=tmp_path, model=deberta)

    assert (len(task.train), len(task.test)) == (20, 10)  # type: ignore[arg-type]
    assert not [m for m in task.model().modules() if isinstance(m, nn.Dropout) and m.p]
    assert task.model()(text.trimmed([task.train[0]])[0]).shape == (1, outputs)
    for method in ("sgd", "lets-sam"):
        record = finish(start(task, method, epochs=1, batch_size=8)).result()
        assert not record.diverged
        assert record.metric == metric
        assert -1 <= record.test_accuracy <= 1


def test_scores_of_glue_against_formulas() -> None:
    outputs, targets = torch.tensor([[2.0, 0], [0, 1], [0, 3], [1, 0], [0, 1]]), torch.tensor([0, 1, 0, 0, 1])
    tp, tn, fp, fn = 2, 2, 1, 0
    expected = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    assert glue.matthews(outputs, targets) == pytest.approx(expected)

    scores, wanted = torch.tensor([1.0, 2.0, 4.0, 3.0]), torch.tensor([1.0, 2.0, 3.0, 5.0])
    pearson = float(torch.corrcoef(torch.stack([scores, wanted]))[0, 1])
    assert glue.pearson_spearman(scores.unsqueeze(1), wanted) == pytest.approx((pearson + 0.8) / 2, rel=1e-5)
    assert glue.pearson_spearman(torch.ones(4, 1), wanted) == 0.0


def test_glue_that_is_missing(tmp_path: Path, deberta: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # the environment variable is read once, maybe before this file was
    monkeypatch.setattr(pytest.importorskip("huggingface_hub").constants, "HF_HUB_OFFLINE", True)
    parquet(tmp_path / "cola", train=ROWS["cola"], validation=ROWS["cola"])
    with pytest.raises(
        TaskError, match=r"^cannot load `model` 'no/such-model', expected a model folder or a name on the hub"
    ):
        load_task("glue/cola", data_dir=tmp_path, model="no/such-model")
    with pytest.raises(TaskError, match=r"`train_size` must be a whole number from 2 to 24, got 25"):
        load_task("glue/cola", data_dir=tmp_path, model=deberta, train_size=25)
    with pytest.raises(TaskError, match=r"^`task` must be one of cola, sst2, .* got 'wnli'$"):
        glue.glue("wnli")
