"""What the evidence consists of."""

from __future__ import annotations

import dataclasses

import pytest

import training_cases
from benchmarks.evidence.benchmark import Evidence
from benchmarks.evidence.suite import ALL_FAMILIES, EVERY, FAMILIES, SETTINGS, START, TRIED, methods
from benchmarks.evidence.tried import IDEAS
from benchmarks.harness import Unit, main
from letsam.training.methods import Method
from letsam.training.trial import check_data


def test_all_settings_are_named_apart_and_all_their_methods_are_known() -> None:
    assert len({setting.name for setting in EVERY}) == len(EVERY)
    for setting in EVERY:
        names = [method for _, method in methods(setting)]
        assert len(set(names)) == len(names)
        for name in names:
            if not name.startswith("optuna-"):
                plain = name.partition("@")[0]
                assert Method.parse(plain).name == plain
        assert set(setting.sam_starts) <= {*setting.sam_grid}
        assert set(setting.asam_starts) <= {*setting.asam_grid}
        assert START in setting.sam_starts


def test_the_learned_starts_are_within_the_bounds_of_the_radius() -> None:
    task = training_cases.task()
    for setting in SETTINGS:
        names = tuple(name for _, name in methods(setting) if name.startswith("lets-") and "@" not in name)
        check_data(task, training_cases.config(methods=names))


def units(families: tuple[str, ...] = FAMILIES, **options: int) -> list[Unit]:
    return Evidence(settings=SETTINGS, families=families, **options).units()


def test_work_goes_seed_by_seed_cheapest_setting_first() -> None:
    work = [(unit, *unit.work) for unit in units()]
    places = [(seed, SETTINGS.index(setting)) for _, setting, _, seed in work]
    assert places == sorted(places)
    assert {unit.name.split("/")[1] for unit, *_ in work} == set(FAMILIES)  # ideas are tried when asked for
    tried = [unit.work for unit in units(("tried",))]
    untried = {setting.name for setting in SETTINGS} - {setting.name for setting, _, _ in tried}
    assert untried == {"reviews", "mnist-0.0", "mnist-0.4"}  # the final checks
    assert {seed for *_, seed in tried} == {0, 1, 2}
    assert tuple(IDEAS) == TRIED
    other = [unit.work for unit in units(("validation",))]
    assert {setting.name for setting, *_ in other} == {setting.name for setting in SETTINGS if not setting.text}
    assert {method for setting, method, _ in other if not setting.noise} == {f"lets-sam:{START}@mix"}
    assert {seed for *_, seed in other} == {0, 1, 2}
    assert max(seed for _, setting, _, seed in work if setting.name == "ding-de-en") == 2
    assert {unit.work[-1] for unit in units(("sam",), seeds=2)} == {0, 1}
    assert len({unit.name for unit in units(ALL_FAMILIES)}) == len(units(ALL_FAMILIES))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [setting.name for setting in EVERY]),
        (["fashion-10k-0.4-c"], ["fashion-10k-0.4-clipped"]),
        (["digits"], ["digits-0.0", "digits-0.2", "digits-0.4", "digits-0.6"]),
        (["fashion-cnn-0.4", "--full"], ["fashion-cnn-0.4-full"]),
        (["--quick"], ["digits-0.0", "digits-0.2", "digits-0.4", "digits-0.6"]),
    ],
)
def test_names_of_settings(arguments: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Unit] = []
    monkeypatch.setattr(Evidence, "run", lambda self, units, again, jobs: seen.extend(units))
    main(Evidence, ["run", *arguments])
    names = dict.fromkeys(unit.work[0].name for unit in seen)
    assert sorted(names) == sorted(expected)


def test_names_that_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["run", "digtis"], ["run", "digits", "--full"]):
        with pytest.raises(SystemExit):
            main(Evidence, arguments)
    errors = capsys.readouterr().err
    assert "unknown name 'digtis', expected how one begins: digits-0.0" in errors
    assert "unknown name 'digits', expected how one begins: fashion-cnn-0.0-full" in errors


def test_the_full_size_is_another_setting() -> None:
    full = next(s for s in SETTINGS if s.name == "fashion-resnet-0.4").full()
    assert full is not None
    assert (full.train_size, full.model) == (60000, "resnet18")
    assert full.config != SETTINGS[0].config
    assert dataclasses.replace(full, name="").config == full.config
