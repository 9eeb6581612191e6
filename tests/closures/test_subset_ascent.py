"""An ascent along the gradient of a part of the batch."""

from __future__ import annotations

from collections import UserDict, defaultdict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from letsam import (
    ASAM,
    GSAM,
    SAM,
    FixedRadius,
    FunctionalSAM,
    LearnedRadius,
    OneSidedGap,
    SubBatchSAM,
    accumulated,
    subset_ascent,
)
from letsam.closures import ascent_of
from letsam.closures.subset_ascent import first_samples, samples_in
from letsam.tasks import load_task
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import Method
from oracle import maths
from oracle.problems import batch, closure_on, flat, network

Pair = namedtuple("Pair", ["x", "y"])


def loss_of(model: nn.Module, sizes: list[int]) -> Any:
    def loss_on(pair: tuple[Tensor, Tensor]) -> Tensor:
        sizes.append(len(pair[0]))
        return nn.functional.cross_entropy(model(pair[0]), pair[1])

    return loss_on


def test_the_step_of_sam_with_the_ascent_of_the_first_samples() -> None:
    """The oracle: theta - lr grad L(theta + rho g / ||g||), g of the first quarter, L of all samples."""
    model, sizes = network(), list[int]()
    theta = flat(model.parameters())
    x, y = batch(3)
    quarter = (x[: len(x) // 4], y[: len(x) // 4])
    start = maths.State(model, torch.optim.SGD(model.parameters(), lr=0.1))
    direction = maths.sam_direction(theta, maths.gradient(model, theta, quarter))
    expected = maths.base_step(start, maths.gradient(model, theta + 0.3 * direction, (x, y)))
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.3)
    loss = opt.step(subset_ascent(loss_of(model, sizes), (x, y), opt, 0.25))
    torch.testing.assert_close(flat(model.parameters()), expected, rtol=1e-10, atol=1e-12)
    assert sizes == [len(x) // 4, len(x)]
    torch.testing.assert_close(loss, maths.loss(model, theta, quarter))


def test_steps_that_compare_both_gradients_use_the_whole_batch() -> None:
    """Those that measure the curvature for the prior (1 to 24) and those that build Z; other steps, a part."""
    model = network()
    x, y = batch(3)
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.01), rho=LearnedRadius(0.05, interval=10))
    whole = list[bool]()
    for _ in range(60):
        sizes = list[int]()
        opt.step(subset_ascent(loss_of(model, sizes), (x, y), opt, 0.25), closure_on(model, batch(9)))
        assert sizes[-1] == len(x)
        whole.append(sizes[0] == len(x))
    assert [step for step, one in enumerate(whole) if one] == [*range(1, 25), 28, 38, 48, 58]


def test_the_gap_needs_the_training_slope_of_the_whole_batch() -> None:
    model = network()
    pair = batch(3)
    radius = LearnedRadius(0.05, interval=10, objective=OneSidedGap())
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.01), rho=radius)
    whole = list[int]()
    for step in range(50):
        sizes = list[int]()
        opt.step(subset_ascent(loss_of(model, sizes), pair, opt, 0.25), closure_on(model, batch(9)))
        if sizes[0] == len(pair[0]):
            whole.append(step)
    assert [step for step in whole if step > 24] == [28, 29, 38, 39, 48, 49]


def test_the_whole_batch_is_the_same_as_without_it() -> None:
    models = [network(), network()]
    for model, share in zip(models, (1.0, None), strict=True):
        opt = ASAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.5)
        for i in range(3):
            closure = closure_on(model, batch(i))
            opt.step(closure if share is None else subset_ascent(loss_of(model, []), batch(i), opt, share))
    assert torch.equal(flat(models[0].parameters()), flat(models[1].parameters()))


