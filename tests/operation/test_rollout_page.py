"""The commands and the code of the how-to on roll-outs, on real models and their watches."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from pathlib import Path

import pytest

from letsam.operation import RolloutDecision, ShadowReport
from letsam.operation.rollout_plan import RolloutPlan, RolloutStage
from page_code import ROOT, blocks_of, commands_of, run_code, section_of
from rollout_cases import call, digits, july

PAGE = "docs/how-to/rollout.md"
STAGES = """
champion = "runs/v1"
challenger = "runs/v2"

[gates]
max_alarms = 0

[[stages]]
name = "shadow"
share = "0%"
min_samples = 400
max_drop = 2.0

[[stages]]
share = "50%"
min_samples = 200
max_drop = 8.0
max_expected_drop = 20.0

[[stages]]
share = "100%"
min_hours = 24
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_and_the_code(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, frame = digits(), july(digits())
    (here / "runs").mkdir()
    for name in ("v1", "v2"):
        (here / "runs" / name).mkdir()
        (here / "runs" / name / "model").symlink_to(folder / name / "model")
    frame.to_csv("july.csv", index=False)
    frame[::2].to_csv("champion.csv", index=False)
    frame[1::2].to_csv("challenger.csv", index=False)
    lines = commands_of((ROOT / PAGE).read_text(encoding="utf-8"))
    commands = [line[: line.index("#")] if "#" in line else line for line in lines]
    assert [command[0] for command in commands] == ["shadow", "rollout", "watch", "watch", "rollout"]
    said: list[tuple[int, str]] = []
    for command in commands:
        status, out, err = call(*command)
        assert status in (0, 1, 3), err
        said.append((status, out))
        if "--init" in command:
            Path("plan.toml").write_text(STAGES, encoding="utf-8")
    assert said[0][0] == said[1][0] == 0
    assert said[-1][0] == 0
    assert said[-1][1].startswith("Proceed: the stage 'shadow' is passed, the challenger serves 50 % from now on.")
    # The watches have records from before; those of the stage come now.
    for name in ("champion", "challenger"):
        part = frame[1::2] if name == "champion" else frame[::2]
        part.to_csv(f"{name}-2.csv", index=False)
        assert call("watch", f"runs/v{1 + (name == 'challenger')}", f"{name}-2.csv", "--labels")[0] == 0
    status, out, err = call("rollout", "plan.toml", "--json", "--now", "2030-01-01T00:00:00Z")
    assert (status, err) == (0, "")
    made = json.loads(out)
    assert (made["stage"], made["next_stage"], made["share"]) == ("50%", "100%", 1.0)
    assert made["since"]["challenger"] == 1
    texts = {check["gate"]: check["text"] for check in made["checks"]}
    assert texts["max_drop"].startswith("look 1, with 249 samples of the challenger and 248 of the champion: the gain")
    assert texts["max_expected_drop"].startswith("look 1")

    capsys.readouterr()
    for block in blocks_of(PAGE):
        run_code(block, PAGE, {})
    printed = capsys.readouterr().out.splitlines()
    assert " of 497 BoundedValue(value=" in printed[0]
    assert "Proceed: the stage '50%' is passed, the challenger serves 100 % from now on." in printed
    assert {path.name for path in Path("runs/comparison").iterdir()} == {"differing.csv", "shadow.html", "shadow.json"}
    assert call("rollout", "plan.toml", "--now", "2040-01-01T00:00:00Z")[0] == 0


def test_the_page_names_every_key_and_field(here: Path) -> None:
    plan = section_of(PAGE, "The plan")
    internal = {"path", "digest", "level", "stages"}
    for field in (*fields(RolloutPlan), *fields(RolloutStage)):
        if field.name not in internal | {"name", "share"}:
            assert f"`{field.name}`" in plan.replace("`ignore_alarms = ", "`ignore_alarms`"), field.name
    files = section_of(PAGE, "The files")
    for kind in (ShadowReport, RolloutDecision):
        for field in fields(kind):
            if field.name != "differing_samples":
                assert f"`{field.name}`" in files, field.name
    folder = digits()
    assert call("shadow", folder / "v1", folder / "v2", folder / "july.csv", "--out", "out")[0] == 0
    with Path("out/differing.csv").open(newline="") as file:
        for column in next(csv.reader(file)):
            assert f"`{column}`" in files.replace("\n", " "), column
