"""The records of a trial: the file that holds them, its checks, means over seeds."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from letsam.results import MethodName, Results, Run, summarize


def make_run(method="lets-sam", seed=0, **changes):
    learned = MethodName.parse(method).learned
    run = Run(
        method=method,
        seed=seed,
        rho_initial=None if method == "sgd" else 0.05,
        rho_final=None if method == "sgd" else 0.2 if learned else 0.05,
        test_accuracy=0.9,
        test_loss=0.5,
        train_loss=0.3,
        validation_loss=0.55 if learned else None,
        generalization_gap=0.2,
        gradient_passes=120,
        seconds=1.25,
        history={
            "epoch": [1.0, 2.0],
            "train_loss": [0.9, 0.3],
            "test_loss": [1.0, 0.5],
            "test_accuracy": [0.6, 0.9],
            "validation_loss": [1.1, 0.55] if learned else [None, None],
            "generalization_gap": [0.1, 0.2],
            "rho": [None, None] if method == "sgd" else [0.1, 0.2],
            "hypergradient": [-0.3, 0.01] if learned else [None, None],
            **({"rho_schedule": [0.05, 0.1, 0.2]} if learned else {}),
        },
    )
    return dataclasses.replace(run, **changes)


@pytest.fixture
def results():
    return Results(
        task="digits",
        config={"methods": ["sgd", "lets-sam"], "seeds": [0, 1], "epochs": 2, "rho": None, "refit": False},
        environment={"letsam": "0.1.0", "threads": 2},
        runs=(make_run("sgd"), make_run("lets-sam"), make_run("lets-sam", 1, test_accuracy=1 / 3)),
    )


def test_results_survive_the_file_exactly(results, tmp_path):
    path = tmp_path / "results.json"
    results.save(path)
    assert Results.load(path) == results


def test_the_file_has_the_documented_fields(results, tmp_path):
    results.save(tmp_path / "results.json")
    value = json.loads((tmp_path / "results.json").read_text())
    assert list(value) == ["schema", "task", "config", "environment", "runs"]
    assert value["schema"] == 2
    assert set(value["runs"][0]) == {field.name for field in dataclasses.fields(Run)}
    assert "rho_schedule" not in value["runs"][0]["history"]


def test_every_field_is_documented(results):
    text = (Path(__file__).parents[2] / "docs" / "results-schema.md").read_text()
    names = {field.name for kind in (Results, Run) for field in dataclasses.fields(kind)}
    names |= set(results.runs[1].history) | {"schema"}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_metrics_become_null_and_come_back_as_nan(results, tmp_path, value):
    history = {**results.runs[1].history, "test_loss": [1.0, value], "hypergradient": [value, 0.1]}
    run = dataclasses.replace(results.runs[1], test_loss=value, validation_loss=value, history=history)
    path = tmp_path / "results.json"
    results.with_run(run).save(path)
    assert json.loads(path.read_text())["runs"][1]["test_loss"] is None
    loaded = Results.load(path).runs[1]
    assert math.isnan(loaded.test_loss)
    assert math.isnan(loaded.history["test_loss"][1])
    assert loaded.history["hypergradient"] == [None, 0.1]
    assert loaded.validation_loss is None
    assert loaded.diverged
    assert not results.runs[1].diverged


def test_many_radii_survive_the_file(results, tmp_path):
    steps = [[0.05, 0.05, 0.05], [0.1, 0.05, 0.3], [math.nan, 0.1, 0.2]]
    run = make_run("lets-sam-per-layer", history={**results.runs[1].history, "rho_schedule": steps})
    path = tmp_path / "results.json"
    results.with_run(run).save(path)
    assert json.loads(path.read_text())["runs"][-1]["history"]["rho_schedule"][2] == [None, 0.1, 0.2]
    loaded = Results.load(path).runs[-1]
    assert loaded.history["rho_schedule"][:2] == steps[:2]
    assert loaded.radii[:2] == [tuple(step) for step in steps[:2]]
    assert math.isnan(loaded.radii[2][0])
    assert loaded.radii[2][1:] == (0.1, 0.2)
    assert loaded.mean_radii[:2] == pytest.approx([0.05, 0.15])
    assert math.isnan(loaded.mean_radii[2])


def test_one_radius_and_none(results):
    assert results.runs[1].radii == [(0.05,), (0.1,), (0.2,)]
    assert results.runs[1].mean_radii == [0.05, 0.1, 0.2]
    assert results.runs[0].radii == results.runs[0].mean_radii == []


def test_a_file_of_schema_1_is_read(results, tmp_path):
    """It has one number a step, of many radii their mean."""
    path = edited(results, tmp_path, lambda v: v.update(schema=1))
    assert Results.load(path) == results


def test_null_radius_stays_none(results, tmp_path):
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json").runs[0].rho_initial is None


def edited(results, tmp_path, edit):
    path = tmp_path / "results.json"
    results.save(path)
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))
    return path


def nested(levels):
    value = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v.update(schema=3), r"expected schema 1 or 2, got schema 3"),
        (
            lambda v: v["runs"][1]["history"].update(rho_schedule=[[0.1], []]),
            r"schedule\[1\] to hold 1 radii, .* got 0$",
        ),
        (lambda v: v["runs"][1]["history"].update(rho_schedule=[[]]), r"rho_schedule\[0\] to hold 1 radii, .*, got 0$"),
        (lambda v: v["runs"][1]["history"].update(rho_schedule=[[0.1], 0.2]), r"schedule\[1\] to be a list, got 0.2$"),
        (lambda v: v["runs"][1]["history"].update(rho_schedule=[0.1, [0.2]]), r"schedule\[1\] to be a number, got"),
        (
            lambda v: v["runs"][1]["history"].update(rho_schedule=[["a"]]),
            r'schedule\[0\]\[0\] to be a number, got "a"$',
        ),
        (lambda v: v.pop("schema"), r"expected the field schema, but it is missing"),
        (lambda v: v.pop("task"), r"expected the field task, but it is missing"),
        (lambda v: v.update(config=[1]), r"expected config to be an object, got \[1\]"),
        (lambda v: v.update(runs={}), r"expected runs to be a list, got \{\}"),
        (lambda v: v["runs"].append(7), r"expected runs\[3\] to be an object, got 7"),
        (lambda v: v["runs"][1].pop("seconds"), r"expected the field runs\[1\]\.seconds, but it is missing"),
        (lambda v: v["runs"][1].update(seed=True), r"expected runs\[1\]\.seed to be an integer, got true"),
        (lambda v: v["runs"][0].update(test_loss="low"), r'runs\[0\]\.test_loss to be a number, got "low"'),
        (lambda v: v["runs"][0].update(gradient_passes=1.5), r"gradient_passes to be an integer, got 1\.5"),
        (lambda v: v["runs"][0]["history"].pop("rho"), r"expected the field runs\[0\]\.history\.rho, but"),
        (lambda v: v["runs"][0]["history"]["rho"].pop(), r"history\.rho to hold 2 values, .*, got 1"),
        (lambda v: v["runs"][0]["history"].update(epoch=[1, None]), r"history\.epoch\[1\] to be a number, got null"),
        (
            lambda v: v["runs"][0].update(test_loss=10**400),
            r"test_loss to be a number that a double can hold, got 1000",
        ),
        (lambda v: v["runs"][0].update(rho_final=-(10**400)), r"rho_final to be a number that a double .* got -1000"),
        (
            lambda v: v["runs"][0].update(gradient_passes=10**400),
            r"gradient_passes to be an integer of less than 64 bits",
        ),
        (lambda v: v["runs"][0].update(seed=2**63), r"runs\[0\]\.seed to be an integer of less than 64 bits, got 9223"),
        (
            lambda v: v["runs"][0]["history"].update(epoch=[1, 10**400]),
            r"history\.epoch\[1\] to be a number that a double",
        ),
        (
            lambda v: v["runs"][1]["history"].update(rho_schedule=[10**400]),
            r"rho_schedule\[0\] to be a number that a dou",
        ),
        (lambda v: v.update(schema=10**400), r"schema to be an integer of less than 64 bits, got 1000"),
        (lambda v: v.update(task="a\ud800"), r'the file to hold Unicode text, got "a\\ud800"$'),
        (lambda v: v["runs"][0].update(method="a\ud800"), r"runs\[0\] to hold Unicode text"),
        (lambda v: v["config"].update(x=[{"a\udfff": 1}]), r"config\.x\[0\] to hold Unicode text"),
        (
            lambda v: v["config"].update(x=nested(200)),
            r"at most 100 levels of lists and objects, got more in config\.x",
        ),
        (lambda v: v.update(name=3), r"expected name to be a string, got 3"),
        (lambda v: v.update(inferred={}), r"expected inferred to be a list, got \{\}"),
        (lambda v: v.update(inferred=[["a"]]), r"expected inferred\[0\] to hold two strings, got 1"),
        (lambda v: v.update(inferred=[["a", 1]]), r"expected inferred\[0\]\[1\] to be a string, got 1"),
        (lambda v: v["runs"][0].update(metrics=[1]), r"expected runs\[0\]\.metrics to be an object, got \[1\]"),
        (lambda v: v["runs"][0].update(metrics={"R2": "x"}), r'runs\[0\]\.metrics\.R2 to be a number, got "x"'),
        (lambda v: v["runs"][0].update(lower_is_better=1), r"lower_is_better to be true or false, got 1"),
        (lambda v: v["runs"].append(nested(200)), r"at most 100 levels of lists and objects, got more in runs\[3\]"),
        (lambda v: v["runs"].append(v["runs"][0]), r"one run for each method and seed, got 'sgd' with 0 twice"),
    ],
)
def test_a_foreign_file_is_one_clear_line(results, tmp_path, edit, message):
    path = edited(results, tmp_path, edit)
    with pytest.raises(ValueError, match=message) as raised:
        Results.load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"results\.json: expected a results file, but there is no such file"):
        Results.load(tmp_path / "results.json")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a readable results file, got: Is a directory"):
        Results.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"schema": NaN}'])
def test_what_is_not_json_is_refused(tmp_path, content):
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"results\.json: expected JSON, got: "):
        Results.load(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1e999", "to be a number that a double can hold, got Infinity"),
        ("1" * 5000, "expected JSON, got: Exceeds the limit"),
        ("[" * 100_000 + "]" * 100_000, "expected at most 100 levels of lists and objects"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "expected at most 100 levels of lists and objects"),
    ],
)
def test_numbers_and_nesting_without_end_are_one_line(results, tmp_path, value, message):
    path = tmp_path / "results.json"
    results.save(path)
    path.write_text(path.read_text().replace('"test_loss": 0.5', f'"test_loss": {value}', 1))
    with pytest.raises(ValueError, match=message) as raised:
        Results.load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert len(str(raised.value)) < 400


def test_text_that_is_no_unicode_is_saved_as_escapes(results, tmp_path):
    """A command line or a file's name may be any bytes, which Python reads as lone surrogates."""
    odd = dataclasses.replace(results, environment={"command": "letsam trial a\udcff.py:f", "k\ud800": [1]})
    odd.save(tmp_path / "results.json")
    loaded = Results.load(tmp_path / "results.json")
    assert loaded.environment == {"command": r"letsam trial a\udcff.py:f", r"k\ud800": [1]}


