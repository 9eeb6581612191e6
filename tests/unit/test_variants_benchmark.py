"""benchmarks/variants: what is run, what is kept, and the page that is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.variants import errors, page, record

from letsam.variants import VARIANTS


def test_every_variant_is_run_fixed_and_learned() -> None:
    names = {(order.setting.name, order.method) for order in record.orders([], quick=False)}
    for place in ("digits-0.0", "digits-0.4", "fashion-cnn-0.4"):
        assert {(place, prefix + name) for name in VARIANTS for prefix in ("", "lets-")} <= names
    assert {("fashion-resnet-0.4", "samon"), ("fashion-resnet-0.4", "lets-samon")} <= names


def test_a_run_is_kept_and_not_made_again(tmp_path: Path) -> None:
    """A variant that the model has no layers for says so, and is not tried again either."""
    path = tmp_path / "variants.json"
    todo = record.orders([], quick=True)
    told: list[list[record.Row]] = []
    for order in todo:
        if order.method in ("sam", "lets-gsam", "samon"):
            record.perform(order, told.append)
    rows = [row for some in told for row in some]
    assert [row.method for row in rows] == ["sam", "lets-gsam", "lets-gsam+refit", "samon"]
    assert rows[1].passes > rows[0].passes > 0
    assert rows[3].hindered is not None
    assert "normalisation layers" in rows[3].hindered

    record.write(path, rows, [])
    kept, found = record.read(path)
    assert found == []
    assert sorted(kept, key=str) == sorted(rows, key=str)
    left = record.orders(kept, quick=True)
    assert {order.method for order in todo} - {order.method for order in left} == {"sam", "lets-gsam", "samon"}

    page.make(kept, [], tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert f"| sam | {100 * rows[0].accuracy:.1f} | 1.00 | 1.00 | - | - | - | - |" in text
    assert f"| gsam | - | - | - | {100 * rows[2].accuracy:.1f} |" in text
    assert "Left out: samon: `model` must have normalisation layers" in text
    assert all(f"`letsam.{kind.__name__}`" in text for kind in VARIANTS.values())


@pytest.mark.slow
def test_the_secant_is_better_on_a_shorter_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(errors, "VARIANTS", {name: VARIANTS[name] for name in ("sam", "wsam", "looksam")})
    monkeypatch.setattr(errors, "RADII", (1e-3, 0.1))
    measured = list(errors.measure())
    by_place = {(one["variant"], one["rho"]): one for one in measured}
    for name in ("sam", "wsam", "looksam"):
        near, far = by_place[name, 1e-3], by_place[name, 0.1]
        assert near["count"] >= 5
        assert near["secant"]["error"] < 0.05 < near["diagonal"]["error"]
        assert near["secant"]["error"] < far["secant"]["error"]
    page.make([], measured, tmp_path / "page.md")
    assert f"{by_place['sam', 0.1]['secant']['error']:.2g}" in (tmp_path / "page.md").read_text()
