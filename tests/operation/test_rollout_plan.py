"""The plan of a roll-out: what it says, and what is refused, with the nearest name of an unknown key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli_cases import MORE
from letsam.operation import RolloutPlan
from letsam.operation.rollout_plan import EXAMPLE, PlanError
from rollout_cases import call

SMALL = """
champion = "v1"
challenger = "v2"

[[stages]]
share = "10%"
min_samples = 100
"""


def written(folder: Path, text: str) -> Path:
    (folder / "plan.toml").write_text(text, encoding="utf-8")
    return folder / "plan.toml"


def test_init_writes_the_example(tmp_path: Path) -> None:
    path = tmp_path / "july.toml"
    assert call("rollout", path, "--init") == (0, f"plan: {path}\n", "")
    assert path.read_text(encoding="utf-8") == EXAMPLE
    plan = RolloutPlan.load(path)
    assert [(stage.name, stage.share) for stage in plan.stages] == [
        ("shadow", 0.0),
        ("1%", 0.01),
        ("10%", 0.1),
        ("50%", 0.5),
        ("100%", 1.0),
    ]
    assert plan.stages[0].shadows
    assert all(stage.max_alarms == 0 for stage in plan.stages)
    assert (plan.stages[3].max_drop, plan.stages[3].max_hours) == (2.0, 2160.0)
    assert plan.champion == tmp_path / "runs" / "v1"
    assert plan.out == tmp_path / "july-rollout"
    assert max(map(len, EXAMPLE.splitlines())) <= 120
    status, _, err = call("rollout", path, "--init")
    assert (status, MORE.sub("", err)) == (2, f"error: {path}: exists already; --init writes a new plan\n")
    # What the comments say are the defaults, and the keys in them are keys.
    commented = re.sub(r"^# (\w+ = )", r"\1", EXAMPLE, flags=re.MULTILINE)
    assert RolloutPlan.load(written(tmp_path, commented)).stages[0].ignore_alarms == ("feature_drift",)


def test_a_stage_overrides_the_shared_gates(tmp_path: Path) -> None:
    text = SMALL + 'ignore_alarms = ["sharpness"]\nmax_alarms = 2\n[[stages]]\nname = "all"\nshare = "100 %"\n[gates]\n'
    plan = RolloutPlan.load(written(tmp_path, text + "max_alarms = 1\nmin_hours = 5\nmin_samples = 7\n"))
    first, last = plan.stages
    assert (first.name, first.max_alarms, first.min_samples, first.min_hours) == ("10%", 2, 100, 5.0)
    assert (last.name, last.share, last.max_alarms, last.min_samples) == ("all", 1.0, 1, 7)
    assert plan.stage("all") is last
    assert plan.after(first) is last
    assert plan.after(last) is None
    with pytest.raises(ValueError, match=r"has the stages 10%, all, got '10', did you mean '10%'\?$"):
        plan.stage("10")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('champion = "v1"', 'champian = "v1"', "a plan has no key 'champian', did you mean 'champion'?"),
        ('champion = "v1"', "", "`champion` must be given, the folder of a model"),
        ('"v2"', "3", "`challenger` must be a path, got 3"),
        ("min_samples", "min_sample", "stage '10%': a stage has no key 'min_sample', did you mean 'min_samples'?"),
        ("min_samples = 100", "", "stage '10%': has no gate: expected one of min_samples, min_hours, max_hours, "),
        ("min_samples = 100", "min_samples = -1", "stage '10%': `min_samples` must be a whole number >= 0, got -1"),
        ("min_samples = 100", "min_samples = 1.5", "stage '10%': `min_samples` must be a whole number >= 0, got 1.5"),
        ("min_samples = 100", "min_hours = -2", "stage '10%': `min_hours` must be >= 0, got -2.0"),
        ("min_samples = 100", 'max_drop = "1"', "stage '10%': `max_drop` must be a number, got '1'"),
        ("min_samples = 100", "max_drop = nan", "stage '10%': `max_drop` must be >= 0, got nan"),
        ("min_samples = 100", "max_drop = 1.0", "stage '10%': `min_samples` must be given with `max_drop` or "),
        ("min_samples = 100", "min_hours = 3\nmax_hours = 2", "`max_hours` must be at least `min_hours`, got 2 and 3"),
        ("min_samples = 100", "ignore_alarms = 'x'", "stage '10%': `ignore_alarms` must be a list of texts, got 'x'"),
        ("min_samples = 100", "name = 4", "stage 1: `name` must be text, got 4"),
        ('"10%"', "10", "stage 1: `share` must be text from '0%' to '100%', got 10"),
        ('"10%"', "0.1", "stage 1: `share` must be text from '0%' to '100%', got 0.1"),
        ('"10%"', '"101%"', "stage '101%': `share` must be text from '0%' to '100%', got '101%'"),
        ('"10%"', '"ten%"', "stage 'ten%': `share` must be text from '0%' to '100%', got 'ten%'"),
        ('share = "10%"', "", "stage 1: `share` must be given, such as '10%'"),
        ("[[stages]]", "[stages]", "`stages` must be tables with the heading [[stages]], at least one"),
        ("[[stages]]", "level = 0.7\n[[stages]]", "`level` must be above 0 and below 0.5, got 0.7"),
        ("[[stages]]", "metric = 7\n[[stages]]", "`metric` must be text, got 7"),
        ("[[stages]]", "gates = 7\n[[stages]]", "`gates` must be a table, got 7"),
        (
            "[[stages]]",
            "[gates]\nmax_alarm = 0\n[[stages]]",
            "gates has no key 'max_alarm', did you mean 'max_alarms'?",
        ),
        ("[[stages]]", "[[stages", "expected a plan in TOML: "),
        ("v1", "\x00", "expected a plan in TOML: "),
    ],
)
def test_what_a_plan_must_not_say(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = written(tmp_path, SMALL.replace(old, new))
    with pytest.raises(PlanError) as caught:
        RolloutPlan.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert message in text
    assert "\n" not in text
    status, out, err = call("rollout", path)
    assert (status, out, MORE.sub("", err)) == (2, "", f"error: {text}\n")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["plan.toml"]


def test_stages_in_another_order(tmp_path: Path) -> None:
    second = '[[stages]]\nshare = "{}"\nname = "{}"\nmin_hours = 1\n'
    with pytest.raises(PlanError, match=r"the share of the stage 'x' must be above that of '10%', got 5% and 10%$"):
        RolloutPlan.load(written(tmp_path, SMALL + second.format("5%", "x")))
    with pytest.raises(PlanError, match=r"stages must have different names, got '10%' twice$"):
        RolloutPlan.load(written(tmp_path, SMALL + second.format("20%", "10%")))


def test_files_that_are_no_plan(tmp_path: Path) -> None:
    status, _, err = call("rollout", tmp_path / "no.toml")
    assert (status, err.count("\n")) == (2, 1)
    assert "no.toml: expected a plan, but there is no such file; --init writes an example" in err
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError, match=r"binary.toml: expected a plan in TOML: 'utf-8' codec"):
        RolloutPlan.load(tmp_path / "binary.toml")
    with pytest.raises(PlanError, match="expected a plan in TOML"):
        RolloutPlan.load(tmp_path)