def test_micro_batches() -> None:
    model, sizes = network(), list[int]()
    x, y = batch(3)
    pairs = list(zip(x.chunk(4), y.chunk(4), strict=True))
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.3)
    closure = accumulated(loss_of(model, sizes), pairs, opt, ascent_share=0.5)
    half = ascent_of(closure)
    assert half is not None
    torch.testing.assert_close(half(), nn.functional.cross_entropy(model(x[: len(x) // 2]), y[: len(x) // 2]).detach())
    sizes.clear()
    opt.zero_grad()
    opt.step(closure)
    assert sizes == [len(part) for part, _ in [*pairs[:2], *pairs]]
    assert ascent_of(accumulated(loss_of(model, []), pairs, opt)) is None
    with pytest.raises(ValueError, match=r"`ascent_share` must be > 0 and <= 1, got 1\.5"):
        accumulated(loss_of(model, []), pairs, opt, ascent_share=1.5)


@pytest.mark.parametrize("kind", [GSAM, FunctionalSAM])
def test_who_descends_with_the_first_gradient_refuses_it(kind: Any) -> None:
    model = network()
    before = flat(model.parameters()).clone()
    opt = kind(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.3)
    with pytest.raises(ValueError, match=rf"must not climb with a part of the batch.* for a {kind.__name__}Perturb"):
        opt.step(subset_ascent(loss_of(model, []), batch(3), opt))
    assert torch.equal(flat(model.parameters()), before)
    apart = SubBatchSAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.3)
    with pytest.raises(ValueError, match="must not climb with a part of the batch for `m_sharpness`"):
        apart.step(subset_ascent(loss_of(model, []), batch(3), apart))
    assert torch.equal(flat(model.parameters()), before)


def test_steps_that_do_not_climb_use_the_whole_batch() -> None:
    model, sizes = network(), list[int]()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=FixedRadius(0.1), active=range(1))
    for _ in range(2):
        opt.step(subset_ascent(loss_of(model, sizes), batch(3), opt))
    size = len(batch(3)[0])
    assert sizes == [size // 4, size, size]


def test_nests_of_tensors() -> None:
    nest = {"x": [torch.zeros(8, 2), Pair(torch.zeros(8), "kept")], "scalar": torch.tensor(1.0), "n": 3}
    assert samples_in(nest) == 8
    cut = first_samples(nest, 8, 2)
    assert cut["x"][0].shape == (2, 2)
    assert cut["x"][1] == Pair(cut["x"][1].x, "kept")
    assert (len(cut["x"][1].x), cut["scalar"], cut["n"]) == (2, 1.0, 3)
    assert type(first_samples(UserDict(a=torch.zeros(4)), 4, 1)) is UserDict
    for wrong, found in (({"a": torch.zeros(3), "b": torch.zeros(4)}, "tensors of 3 and 4 samples"), ([], "no tensor")):
        with pytest.raises(ValueError, match=f"must have tensors with one number of samples, got {found}"):
            samples_in(wrong)


def test_arrays_and_mappings_with_defaults() -> None:
    made = defaultdict(list, x=torch.arange(8), y=np.arange(8), few=np.arange(3), note="all")
    part = first_samples(made, 8, 2)
    assert type(part) is defaultdict
    assert (part["x"].tolist(), part["y"].tolist(), part["few"].tolist(), part["note"]) == (
        [0, 1],
        [0, 1],
        [0, 1, 2],
        "all",
    )
    assert len(made["y"]) == 8


def test_the_whole_batch_is_no_part() -> None:
    """So perturbations that need the gradient of all samples take it."""
    model, sizes = network(), list[int]()
    opt = GSAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)
    opt.step(subset_ascent(loss_of(model, sizes), batch(0), opt, 1.0))
    assert len(set(sizes)) == 1


def test_arguments() -> None:
    model = network()
    opt = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    for share in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="`share` must be"):
            subset_ascent(loss_of(model, []), batch(0), opt, share)
    with pytest.raises(TypeError, match=r"`optimizer` must be a torch\.optim\.Optimizer"):
        subset_ascent(loss_of(model, []), batch(0), None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`loss_on` must return the loss as a tensor"):
        subset_ascent(lambda pair: 1.0, batch(0), opt)()

    def closure() -> Tensor:
        return torch.tensor(0.0)

    closure.ascent = 3  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="`ascent` of `closure` must be a function, got 3"):
        opt.step(closure)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_in_a_trial(accumulate: int) -> None:
    """A step of the quick method costs a fifth of a pass for its ascent; with few micro-batches, one of these."""
    task = load_task("digits")
    for name, passes in (("sam-quick", 1.25 if accumulate == 4 else 1 + 13 / 64), ("sam", 2.0)):
        config = TrialConfig(task="digits", epochs=1, accumulate=accumulate)
        run = Training(task, Method.parse(name), 0, config, make_fabric("cpu"))
        while not run.finished:
            run.advance()
        assert run.result().gradient_passes == round(passes * run.step)
