"""Ding and IWSLT, from small files in the real formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from letsam.tasks import (
    TaskError,
    ding,
    iwslt,
    load_task,
    targets_of,
    text,
    translation,
)
from tasks.files import parquet
from training_cases import finish, start

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


def test_a_cheaper_ascent_takes_the_first_sentences(dictionary_folder: Path) -> None:
    task = load_task("ding-de-en", train_size=150, data_dir=dictionary_folder)
    quick = finish(start(dataclasses.replace(task, evaluations=1), "sam-quick:0.05", epochs=5)).result()
    assert not quick.diverged
    assert quick.gradient_passes == round(10 * (1 + 13 / 64))  # a fifth of 64 sentences, rounded up


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


def test_the_first_sentences_of_a_batch() -> None:
    """Without their padding, targets have no row for each sentence."""
    pairs = [("Das ist so.", "That is so."), ("Das ist gut, ja.", "That is good, yes."), ("Ja, ja.", "Yes.")] * 2
    tokenizer = translation.joint_vocabulary("t", pairs, 200)
    rows = translation.token_rows(tokenizer, pairs, max_length=30)
    sizes = {"width": 16, "inner_width": 16, "layers": 1, "heads": 2, "max_length": 30}
    torch.manual_seed(0)
    model = translation.transformer("t", vocab_size=tokenizer.get_vocab_size(), dropout=0.0, **sizes)()
    whole = translation.unpadded([rows[index] for index in range(6)])
    for count in (1, 2, 6):
        inputs, targets = translation.first_sentences(*whole, count)
        alone, wanted = translation.unpadded([rows[index] for index in range(count)])
        assert targets.tolist() == wanted.tolist()
        torch.testing.assert_close(model(inputs), model(alone))


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