def test_a_run_of_which_every_number_is_null_is_read(results, tmp_path):
    """A run that diverged at once; whatever is saved can be read again."""
    run = results.runs[1]
    columns = {name: [math.nan] * len(column) for name, column in run.history.items()}
    numbers = {name: math.nan for name, value in vars(run).items() if isinstance(value, float)}
    lost = dataclasses.replace(run, **numbers, history=columns | {"epoch": run.history["epoch"]})
    results.with_run(lost).save(tmp_path / "results.json")
    loaded = Results.load(tmp_path / "results.json")
    assert loaded.runs[1].diverged
    assert loaded.summary()[1].diverged == 1
    assert all(math.isnan(rho) for (rho,) in loaded.runs[1].radii)


def test_means_of_numbers_whose_sum_overflows(results):
    runs = tuple(make_run("sgd", seed, test_loss=1.5e308, test_accuracy=1e308) for seed in range(3))
    (row,) = dataclasses.replace(results, runs=runs).summary()
    assert row.test_loss == pytest.approx(1.5e308)
    assert row.test_accuracy == pytest.approx(1e308)


def test_json_of_another_kind_is_refused(tmp_path):
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(ValueError, match=r"expected the file to be an object, got \[\]"):
        Results.load(tmp_path / "results.json")


def test_with_run_appends_or_replaces_in_place(results):
    replaced = results.with_run(make_run("sgd", 0, test_accuracy=0.1))
    assert [run.test_accuracy for run in replaced.runs] == [0.1, 0.9, 1 / 3]
    appended = results.with_run(make_run("sgd", 1))
    assert [(run.method, run.seed) for run in appended.runs] == [
        ("sgd", 0),
        ("lets-sam", 0),
        ("lets-sam", 1),
        ("sgd", 1),
    ]
    assert len(results.runs) == 3


