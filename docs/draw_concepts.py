"""Draw the figures of docs/concepts with letsam itself: `python docs/draw_concepts.py`, half a minute.

- `sam-step.svg`: one step of `letsam.SAM` on a loss of two weights, and the paths of whole runs.
- `sam-loss.svg`: the loss of one weight, and the loss after an ascent of `letsam.SAM`.
- `rho.svg`: test accuracy over fixed radii, from the results of docs/evidence.
- `hypergradient.svg`: the validation loss after one step over the radius of that step, and letsam's slope of it.
- `learned-radius.svg`: learned radii over training, with and without the prior.

`tests/docs/test_concepts.py` draws the first two and compares them, and repeats a part of the others.
"""

from __future__ import annotations

import copy
import io
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Subset

import letsam
from letsam.results import write_atomically
from letsam.tasks import load_task, with_label_noise
from letsam.validation import split

DOCS = Path(__file__).parent
PICTURES = DOCS / "images" / "concepts"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "letsam",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
}
BLUE, ORANGE, GREEN, GREY, RED = "#1c63b0", "#e0600d", "#12a37a", "#808894", "#b3202a"
SHARP, FLAT = (-1.3, 0.0), (1.3, 0.0)

# --- SAM on one and two weights ---------------------------------------------------------------------------------------


def valleys(x: Tensor, y: Tensor | float = 0.0) -> Tensor:
    """A wide basin, with a narrow and deeper dent in its wall."""
    dent = torch.exp(-((x - SHARP[0]) ** 2 + y**2) / (2 * 0.3**2))
    return 0.075 * ((x - FLAT[0]) ** 2 + y**2) - 0.5 * dent + 0.3


def tilted(x: Tensor, y: Tensor) -> Tensor:
    """A valley that is steep across and gentle along, for the picture of one step."""
    return 0.5 * (0.3 * x**2 + 3.0 * y**2)


def sam_on(weights: Tensor, loss: Callable[..., Tensor], rho: float, lr: float, **options: float) -> tuple[Any, Any]:
    """A `letsam.SAM` of these weights, and its closure."""
    opt = letsam.SAM(torch.optim.SGD([weights], lr=lr, **options), rho=rho)

    def closure() -> Tensor:
        opt.zero_grad()
        value = loss(*weights)
        value.backward()
        return value

    return opt, closure


def one_step(start: tuple[float, float], rho: float, lr: float) -> dict[str, np.ndarray]:
    """Where a step by hand is: at theta, at the perturbed weights, and at the new weights."""
    weights = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    opt, closure = sam_on(weights, tilted, rho, lr)
    places = {"theta": weights.detach().numpy().copy()}
    closure()
    places["g_0"] = weights.grad.numpy().copy()
    opt.ascent_step()
    places["climbed"] = weights.detach().numpy().copy()
    closure()
    places["g_rho"] = weights.grad.numpy().copy()
    opt.descent_step()
    places["new"] = weights.detach().numpy().copy()
    return places


def path(start: tuple[float, float], rho: float, steps: int = 300) -> np.ndarray:
    """The weights of a run of SGD with momentum under SAM, shape (steps + 1, 2)."""
    weights = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    opt, closure = sam_on(weights, valleys, rho, lr=0.05, momentum=0.8)
    places = [weights.detach().clone()]
    for _ in range(steps):
        opt.step(closure)
        places.append(weights.detach().clone())
    return torch.stack(places).numpy()


def after_ascent(places: np.ndarray, rho: float) -> np.ndarray:
    """The loss at theta + rho eps_hat, for each theta of a loss of one weight."""
    values = []
    for place in places:
        weight = torch.nn.Parameter(torch.tensor([place], dtype=torch.float64))
        opt, closure = sam_on(weight, valleys, rho, lr=0.1)
        closure()
        opt.ascent_step()
        values.append(valleys(*weight).item())
    return np.array(values)


def contours(axes: Axes, loss: Callable[..., Tensor], x: tuple[float, float], y: tuple[float, float]) -> None:
    """Lines of equal loss."""
    grid = np.meshgrid(np.linspace(*x, 160), np.linspace(*y, 120))
    values = loss(*(torch.tensor(one) for one in grid)).numpy()
    axes.contour(*grid, values, levels=16, colors="#c9ced6", linewidths=0.7)
    axes.set(xlim=x, ylim=y, xticks=[], yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)


def arrow(axes: Axes, start: np.ndarray, end: np.ndarray, color: str, style: str = "-") -> None:
    """An arrow between two places."""
    options = {"arrowstyle": "-|>", "color": color, "lw": 1.8, "ls": style, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=tuple(end), xytext=tuple(start), arrowprops=options)


