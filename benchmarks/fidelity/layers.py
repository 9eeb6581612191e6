"""How true the hypergradients of many radii are: `LearnedRadius(per="layer")` against central differences, by tensor.

    python -m benchmarks.fidelity.layers

A network with two hidden layers on 600 digits with 40% wrong labels, in float64; every tenth of 300 SGD steps the
radius of each weight tensor is moved by itself, the step taken, and the loss on 100 held-out digits measured.
"""

from __future__ import annotations

import argparse
import copy
import itertools
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import letsam

STEPS, EVERY, BATCH, TRAIN, HELD_OUT = 300, 10, 100, 600, 100
WIDTH = 1e-4
Closure = Callable[[], Tensor]


def data() -> tuple[Tensor, Tensor]:
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
    sizes = (64, 128, 64)
    hidden = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], 10)).double()


class Bench:
    """The problem, and a closure for any copy of the network."""

    def __init__(self) -> None:
        self.x, self.y = data()
        self.held_out = torch.arange(TRAIN, TRAIN + HELD_OUT)

    def loss(self, model: nn.Module, rows: Tensor) -> Tensor:
        """On these rows of the data."""
        return nn.functional.cross_entropy(model(self.x[rows]), self.y[rows])

    def closure(self, model: nn.Module, rows: Tensor) -> Closure:
        """The same as `step` wants it."""

        def closure() -> Tensor:
            model.zero_grad()
            loss = self.loss(model, rows)
            loss.backward()
            return loss

        return closure

    def estimated(
        self, model: nn.Module, base: torch.optim.Optimizer, rho: float, kind: str, rows: list[Tensor]
    ) -> Tensor:
        """What the library says of a step on the first rows, seen from a step on the second."""
        model, base = copy.deepcopy((model, base))
        radius = letsam.LearnedRadius(rho, per="layer", hypergradient=kind, length_invariant=False, interval=1)
        opt = letsam.SAM(base, rho=radius)
        for batch in rows:
            opt.step(self.closure(model, batch), self.closure(model, self.held_out))
        return opt.metrics["hypergradient"]

    def true(self, model: nn.Module, base: torch.optim.Optimizer, rho: float, rows: Tensor) -> Tensor:
        """Central differences, one radius after the other."""
        self.closure(model, rows)()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        length = torch.cat([g.flatten() for g in gradients]).norm()

        def upper(place: int, by: float) -> Tensor:
            twin, twin_base = copy.deepcopy((model, base))
            with torch.no_grad():
                for i, (p, g) in enumerate(zip(twin.parameters(), gradients, strict=True)):
                    p.add_(g, alpha=(rho + by * (i == place)) / length.item())
            self.closure(twin, rows)()
            with torch.no_grad():
                for p, q in zip(twin.parameters(), model.parameters(), strict=True):
                    p.copy_(q)
                twin_base.step()
                return self.loss(twin, self.held_out)

        places = range(len(gradients))
        return torch.stack([(upper(i, WIDTH) - upper(i, -WIDTH)) / (2 * WIDTH) for i in places])


def compared(rho: float, kind: str) -> tuple[Tensor, Tensor]:
    """True and estimated hypergradients, one row for each step looked at, one column for each weight tensor."""
    bench, model = Bench(), network()
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    g = torch.Generator().manual_seed(0)
    pairs = []
    for step in range(STEPS):
        rows = torch.randint(TRAIN, (2, BATCH), generator=g).unbind()
        if step % EVERY == EVERY // 2:
            pairs.append((bench.true(model, base, rho, rows[0]), bench.estimated(model, base, rho, kind, list(rows))))
        bench.closure(model, rows[0])()
        base.step()
    return torch.stack([true for true, _ in pairs]), torch.stack([found for _, found in pairs])


def main() -> None:
    """Print a line for each radius and estimator: the sign agreement and the median ratio of each weight tensor."""
    argparse.ArgumentParser(prog="python -m benchmarks.fidelity.layers", description=main.__doc__).parse_args()
    for rho in (0.05, 0.2):
        for kind in ("secant", "finite_difference"):
            true, found = compared(rho, kind)
            signs = (true.sign() == found.sign()).double().mean(0)
            ratios = (found / true).median(0).values
            columns = (" ".join(f"{value:.2f}" for value in row.tolist()) for row in (signs, ratios))
            print(f"| {rho} | {kind} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
