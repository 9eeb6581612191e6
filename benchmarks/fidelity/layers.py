"""The accuracy of the hypergradients of many radii: `LearnedRadius(per="layer")` against central differences.

    python -m benchmarks.fidelity.layers

A network with two hidden layers on 600 digits with 40% wrong labels, in float64; at every tenth of 300 SGD steps the
radius of each weight tensor is moved by itself, and the loss on 100 held-out digits after the step measured. Prints a
line for each radius and estimator: the share of equal signs and the median ratio of each weight tensor.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.fidelity.estimates import Variant, estimates
from benchmarks.fidelity.exact import Batch, Moment, upper

STEPS, EVERY, BATCH, TRAIN, HELD_OUT = 300, 10, 100, 600, 100
WIDTH = 1e-4


def data() -> Batch:
    """Images and labels, shuffled; two of five labels are drawn anew."""
    inputs, targets = load_digits(return_X_y=True)
    g = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(targets), generator=g)[: TRAIN + HELD_OUT]
    x, y = torch.tensor(inputs / 16.0)[chosen], torch.tensor(targets)[chosen]
    wrong = torch.rand(len(y), generator=g) < 0.4
    return x, torch.where(wrong, torch.randint(10, y.shape, generator=g), y)


def network() -> nn.Sequential:
    """64 -> 128 -> 64 -> 10, in float64."""
    torch.manual_seed(1)
    layers = [nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(*layers).double()


def differences(moment: Moment, rho: float) -> Tensor:
    """Central differences, one radius after the other."""
    moves = WIDTH * torch.eye(len(list(moment.model.parameters())), dtype=torch.float64)

    def loss(radii: Tensor) -> Tensor:
        return upper(moment, radii, "validation_loss", "next", keeps_length=False).detach()

    return torch.stack([(loss(rho + move) - loss(rho - move)) / (2 * WIDTH) for move in moves])


def compared(rho: float, kind: str) -> tuple[Tensor, Tensor]:
    """True and estimated hypergradients, one row for each compared step, one column for each weight tensor."""
    (x, y), model, loss = data(), network(), nn.functional.cross_entropy
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    g = torch.Generator().manual_seed(0)
    pairs: list[tuple[Tensor, Tensor]] = []
    for step in range(STEPS):
        batch, following = ((x[rows], y[rows]) for rows in torch.randint(TRAIN, (2, BATCH), generator=g))
        if step % EVERY == EVERY // 2:
            moment = Moment(model, base, loss, batch, following, (x[TRAIN:], y[TRAIN:]))
            variant = Variant("validation_loss", "next", False, kind)
            pairs.append((differences(moment, rho), estimates(moment, rho, variant, per="layer")))
        model.zero_grad()
        loss(model(batch[0]), batch[1]).backward()
        base.step()
    return torch.stack([true for true, _ in pairs]), torch.stack([found for _, found in pairs])


if __name__ == "__main__":
    for rho in (0.05, 0.2):
        for kind in ("secant", "finite_difference"):
            true, found = compared(rho, kind)
            signs = (true.sign() == found.sign()).double().mean(0)
            ratios = (found / true).median(0).values
            columns = (" ".join(f"{value:.2f}" for value in row.tolist()) for row in (signs, ratios))
            print(f"| {rho} | {kind} | {' | '.join(columns)} |")