def sam_step() -> Figure:
    """One step, and whole runs."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    lr, rho = 0.3, 0.42
    places = one_step((1.6, 0.14), rho, lr)
    contours(left, tilted, (0.95, 2.5), (-0.42, 0.66))
    plain, away = places["theta"] - lr * places["g_0"], places["climbed"] - lr * places["g_rho"]
    arrow(left, places["theta"], places["climbed"], ORANGE)
    arrow(left, places["theta"], plain, GREY, "--")
    arrow(left, places["climbed"], away, BLUE, ":")
    arrow(left, places["theta"], places["new"], BLUE)
    for text, place, shift, color in (
        ("theta", places["theta"], (-28, 4), "#222222"),
        ("1. climb by rho", places["climbed"], (-20, 8), ORANGE),
        ("2. gradient there", away, (6, -4), BLUE),
        ("3. back, and down along it", places["new"], (8, -6), BLUE),
        ("plain step", plain, (-54, -4), GREY),
    ):
        left.plot(*place, "o", color=color, ms=4)
        left.annotate(text, tuple(place), xytext=shift, textcoords="offset points", color=color, fontsize=8.5)
    left.set_title("One step of SAM")
    contours(right, valleys, (-2.6, 2.4), (-1.3, 1.6))
    start = (-2.2, 0.95)
    for rho, color, name in ((0.0, GREY, "base optimizer"), (0.3, BLUE, "SAM, rho 0.3"), (0.6, ORANGE, "SAM, rho 0.6")):
        run = path(start, rho)
        right.plot(*run.T, color=color, lw=1.5, label=name)
        right.plot(*run[-1], "o", color=color, ms=5)
    right.plot(*start, "o", color="#222222", ms=5)
    right.annotate("sharp", SHARP, xytext=(-14, -38), textcoords="offset points", fontsize=8.5)
    right.annotate("flat", FLAT, xytext=(-6, -18), textcoords="offset points", fontsize=8.5)
    right.legend(loc="upper right", fontsize=8.5)
    right.set_title("Runs from the same weights")
    return figure


def sam_loss() -> Figure:
    """The loss, and the loss after an ascent."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    places = np.linspace(-2.6, 2.4, 400)
    axes.plot(places, valleys(torch.tensor(places)).numpy(), color=GREY, lw=2, label="loss")
    for rho, color in ((0.1, BLUE), (0.3, ORANGE)):
        axes.plot(places, after_ascent(places, rho), color=color, label=f"loss after an ascent of {rho}")
    axes.set(xlabel="the weight", ylabel="loss", xlim=(-2.6, 2.4))
    axes.legend(loc="upper center", ncols=3, fontsize=8.5)
    return figure


# --- what rho does ----------------------------------------------------------------------------------------------------

SETTINGS = {
    "digits-0.0": ("digits", GREY),
    "digits-0.4": ("digits, 40% wrong labels", ORANGE),
    "fashion-cnn-0.4": ("Fashion-MNIST, cnn, 40% wrong labels", BLUE),
    "fashion-vit-0.0": ("Fashion-MNIST, vit", GREEN),
    "snippets-small": ("movie snippets, transformer", RED),
}


def accuracies(setting: str) -> dict[float, float]:
    """Mean test accuracy in percent by fixed radius of SAM; 0 is the base optimizer."""
    runs = json.loads((DOCS / "evidence" / f"{setting}.json").read_text(encoding="utf-8"))["runs"]
    found: dict[float, list[float]] = {}
    for run in runs:
        kind, _, rho = run["method"].partition(":")
        if kind == "sgd" or (kind == "sam" and rho):
            found.setdefault(float(rho or 0), []).append(100 * run["accuracy"])
    return {rho: statistics.fmean(found[rho]) for rho in sorted(found)}


