"""The benchmark of speed: the contenders make the same step, and the page is what its record says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from benchmarks.speed import page
from benchmarks.speed.contenders import CONTENDERS, RHO, Passes
from benchmarks.speed.measure import ALL

DOCS = Path(__file__).resolve().parents[2] / "docs"
PEERS = {"pytorch_optimizer, loop": "pytorch_optimizer", "pytorch_optimizer, foreach": "pytorch_optimizer",
         "sam-pytorch": "sam"}  # fmt: skip


@pytest.mark.parametrize("adaptive", [False, True], ids=["SAM", "ASAM"])
@pytest.mark.parametrize("name", [name for name in CONTENDERS if name != "SGD alone"])
def test_every_contender_climbs_and_comes_back(name: str, adaptive: bool) -> None:
    """At the second pass the weights are perturbed by rho, measured as the method does; then SGD has its step."""
    if name in PEERS and importlib.util.find_spec(PEERS[name]) is None:
        pytest.skip(f"{PEERS[name]} is not installed")
    passes, reference = (Passes([(4, 3), (5,)], torch.float64) for _ in range(2))
    seen: list[list[torch.Tensor]] = []

    class Watched:
        params = passes.params

        def __call__(self) -> torch.Tensor:
            seen.append([p.detach().clone() for p in passes.params])
            return passes()

    step = CONTENDERS[name](Watched(), adaptive)  # pyright: ignore[reportArgumentType]
    if step is None:
        assert (name, adaptive) == ("sam-pytorch", True)
        return
    step()
    perturbed = torch.cat([(after - before).flatten() for before, after in zip(*seen, strict=True)])
    weights = torch.cat([w.flatten() for w in seen[0]])
    reference()
    ascent = torch.cat([p.grad.flatten() for p in reference.params if p.grad is not None])
    scale = weights.abs() if adaptive else torch.ones_like(weights)
    torch.testing.assert_close(perturbed, RHO * scale**2 * ascent / (scale * ascent).norm(), rtol=1e-6, atol=1e-9)
    reference()
    torch.optim.SGD(reference.params, lr=1e-3, momentum=0.9).step()
    for mine, expected in zip(passes.params, reference.params, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)


def test_the_page_is_what_its_command_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(page.read()) == set(ALL)
    monkeypatch.setattr(page, "PAGE", tmp_path / "speed.md")
    monkeypatch.setattr(page, "IMAGES", tmp_path)
    page.make()
    assert (tmp_path / "speed.md").read_text() == (DOCS / "speed.md").read_text()
    assert (tmp_path / "speed.png").exists()