def test_records_are_frozen(results):
    with pytest.raises(dataclasses.FrozenInstanceError):
        results.runs[0].seed = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        results.task = "other"


def test_summary_averages_over_seeds_in_order_of_appearance(results):
    runs = (
        make_run("lets-sam", 0, test_accuracy=0.8, rho_final=0.1, gradient_passes=100, seconds=1.0, test_loss=1.0),
        make_run("sgd", 0),
        make_run("lets-sam", 1, test_accuracy=0.9, rho_final=0.3, gradient_passes=200, seconds=3.0, test_loss=2.0),
    )
    learned, sgd = summarize(dataclasses.replace(results, runs=runs))
    assert (learned.method, sgd.method) == ("lets-sam", "sgd")
    assert (learned.count, sgd.count) == (2, 1)
    assert learned.test_accuracy == pytest.approx(0.85)
    assert learned.test_accuracy_std == pytest.approx(0.1 / math.sqrt(2))  # sample, not population: 0.05
    assert learned.test_loss == pytest.approx(1.5)
    assert learned.rho_initial == pytest.approx(0.05)
    assert learned.rho_final == pytest.approx(0.2)
    assert learned.gradient_passes == 150
    assert learned.seconds == 2
    assert sgd.test_accuracy_std == 0
    assert sgd.rho_initial is None
    assert sgd.rho_final is None


def test_a_diverged_run_is_counted_and_not_left_out_of_the_mean(results):
    runs = (make_run("sgd", 0), make_run("sgd", 1, test_loss=math.inf, train_loss=math.nan))
    (row,) = dataclasses.replace(results, runs=runs).summary()
    assert row.diverged == 1
    assert math.isnan(row.test_loss)
    assert row.test_accuracy == pytest.approx(0.9)


def test_what_json_cannot_hold_is_refused_and_nothing_is_written(results, tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        dataclasses.replace(results, config={"path": object()}).save(tmp_path / "results.json")
    assert list(tmp_path.iterdir()) == []


def test_what_was_inferred_and_further_metrics_are_kept(tmp_path):
    run = make_run(metrics={"RMSE": 0.5, "R2": math.nan}, lower_is_better=True)
    results = Results("iris", {}, {}, (run,), (("classes", "a, b"), ("rows", "150")))
    results.save(tmp_path / "results.json")
    loaded = Results.load(tmp_path / "results.json")

    assert loaded.inferred == results.inferred
    (again,) = loaded.runs
    assert again.lower_is_better
    assert again.metrics["RMSE"] == 0.5
    assert math.isnan(again.metrics["R2"])
