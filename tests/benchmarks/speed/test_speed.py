"""The benchmark of speed: the contenders do what they are said to, and the page is what its record says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from benchmarks.harness import DOCS
from benchmarks.speed import alone, forward, whole
from benchmarks.speed.benchmark import Speed
from benchmarks.speed.contenders import CONTENDERS, LEARNED, OPTIONS, PARTS, RHO, Passes
from benchmarks.speed.networks import NETWORKS, Network, mlp
from letsam import SAM, LearnedRadius
from letsam.tasks.models.resnet import resnet

PEERS = {
    "pytorch_optimizer, loop": "pytorch_optimizer",
    "pytorch_optimizer, foreach": "pytorch_optimizer",
    "sam-pytorch": "sam",
}


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


# Whole steps


def small(dtype: torch.dtype = torch.float64) -> Network:
    """With BatchNorm, whose statistics a pass moves."""
    return Network(lambda: resnet((4, 8), blocks=1), (6, 3, 8, 8), dtype)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_a_million_weights(name: str) -> None:
    if name == "vit":
        pytest.importorskip("transformers")
    assert sum(p.numel() for p in NETWORKS[name][0]().parameters()) >= 10**6


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        (whole.REFERENCE, 20),
        (whole.OURS, 20),
        (whole.EACH, 30),
        (whole.TENTH, 21),
        ("LETS-SAM, the paper's", 40),
        ("four passes written out", 40),
    ],
)
def test_passes_of_ten_steps(name: str, passes: int) -> None:
    network = small()
    step = whole.CONTENDERS[name][0](network)
    assert step is not None
    for _ in range(10):
        step()
    assert network.passes == passes


def test_the_four_passes_written_out_are_the_papers() -> None:
    """The same weights, and the same radius, as `LearnedRadius.paper`; without BatchNorm, which only letsam freezes."""
    mine, theirs = (Network(lambda: mlp(48, 5, 10), (6, 3, 4, 4), torch.float64) for _ in range(2))
    step = whole.four_passes(mine)
    opt = SAM(torch.optim.SGD(theirs.params, **OPTIONS), LearnedRadius.paper(RHO, lr=whole.RATE))
    for _ in range(5):
        rho = step()
        opt.step(theirs.train, theirs.validate)
        torch.testing.assert_close(rho.item(), opt.rho.item(), rtol=1e-6, atol=0)
    assert abs(rho.item() / RHO - 1) > 0.01
    for one, other in zip(mine.params, theirs.params, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(importlib.util.find_spec("betty") is None, reason="betty-ml is not installed")
def test_betty_takes_a_sam_step_and_moves_the_radius() -> None:
    mine, theirs = (Network(lambda: mlp(48, 5, 10), (6, 3, 4, 4), torch.float64) for _ in range(2))
    step = whole.betty(mine)
    assert step is not None
    SAM(torch.optim.SGD(theirs.params, **OPTIONS), RHO).step(theirs.train)
    assert step().item() != RHO
    for one, other in zip(mine.params, theirs.params, strict=True):  # its darts leaves the weights 0.01 aside
        torch.testing.assert_close(one, other, rtol=0, atol=0.011)


def test_the_profile_is_of_the_whole_step() -> None:
    network = small()
    step = whole.CONTENDERS[whole.EACH][0](network)
    assert step is not None
    found = whole.profile(network, step)
    assert list(found) == [*whole.PARTS, "rest"]
    assert all(value > 0 for value in found.values())


# The validation pass without a backward


@pytest.mark.parametrize(("way", "close"), [("jvp", 1e-10), ("difference", 1e-3)])
def test_ways_to_the_slope_agree(way: str, close: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "network", lambda name: small())
    network, z = forward.prepared("small")
    loss, slope = forward.backward(network, z)
    before = [p.detach().clone() for p in network.params]
    found_loss, found = forward.WAYS[way](network, z)
    torch.testing.assert_close(found_loss.detach(), loss, rtol=1e-10, atol=0)
    torch.testing.assert_close(found.detach(), slope, rtol=close, atol=0)
    assert all(torch.equal(p, old) for p, old in zip(network.params, before, strict=True))


# Growth


@pytest.mark.parametrize(("name", "passes"), [("SAM", 2), ("LETS-SAM", 3)])
def test_steps_that_grow_have_all_their_passes(name: str, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Passes([(3,)] * 4, torch.float32)
    calls: list[int] = []
    monkeypatch.setattr(Passes, "__call__", lambda self, plain=Passes.__call__: (calls.append(1), plain(self))[1])
    step = alone.GROWING[name](weights, False)
    step()
    calls.clear()
    step()
    assert len(calls) == passes


def test_a_workload_and_a_size_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(alone.WORKLOADS, "few large", [(8, 4)] * 2)
    (row,) = Speed().measure(Speed().units()[8])
    assert row.key == "few-large/SAM/float32"
    assert {*CONTENDERS, *LEARNED, *PARTS} - set(PEERS) <= set(row.measured)
    assert row.measured["letsam"]["ratio"] == 1
    assert all(row.measured[name]["operators"] > 0 for name in ("SGD alone", "letsam", "letsam, learned"))
    assert row.measured["letsam"]["copies"] > 1
    assert set(row.measured["to undo it"]) == {"ms", "ratio"}
    grown = alone.measure_growth(1000, 10)
    assert list(grown) == list(alone.GROWING)
    assert grown["SGD alone"]["ratio"] == 1


# The page


def test_the_page_is_what_its_command_makes(tmp_path: Path) -> None:
    rows = Speed().read()
    assert [row.key for row in rows] == [unit.name for unit in Speed().units()]
    speed = Speed(tmp_path)
    speed.write(rows[::-1])
    new, old = (json.loads((docs / "evidence" / "speed.json").read_text()) for docs in (tmp_path, DOCS))
    assert new == old
    speed.make_page()
    assert (tmp_path / "speed.md").read_text() == (DOCS / "speed.md").read_text()
    pictures = ("speed.png", "speed-steps.png", "speed-growth.png")
    assert all((docs / "images" / name).exists() for docs in (tmp_path, DOCS) for name in pictures)
