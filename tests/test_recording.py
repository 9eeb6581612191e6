"""The radii of a run, recorded and replayed in another one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import letsam.recording
from letsam import ASAM, SAM, LearnedRadius, LinearRadius, RadiusRecord
from oracle.problems import batch, closure_on, network
from page_code import blocks_of, run_code


def learned(steps: int, record_from: int = 0, **options: object) -> tuple[SAM, RadiusRecord, list[object]]:
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LearnedRadius(0.05, **options))  # type: ignore[arg-type]
    record, used = None, []
    for i in range(steps):
        if i == record_from:
            record = RadiusRecord(opt)
        opt.step(closure_on(model, batch(i)), closure_on(model, batch(1000 + i)))
        used.append(opt.metrics["rho"].tolist())
    assert record is not None
    return opt, record, used


@pytest.mark.parametrize("per", ["all", "layer"])
def test_every_step_is_recorded(per: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letsam.recording, "CHUNK", 7)
    _, record, used = learned(30, per=per)
    assert len(record) == 30
    assert record.schedule == used
    assert len({str(rho) for rho in used}) > 10


def test_it_records_from_where_it_was_made() -> None:
    _, record, used = learned(12, record_from=5)
    assert record.schedule == used[5:]


@pytest.mark.parametrize("per", ["all", "layer"])
def test_the_radii_are_replayed_in_a_longer_run(per: str) -> None:
    _, record, used = learned(130, per=per)
    model = network()
    replayed = record.replayed(steps=260)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=replayed)
    again = []
    for i in range(260):
        opt.step(closure_on(model, batch(i)))
        again.append(opt.rho.tolist())
    assert torch.tensor(again[-1]).allclose(torch.tensor(used[-1]))
    late = torch.tensor(again[220:])
    assert late.allclose(torch.tensor(used[110:]).repeat_interleave(2, 0), rtol=0.1)
    start, after = torch.tensor(used[0]), torch.tensor(used[100])
    assert torch.tensor(again[0]).allclose(torch.minimum(start, 0.1 * after))  # the limit of the burn-in


def test_radii_that_are_not_finite_are_left_out() -> None:
    _, record, _ = learned(4)
    record.load_state_dict({"radii": torch.tensor([0.1, float("nan"), 0.3])})
    assert record.replayed(2).schedule == pytest.approx((0.03, 0.3), abs=0.3)
    assert len(record.replayed(2).schedule) == 2
    record.load_state_dict({"radii": torch.tensor([float("nan")])})
    with pytest.raises(ValueError, match="must hold a step with finite radii, got 1 steps, none with"):
        record.replayed(2)


def test_a_checkpoint_goes_on() -> None:
    _, record, used = learned(9)
    saved = record.state_dict()
    _, other, _ = learned(4)
    other.load_state_dict(saved)
    assert other.schedule == used
    assert saved["radii"].data_ptr() != record.state_dict()["radii"].data_ptr()
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LinearRadius(0.1, 0.3, steps=3))
    third = RadiusRecord(opt)
    third.load_state_dict(saved)
    opt.step(closure_on(model, batch(0)))
    assert third.schedule[9:] == pytest.approx([0.1])
    assert third.schedule[:9] == used


def test_what_cannot_be_recorded() -> None:
    with pytest.raises(TypeError, match=r"^`optimizer` must be a letsam.SharpnessAware, got SGD"):
        RadiusRecord(torch.optim.SGD(network().parameters(), lr=0.1))  # type: ignore[arg-type]
    record = RadiusRecord(SAM(torch.optim.SGD(network().parameters(), lr=0.1), rho=0.1))
    with pytest.raises(ValueError, match="got 0 steps, none with"):
        record.replayed(3)


def test_asam_is_replayed_in_its_own_units() -> None:
    model = network()
    opt = ASAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=LearnedRadius(0.5))
    record = RadiusRecord(opt)
    opt.step(closure_on(model, batch(0)), closure_on(model, batch(1)))
    assert record.replayed(1).schedule == pytest.approx((0.5,))


PAGE = "docs/how-to/refit.md"


@pytest.mark.parametrize("block", range(len(blocks_of(PAGE))))
def test_the_page_runs(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"nn": nn}
    for code in blocks_of(PAGE)[: block + 1]:
        run_code(code, PAGE, names)
