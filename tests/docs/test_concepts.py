"""The pages on concepts: their figures are what the script draws with letsam, and their words fit the figures."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest

import letsam
from site_cases import ROOT


def script() -> ModuleType:
    """docs/draw_concepts.py as a module; `docs` is no package."""
    spec = importlib.util.spec_from_file_location("draw_concepts", ROOT / "docs" / "draw_concepts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DRAW = script()


def lines_of(svg: str) -> list[list[float]]:
    """The numbers of every line in a figure, rounded: they are those of the weights and losses that it shows."""
    paths = [node.get("d", "") for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")]
    return [[round(float(number), 1) for number in re.findall(r"-?\d+\.?\d*", path)] for path in paths]


def alike(one: list[float], other: list[float]) -> bool:
    """Whether the points are the same, or the extent: a contour is drawn with a few points more on some machines."""
    if len(one) == len(other):
        return np.allclose(one, other, atol=0.5)
    extents = [[end(points[axis::2]) for axis in (0, 1) for end in (min, max)] for points in (one, other)]
    return abs(len(one) - len(other)) <= len(one) / 20 and np.allclose(*extents, atol=0.5)


@pytest.mark.parametrize("name", ["sam-step", "sam-loss", "rho"])
def test_the_figure_is_what_letsam_does_today(name: str) -> None:
    found = lines_of((DRAW.PICTURES / f"{name}.svg").read_text(encoding="utf-8"))
    drawn = lines_of(DRAW.svg(name))
    assert len(found) > 10
    same = [alike(one, other) for one, other in zip(found, drawn, strict=True)]
    assert sum(same) >= len(same) - 1, "run python docs/draw_concepts.py"  # the run that is caught is chaotic


def test_every_figure_is_there_and_shown() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "concepts").glob("*.md"))
    for name in DRAW.FIGURES:
        assert (DRAW.PICTURES / f"{name}.svg").is_file()
        assert f"(../images/concepts/{name}.svg)" in pages


def test_sam_takes_the_gradient_at_the_place_that_it_has_climbed_to() -> None:
    """The arrows of the left picture, by hand."""
    places = DRAW.one_step((1.6, 0.14), 0.42, 0.3)
    gradient = np.array([0.3 * 1.6, 3.0 * 0.14])
    climbed = places["theta"] + 0.42 * gradient / np.linalg.norm(gradient)
    np.testing.assert_allclose(places["climbed"], climbed)
    np.testing.assert_allclose(places["new"], places["theta"] - 0.3 * climbed * np.array([0.3, 3.0]))


def test_a_run_ends_in_the_flat_basin_with_the_right_radius_alone() -> None:
    ends = [DRAW.path((-2.2, 0.95), rho)[-1] for rho in (0.0, 0.3, 0.6)]
    distances = [[np.linalg.norm(end - place) for place in (DRAW.SHARP, DRAW.FLAT)] for end in ends]
    assert distances[0][0] < 0.2
    assert distances[1][1] < 0.2
    assert min(distances[2]) > 0.3


def test_the_radii_are_as_good_as_the_page_says() -> None:
    found = {setting: DRAW.accuracies(setting) for setting in DRAW.SETTINGS}
    best = {setting: max(radii, key=lambda rho, radii=radii: radii[rho]) for setting, radii in found.items()}
    assert best == {
        "digits-0.0": 0.2,
        "digits-0.4": 0.5,
        "fashion-cnn-0.4": 0.2,
        "fashion-vit-0.0": 0.2,
        "snippets-small": 0.0,
    }
    noisy = found["digits-0.4"]
    assert [round(noisy[rho]) for rho in (0.0, 0.05, 0.5)] == [69, 73, 94]
    assert noisy[0.5] - noisy[0.05] > 20
    assert round(found["fashion-cnn-0.4"][0.5]) == 10
    for radii in found.values():
        assert abs(radii.get(0.02, radii[0.01]) - radii[0.0]) < 2.1


def test_the_slope_of_the_figure_is_that_of_the_curve() -> None:
    found = DRAW.one_step_objective()
    radii, losses = np.array(found["radii"]), np.array(found["losses"])
    near = (radii > found["rho"] / 1.6) & (radii < found["rho"] * 1.6)
    slope = np.polyfit(radii[near], losses[near], 1)[0]
    assert slope < 0
    assert found["slope"] / slope == pytest.approx(1, abs=0.5)
    assert np.interp(found["rho"], radii, losses) == pytest.approx(found["loss"], abs=1e-4)


@pytest.mark.slow
def test_learned_radii_meet_with_the_prior_and_drift_without() -> None:
    clean = [DRAW.Digits(0.0, letsam.LearnedRadius(start)).radii() for start in (0.01, 1.0)]
    assert max(abs(np.log(one / other)) for one, other in zip(clean[0][150:], clean[1][150:], strict=True)) < np.log(
        2.5
    )
    assert clean[0][-1] == pytest.approx(0.2, rel=0.5)
    without = letsam.LearnedRadius(0.05, rule=letsam.LogAdam(prior=None))
    assert DRAW.Digits(0.0, without).radii()[-1] < 0.03
    assert DRAW.Digits(0.4, letsam.LearnedRadius(0.05)).radii()[-1] > 0.6
