"""Two processes against one: DDP, m-sharpness, FSDP2, tensor parallelism and distributed checkpoints, in float64."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

import letsam
import warm
from letsam import accumulated
from oracle import maths
from oracle.problems import batch, flat, loss_on, network, same_bits, weights_of
from ranks.workers import CASES, CHECKPOINTS, M_SHARPNESS, RANKS, SHARDED, STEPS, m_sharp, main, share, train

LIMIT = 420.0  # seconds
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def one(folder: Path) -> dict[str, dict[str, Any]]:
    """The runs of one process: all cases, and the checkpoints that two processes resume."""
    for name, (make, at) in CHECKPOINTS.items():
        model = network()
        opt = make(model.parameters())
        train(model, opt, None, 0, at)
        save(model, opt, folder / f"one-{name}")
    results = {}
    for name, make in CASES.items() | {(name, make) for name, (make, _) in CHECKPOINTS.items()}:
        model = network()
        results[name] = train(model, make(model.parameters()), None)
    return results


@pytest.fixture(scope="module")
def two(folder: Path, one: Any) -> list[dict[str, Any]]:
    """The results of both processes."""
    return warm.in_ranks(main, folder, RANKS, LIMIT)


pytestmark = pytest.mark.slow


def save(model: Any, opt: Any, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that there is one process
        dcp.save({"training": letsam.DistributedState(model, opt)}, checkpoint_id=folder)


def load(model: Any, opt: Any, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load({"training": letsam.DistributedState(model, opt)}, checkpoint_id=folder)


def tolerance(name: str) -> dict[str, float]:
    """Of a run that adds up in another order: a difference over a step of 1e-8 magnifies the rounding."""
    return {"rtol": 1e-7, "atol": 1e-7} if "finite_difference" in name else CLOSE


def assert_same_run(found: list[dict[str, Any]], expected: dict[str, Any], close: dict[str, float] = CLOSE) -> None:
    """Bit for bit the same in all processes, and close to the run of one process."""
    for result in found[1:]:
        assert same_bits(result, found[0])
    for part in expected:
        torch.testing.assert_close(found[0][part], expected[part], **close)


@pytest.mark.parametrize("name", CASES)
def test_ddp_is_one_process_on_the_joined_batch(name: str, one: Any, two: Any) -> None:
    assert_same_run([result["ddp"][name] for result in two], one[name], tolerance(name))
    if "fixed" not in name:
        assert len({tuple(rho.reshape(-1).tolist()) for rho in one[name]["radii"]}) >= 4


@pytest.mark.parametrize("name", SHARDED)
def test_fsdp2_is_one_process(name: str, one: Any, two: Any) -> None:
    assert_same_run([result["fsdp"][name] for result in two], one[name], tolerance(name))


@pytest.mark.parametrize("kind", ["hsdp", "tensor_parallel", "two_dimensional"])
@pytest.mark.parametrize("name", ["sam-squared_gap-next", "asam-validation_loss-next"])
def test_other_placements_are_one_process(kind: str, name: str, one: Any, two: Any) -> None:
    assert_same_run([result[kind][name] for result in two], one[name])


def test_split_norms_are_plain_numbers_and_one_message_each(two: Any) -> None:
    for result in two:
        torch.testing.assert_close(result["sums"]["found"], result["sums"]["expected"], rtol=1e-12, atol=0)
        assert result["sums"]["types"] == ["Tensor"] * 4
        assert result["sums"]["calls"] == [torch.Size([])] * 4


def test_terms_of_a_gradient_are_summed_first(two: Any) -> None:
    for result in two:
        torch.testing.assert_close(result["partial_gradient"], [torch.full((3,), 3.0), torch.tensor(27.0).sqrt()])


# --- m-sharpness --------------------------------------------------------------------------------------------------


def m_sharp_by_hand(name: str) -> tuple[Tensor, list[float]]:
    """One process, a loop over the shares: each has its own ascent; g_rho and the hypergradient are their means."""
    variant, estimator, objective, normalize = M_SHARPNESS[name]
    model, lr = network(), 0.1
    theta, change = flat(model.parameters()), None
    slopes: list[float] = []
    radii = [0.1]

    def mean_gradient(points: list[Tensor], data: Any) -> Tensor:
        gradients = [maths.gradient(model, point, share(data, k)) for k, point in enumerate(points)]
        return torch.stack(gradients).mean(0)

    def mean_loss(data: Any) -> Tensor:
        return torch.stack([maths.loss(model, theta, share(data, k)) for k in range(RANKS)]).mean()

    for t in range(STEPS):
        g0 = mean_gradient([theta] * RANKS, batch(t))
        if change is not None:
            held_out = mean_gradient([theta] * RANKS, batch(50 + t))
            lengths = (change.norm() * held_out.norm(), change.norm() * g0.norm())
            scales = lengths if normalize else (1 / radii[-1],) * 2
            slope = held_out @ change / scales[0]
            if objective == "squared_gap":
                slope = (mean_loss(batch(50 + t)) - mean_loss(batch(t))) * (slope - g0 @ change / scales[1])
            slopes.append(slope.item() / radii[-1])  # the reference multiplies by rho
            radii.append(maths.adam_on_log_radius(0.1, slopes, [0.05] * len(slopes), (1e-4, 10.0))[-1])
        rho = radii[-1]
        directions = [
            maths.DIRECTIONS[variant](theta, maths.gradient(model, theta, share(batch(t), k))) for k in range(RANKS)
        ]
        g = mean_gradient([theta + rho * e for e in directions], batch(t))
        h = torch.stack([torch.finfo(theta.dtype).eps ** 0.5 * theta.norm() / e.norm() for e in directions]).mean()
        curvature = {
            "secant": lambda g=g, g0=g0, rho=rho: (g - g0) / rho,
            "diagonal": lambda g=g, e=directions: g * g * torch.stack(e).mean(0),
            "finite_difference": lambda g=g, h=h, points=[theta + (rho + h) * e for e in directions], t=t: (
                (mean_gradient(points, batch(t)) - g) / h
            ),
        }[estimator]()
        change = -lr * (curvature - g * (g @ curvature) / (g @ g))
        theta = theta - lr * g
    return theta, radii


@pytest.mark.parametrize("name", M_SHARPNESS)
def test_m_sharpness_is_an_ascent_for_each_share(name: str, two: Any) -> None:
    theta, radii = m_sharp_by_hand(name)
    found = [result["m_sharpness"][name] for result in two]
    assert same_bits(found[1], found[0])
    rounding = 1e-6 if "finite_difference" in name else 1e-10  # of a difference over 1e-8
    torch.testing.assert_close([float(r) for r in found[0]["radii"]], radii, rtol=rounding, atol=0)
    torch.testing.assert_close(flat(found[0]["weights"]), theta, rtol=rounding, atol=rounding)
    assert len(set(radii)) == STEPS
    model = network()
    shared_ascent = train(model, m_sharp(name, model.parameters()), None)
    assert (flat(shared_ascent["weights"]) - theta).norm() > 1e-4


@pytest.mark.parametrize("name", M_SHARPNESS)
def test_micro_batches_in_one_process_are_as_shares_of_many(name: str) -> None:
    """The same mathematics without processes: a closure in parts, whose losses are half of those of the shares."""
    model = network()
    opt = m_sharp(name, model.parameters(), m_sharpness=True)

    def in_parts(step: int, closure: Any) -> Any:
        return accumulated(lambda data: loss_on(model, data), [share(batch(step), k) for k in range(RANKS)], opt)

    found = train(model, opt, None, change=in_parts)
    theta, radii = m_sharp_by_hand(name)
    rounding = 1e-6 if "finite_difference" in name else 1e-10
    torch.testing.assert_close([float(r) for r in found["radii"]], radii, rtol=rounding, atol=0)
    torch.testing.assert_close(flat(found["weights"]), theta, rtol=rounding, atol=rounding)


def test_the_radius_sees_means_over_the_shares(two: Any) -> None:
    """The reach of the perturbation, by which the prior goes, and the norm of the gradient."""
    theta = flat(network().parameters())
    gradients = [maths.gradient(network(), theta, share(batch(0), k)) for k in range(RANKS)]
    reach = torch.stack([maths.asam_direction(theta, g) @ g / g.norm() for g in gradients]).mean()
    found = [result["m_sharpness_prior"] for result in two]
    assert same_bits(found[1], found[0])
    torch.testing.assert_close(found[0]["reach"], reach, **CLOSE)
    gradient_norm = torch.stack([g.norm() for g in gradients]).mean()
    torch.testing.assert_close(found[0]["metrics"]["gradient_norm"], gradient_norm, **CLOSE)


def descend_by_hand(step: int, theta: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of g_rho over the shares, at rho = 0.1, and their g_0."""
    gradients = [maths.gradient(network(), theta, share(batch(step), k)) for k in range(RANKS)]
    points = [theta + 0.1 * g / g.norm() for g in gradients]
    descent = [maths.gradient(network(), point, share(batch(step), k)) for k, point in enumerate(points)]
    return torch.stack(descent).mean(0), torch.stack(gradients)


