"""The examples of the adapters and the code of their pages, and of that of the radii, run."""

from pathlib import Path

import pytest
import torch

from page_code import blocks_of, run_code
from test_examples import load

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["lightning_loop", "accelerate_loop", "trainer_loop"])
def test_the_example_learns_under_label_noise(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = load(name).main(epochs=6)
    lines = capsys.readouterr().out.splitlines()
    radii = [float(line.split("rho ")[1].split()[0]) for line in lines if line.startswith("epoch")]
    assert len(radii) == 6
    assert radii[-1] != radii[0]
    assert accuracy > 0.6  # by chance: 0.1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", ["lightning", "transformers-trainer", "accelerate", "fabric", "radii"])
def test_the_code_of_the_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(f"docs/how-to/{page}.md")
    torch.manual_seed(0)
    run_code("\n".join(blocks), page, {"__name__": page})  # each ends in an assertion
