"""Every variant with weights sharded over two processes takes the steps of one process, in float64."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import warm
from letsam.variants import VARIANTS
from oracle.problems import flat, network, normalised_network, same_bits
from ranks.sharded_workers import MASKED, PLACEMENTS, RADII, RANKS, REFUSED, WHOLE_BATCH, made, main
from ranks.workers import train

LIMIT = 200.0  # seconds
CLOSE = {"rtol": 1e-9, "atol": 1e-9}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of both processes."""
    return warm.in_ranks(main, tmp_path_factory.mktemp("variants"), RANKS, LIMIT)


def assert_same(found: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    assert same_bits(found[1], found[0])
    for part in expected:
        torch.testing.assert_close(found[0][part], expected[part], **CLOSE)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("name", WHOLE_BATCH)
def test_fsdp2_is_one_process(name: str, radius: str, two: Any) -> None:
    model = normalised_network()
    expected = train(model, made(name, radius, model), None)
    assert_same([result[f"{name}-{radius}"] for result in two], expected)
    plain = normalised_network()
    sam = train(plain, made("sam", radius, plain), None)
    assert name in ("sam", "preconditionedsam") or not same_bits(expected["weights"], sam["weights"])


@pytest.mark.parametrize("kind", PLACEMENTS)
@pytest.mark.parametrize("name", MASKED)
def test_masks_are_whole_however_a_weight_is_split(name: str, kind: str, two: Any) -> None:
    model = network()
    assert_same([result[f"{name}-{kind}"] for result in two], train(model, made(name, "learned", model), None))


def test_m_sharpness_is_refused(two: Any) -> None:
    assert set(VARIANTS) - set(WHOLE_BATCH) == {"subbatchsam"}
    for result in two:
        assert result["m_sharpness"].startswith("ValueError: `m_sharpness` needs `model=` with a Distributed")


@pytest.mark.parametrize("kind", REFUSED)
def test_other_shards_are_refused(kind: str, two: Any) -> None:
    """Every process would climb along its own part of the gradient, with a radius of its own."""
    for result in two:
        error, unchanged = result["errors"][kind]
        if kind.startswith("norms"):
            assert error.startswith("ValueError: all processes must have the same gradients, averaged over them")
        else:
            library = "DeepSpeed ZeRO-3" if kind == "ZeRO-3" else r"FullyShardedDataParallel \(FSDP1\)"
            expected = rf"ValueError: `base_optimizer` must hold whole weights, or DTensors .* {library} has split"
            assert re.match(expected, error)
        assert unchanged


@pytest.mark.parametrize("orig", [True, False])
def test_fsdp1_that_splits_nothing_is_one_process(orig: bool, two: Any) -> None:
    model = network()
    expected = train(model, made("sam", "learned", model), None)
    for result in two:
        found = result["whole"][f"fsdp1-{orig}"]
        torch.testing.assert_close(found["flat"], flat(expected["weights"]), **CLOSE)
        torch.testing.assert_close(found["radii"], expected["radii"], **CLOSE)


def test_independent_runs_need_not_agree(two: Any) -> None:
    assert [result["apart"] for result in two] == ["nothing", "nothing"]