def test_m_sharpness_with_other_descents(two: Any) -> None:
    """A descent that mixes in g_0 gets the mean; a step that does not climb descends with the mean of the gradients."""
    theta = flat(network().parameters())
    for t in range(STEPS):
        g, g0 = descend_by_hand(t, theta)
        theta = theta - 0.1 * (g - 0.3 * g0.mean(0) if t % 2 == 0 else g0.mean(0))
    for result in two:
        torch.testing.assert_close(flat(result["m_sharpness_mixed"]["weights"]), theta, **CLOSE)


def test_m_sharpness_in_a_loop_by_hand(two: Any) -> None:
    theta = flat(network().parameters())
    for t in range(STEPS):
        g, g0 = descend_by_hand(t, theta)
        theta = theta - 0.1 * g
    for result in two:
        by_hand = result["m_sharpness_by_hand"]
        torch.testing.assert_close(flat(by_hand["weights"]), theta, **CLOSE)
        torch.testing.assert_close(by_hand["gradient_norm"], g0.norm(dim=1).mean(), **CLOSE)


def test_m_sharpness_needs_a_model_that_can(two: Any) -> None:
    for result in two:
        for case, got in (("no model", "None"), ("plain", "Sequential"), ("fsdp", "FSDPSequential")):
            assert result["errors"][case].startswith("ValueError: `m_sharpness` needs `model=` with a Distributed")
            assert result["errors"][case].endswith(f"got {got}")