def rho() -> Figure:
    """Accuracy over the radius, for tasks whose best radii differ."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    for setting, (name, color) in SETTINGS.items():
        found = accuracies(setting)
        radii = [radius or 0.004 for radius in found]
        axes.plot(radii, list(found.values()), "-o", color=color, ms=3.5, label=name)
        best = max(found, key=lambda radius: found[radius])
        axes.plot(best or 0.004, found[best], "o", color=color, ms=9, mfc="none", mew=1.6)
    axes.set(xscale="log", xlabel="rho of SAM, the same in all steps (circles: best)", ylabel="test accuracy %")
    axes.set_xticks([0.004, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1], ["0", *map(str, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1))])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 104)
    axes.legend(fontsize=8.5, loc="lower left")
    return figure


# --- learning it ------------------------------------------------------------------------------------------------------


class Digits:
    """A run on digits with wrong labels.

    Args:
        noise: share of wrong labels.
        rho: initial radius or a `letsam.LearnedRadius`.
        dtype: of weights and inputs.
    """

    def __init__(self, noise: float, rho: Any, dtype: torch.dtype = torch.float32, epochs: int = 60) -> None:
        task = load_task("digits")
        data = with_label_noise(task.train, noise, generator=torch.Generator().manual_seed(0)) if noise else task.train
        kept, held_out = split(data, 0.1)
        torch.manual_seed(0)
        self.model = task.model().to(dtype)
        base = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        self.opt = letsam.SAM(base, rho=rho)
        self.train = DataLoader(Subset(data, kept.tolist()), batch_size=64, shuffle=True)
        self.validation = letsam.endless(DataLoader(Subset(data, held_out.tolist()), batch_size=64, shuffle=True))
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.opt, epochs * len(self.train))
        self.epochs, self.dtype = epochs, dtype

    def loss(self, batch: list[Tensor]) -> Tensor:
        """Cross entropy of a batch."""
        return cross_entropy(self.model(batch[0].to(self.dtype)), batch[1])

    def closure_on(self, batch: list[Tensor]) -> Callable[[], Tensor]:
        """The closure of a batch."""

        def closure() -> Tensor:
            self.opt.zero_grad()
            loss = self.loss(batch)
            loss.backward()
            return loss

        return closure

    def radii(self) -> list[float]:
        """Train; the radius after each step."""
        found: list[Tensor] = []
        for _ in range(self.epochs):
            for batch, held_out in zip(self.train, self.validation, strict=False):
                self.opt.step(self.closure_on(batch), self.closure_on(held_out))
                self.scheduler.step()
                found.append(self.opt.rho.clone())
        return torch.stack(found).tolist()


def one_step_objective(at: float = 0.3, warm_up: int = 150) -> dict[str, Any]:
    """The validation loss after a step over the radius of that step, and what letsam says about its slope.

    Returns:
        `radii` and `losses`: the curve. `rho`, `loss`, `slope`: a place on it and d loss / d rho by letsam there.
    """
    hypergradient = letsam.Secant(length_invariant=False)
    plain = letsam.ValidationLoss(matches_labels=False)
    learned = letsam.LearnedRadius(at, objective=plain, hypergradient=hypergradient, interval=1)
    run = Digits(0.4, learned, torch.float64)
    batches = [batch for _ in range(1 + warm_up // len(run.train)) for batch in run.train][: warm_up + 2]
    held_out = next(run.validation)
    for batch in batches[:warm_up]:
        run.opt.step(run.closure_on(batch), run.closure_on(held_out))
    model, state = copy.deepcopy(run.model.state_dict()), copy.deepcopy(run.opt.base_optimizer.state_dict())
    rho = run.opt.rho.item()
    radii, losses = [float(value) for value in np.geomspace(0.03, 1.6, 40)], []
    for radius in [*radii, None]:
        run.model.load_state_dict(model)
        run.opt.base_optimizer.load_state_dict(copy.deepcopy(state))
        if radius is None:
            break
        same = letsam.SAM(run.opt.base_optimizer, rho=radius)
        run.opt, own = same, run.opt
        same.step(run.closure_on(batches[warm_up]))
        losses.append(run.loss(held_out).item())
        run.opt = own
    run.opt.step(run.closure_on(batches[warm_up]), run.closure_on(held_out))
    used = run.opt.metrics["rho"].item()
    run.opt.step(run.closure_on(batches[warm_up + 1]), run.closure_on(held_out))
    metrics = run.opt.metrics
    return {
        "radii": radii,
        "losses": losses,
        "rho": used,
        "before": rho,
        "loss": metrics["validation_loss"].item(),
        "slope": metrics["hypergradient"].item(),
    }


def hypergradient() -> Figure:
    """The one-step objective and its slope."""
    found = one_step_objective()
    figure = Figure(figsize=(8, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(found["radii"], found["losses"], color=GREY, lw=2, label="validation loss after one step, measured")
    near = np.linspace(0.6, 1.5, 20) * found["rho"]
    line = found["loss"] + found["slope"] * (near - found["rho"])
    axes.plot(near, line, color=ORANGE, lw=2, label="slope by letsam, without a further pass")
    axes.plot(found["rho"], found["loss"], "o", color=ORANGE, ms=6)
    axes.set(xscale="log", xlabel="rho of this one step", ylabel="validation loss")
    axes.legend(fontsize=8.5)
    return figure


def learned_radius() -> Figure:
    """Learned radii from four starts, with and without the prior, without and with wrong labels."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, noise in zip(panels, (0.0, 0.4), strict=True):
        for start in (0.01, 0.05, 0.2, 1.0):
            for prior, color in ((None, GREY), (letsam.Prior(), BLUE)):
                rule = letsam.LogAdam(prior=prior)
                radii = Digits(noise, letsam.LearnedRadius(start, rule=rule)).radii()
                name = "the default" if prior else "without the prior"
                axes.plot(radii, color=color, lw=1.2, label=name if start == 0.01 else None)
        axes.axhline(0.2, color="#222222", lw=0.7, ls=":")
        axes.set(yscale="log", xlabel="step", title=f"digits, {noise:.0%} wrong labels")
    panels[0].set_ylabel("rho")
    panels[0].annotate("the prior", (0, 0.2), xytext=(2, 3), textcoords="offset points", fontsize=8.5)
    panels[1].legend(fontsize=8.5, loc="lower right")
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "sam-step": sam_step,
    "sam-loss": sam_loss,
    "rho": rho,
    "hypergradient": hypergradient,
    "learned-radius": learned_radius,
}


def svg(name: str) -> str:
    """A figure as SVG, the same each time."""
    stream = io.StringIO()
    with mpl.rc_context(STYLE):
        FIGURES[name]().savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


if __name__ == "__main__":
    torch.set_num_threads(1)
    PICTURES.mkdir(exist_ok=True)
    for name in FIGURES:
        write_atomically(PICTURES / f"{name}.svg", svg(name))
        print(PICTURES / f"{name}.svg", flush=True)
