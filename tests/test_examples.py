"""The examples and the README's code run, and do what they say."""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from letsam import cli
from letsam.results import Results
from page_code import blocks_of, run_code

ROOT = Path(__file__).parents[1]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_plain_loop_learns_under_label_noise(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = load("plain_loop").main(epochs=20)
    lines = capsys.readouterr().out.splitlines()
    radii = [float(line.split("rho ")[1].split()[0]) for line in lines if line.startswith("epoch")]
    assert len(radii) == 20
    assert radii[-1] != radii[0]
    assert accuracy > 0.6  # by chance: 0.1


def test_clean_validation_labels_mislead_the_plain_objective_alone() -> None:
    plain, *others = load("clean_validation").main(noises=(0.4,), seeds=1)
    assert [row[1] for row in (plain, *others)] == ["labels as they are", "ValidationLoss", "CalibratedLoss"]
    noisy_plain, clean_plain = plain[2:]
    for _, _, noisy, clean in others:
        assert clean[0] > clean_plain[0] + 5
        assert clean[1] > 2 * clean_plain[1], "the radius must be larger"
        assert abs(noisy[0] - noisy_plain[0]) < 3


def test_a_variant_of_ones_own() -> None:
    """Under 30 lines; it learns, the radius moves, and the derivative that it declares is that of its descent."""
    example = load("custom_variant")
    code = ast.parse((ROOT / "examples" / "custom_variant.py").read_text())
    (variant,) = [node for node in code.body if isinstance(node, ast.ClassDef)]
    assert variant.end_lineno is not None
    assert variant.end_lineno - variant.lineno < 30
    first, last, rho = example.main(steps=200)
    assert last < 0.7 * first
    assert rho != pytest.approx(0.05)

    g_rho, g_0, change = (torch.randn(5, dtype=torch.float64) for _ in range(3))
    ends = []
    for h in (0.0, 1.0):  # the descent is linear in g_rho
        gradient = g_rho + h * change
        example.SignAscent().descent([], [gradient], [g_0])
        ends.append(gradient)
    example.SignAscent().descent_derivative([change], [g_rho], [g_0])
    torch.testing.assert_close(ends[1] - ends[0], change)


def test_parts_of_ones_own() -> None:
    """Under 40 lines; the radius that they learn beats the fixed one that it starts from, and the base optimizer."""
    example = load("custom_parts")
    code = ast.parse((ROOT / "examples" / "custom_parts.py").read_text())
    parts = [node for node in code.body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in parts] == ["PenalizedGap", "SignDescent"]
    assert sum((node.end_lineno or 0) - node.lineno + 1 for node in parts) < 40
    accuracy, rho = example.main(rho=0.05)
    assert accuracy > 0.86  # SAM with the fixed radius 0.05, and SGD: 0.83
    assert rho > 0.1


@pytest.mark.slow
def test_a_task_of_ones_own_goes_through_a_trial(tmp_path: Path) -> None:
    task = f"{ROOT / 'examples' / 'my_task.py'}:make_task"
    assert cli.run(["trial", task, "--methods", "sgd,lets-sam", "--seeds", "1", "--out", str(tmp_path)]) == 0
    runs = {run.method: run for run in Results.load(tmp_path / "results.json").runs}
    assert list(runs) == ["sgd", "lets-sam", "lets-sam+refit"]
    assert all(run.test_accuracy > 0.8 for run in runs.values())
    assert runs["lets-sam"].rho_final != runs["lets-sam"].rho_initial


def test_the_loop_in_the_readme_runs() -> None:
    block = blocks_of("README.md")[0]
    assert len([line for line in block.splitlines() if line.strip()]) <= 12
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(64, 4), torch.randint(3, (64,)))
    names = {
        "model": torch.nn.Linear(4, 3),
        "loss_function": torch.nn.functional.cross_entropy,
        "train_loader": DataLoader(data, batch_size=8),
        "validation_loader": DataLoader(data, batch_size=16),
    }
    run_code(block, "README.md", names)
    assert names["opt"].rho != 0.05
    assert names["opt"].metrics["hypergradient"] != 0