# --- agreement ----------------------------------------------------------------------------------------------------


def test_a_nan_in_one_process_skips_the_step_in_all(two: Any) -> None:
    for run, case, at in (("nan", "sam-squared_gap-next", 2), ("nan_fsdp", "asam-validation_loss-next", 0)):
        first, second = (result[run] for result in two)
        assert first["losses"][at].isnan()
        assert first["metrics"]["skipped_steps"] == 1
        assert same_bits(first, second)

        def change(step: int, closure: Any, at: int = at) -> Any:
            return (lambda: closure() * torch.nan) if step == at else closure

        model = network()
        expected = train(model, CASES[case](model.parameters()), None, change=change)
        torch.testing.assert_close(first["weights"], expected["weights"], **CLOSE)
        torch.testing.assert_close(first["rho"], expected["rho"], **CLOSE)


def test_the_process_group(one: Any, two: Any) -> None:
    name = "sam-squared_gap-next"
    assert_same_run([result["own_group"] for result in two], one[name])
    for rank, result in enumerate(two):
        model = network()
        assert same_bits(result["alone"], train(model, CASES[name](model.parameters()), rank))


def test_a_step_inside_join_changes_nothing(two: Any) -> None:
    for result in two:
        assert result["joined"]["error"].startswith("RuntimeError: a sharpness-aware step cannot run with")
        assert "drop_last=True" in result["joined"]["error"]
        assert same_bits(result["joined"]["weights"], weights_of(network()))


# --- distributed checkpoints --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_resumes_on_as_many_processes_bit_for_bit(name: str, one: Any, two: Any) -> None:
    for result in two:
        found = result["checkpoints"][name]
        assert same_bits(found["two"], found["uninterrupted"])
    torch.testing.assert_close(two[0]["checkpoints"][name]["two"]["weights"], one[name]["weights"], **CLOSE)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_of_one_process_resumes_on_two(name: str, one: Any, two: Any) -> None:
    found = [result["checkpoints"][name]["one"] for result in two]
    assert same_bits(*found)
    torch.testing.assert_close(found[0]["weights"], one[name]["weights"], **CLOSE)
    torch.testing.assert_close(found[0]["rho"], one[name]["rho"], **CLOSE)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_of_two_processes_resumes_in_one(name: str, one: Any, two: Any, folder: Path) -> None:
    make, at = CHECKPOINTS[name]
    model = network(seed=5)
    opt = make(model.parameters())
    load(model, opt, folder / f"two-{name}")
    found = train(model, opt, None, at, STEPS)
    torch.testing.assert_close(found["weights"], one[name]["weights"], **CLOSE)
    torch.testing.assert_close(found["rho"], one[name]["rho"], **CLOSE)


def test_the_page_runs_and_its_radii_move_together(two: Any) -> None:
    """DDP, m-SAM, FSDP2, and a checkpoint that takes back the epoch after it."""
    first, second = (result["page"] for result in two)
    assert same_bits(first, second)
    ddp, m_sam, fsdp, resumed = first["radii"]
    assert len({float(rho) for rho in (ddp, m_sam)} - {0.05}) == 2
    assert fsdp != 0.5
    assert same_bits(resumed, fsdp)
