"""Run every base optimizer of torch, pytorch_optimizer, torchao and schedulefree, and write docs/base-optimizers.md.

    python tools/base_optimizers.py            # write the page
    python tools/base_optimizers.py --check    # compare it with what the code does

Each optimizer trains a small network under SAM with a fixed and with a learned radius, resumes from a file, and meets
steps that are not finite. The page says what is exact, what is approximate and what is refused. The tests run the same
functions.
"""

from __future__ import annotations

import argparse
import importlib
import io
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import letsam
from letsam.tangent.registered_rules import is_differentiated

PAGE = Path(__file__).parents[1] / "docs" / "base-optimizers.md"
LIBRARIES = {
    "torch": "torch.optim",
    "pytorch_optimizer": "pytorch_optimizer",
    "torchao": "torchao.optim",
    "schedulefree": "schedulefree",
}
OWN_PASSES = ("SAM", "GSAM", "WSAM", "BSAM", "LookSAM", "FriendlySAM")  # sharpness-aware optimizers themselves
WRAPPERS = (
    *("Lookahead", "OrthoGrad", "TRAC", "PCGrad", "SafeFP16Optimizer"),
    *("ScheduleFreeWrapper", "ScheduleFreeWrapperReference"),
)
OF_THE_WAY = re.compile(
    r"unexpected keyword|not iterable|__contains__|'generator' object|object has no attribute|missing \d"
)
LIMIT = 160  # characters of a message
RHO = 0.05


@dataclass(frozen=True)
class Row:
    """What an optimizer does as a base optimizer.

    Attributes:
        name: of the class.
        fixed: "exact" if steps with a fixed radius are those written by hand, else what differs.
        derivative: "exact" or "approximate" in the hypergradient of a learned radius.
        checkpoint: "exact" if a run resumes bit for bit.
        undone: "exact" if steps that are not finite leave no trace, also the first of all.
        refused: the message, if it cannot be used at all.
    """

    name: str
    fixed: str = ""
    derivative: str = ""
    checkpoint: str = ""
    undone: str = ""
    refused: str = ""


class Net(nn.Module):
    """8 -> 8 -> 3 with a tanh; without biases for optimizers that take matrices alone."""

    def __init__(self, bias: bool, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(width, width, bias=bias), nn.Linear(width, 3, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of three classes."""
        return self.last(torch.tanh(self.first(x)))


Make = Callable[[nn.Module], Optimizer]


@dataclass(frozen=True)
class Setting:
    """How an optimizer is made, and the network that it takes."""

    make: Make
    bias: bool
    width: int

    def net(self) -> Net:
        """A new network, always with the same weights."""
        return Net(self.bias, self.width)


def closure_on(model: Net, seed: int, factor: float = 1.0) -> Callable[[], Tensor]:
    """A closure on a batch of random data; its loss is multiplied by `factor`."""
    g = torch.Generator().manual_seed(100 + seed)
    x = torch.randn(16, model.first.in_features, generator=g)
    y = torch.randint(3, (16,), generator=g)

    def closure() -> Tensor:
        model.zero_grad()
        loss = factor * nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return closure


def seed_all(seed: int) -> None:
    """Seed all generators: some optimizers draw random numbers, Kron from NumPy's."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002


def train(model: Net, opt: Any, seeds: list[int | None]) -> None:
    """A step for each seed; None: one that is not finite."""
    if hasattr(opt, "train"):
        opt.train()  # schedule-free optimizers
    for position, seed in enumerate(seeds):
        closure = closure_on(model, position if seed is None else seed, torch.nan if seed is None else 1.0)
        held_out = closure_on(model, 50 + position)
        seed_all(1000 + (0 if seed is None else seed))
        opt.step(closure, held_out)


def by_hand(model: Net, base: Any, seeds: list[int]) -> None:
    """Climb by rho g / ||g||, take the gradient there, go back and let the base optimizer step.

    With the roundings of letsam, since some optimizers factorize matrices, which makes small differences large.
    """
    if hasattr(base, "train"):
        base.train()
    params = list(model.parameters())
    for seed in seeds:
        closure = closure_on(model, seed)
        weights = [p.detach().clone() for p in params]
        closure()
        gradients = [p.grad for p in params if p.grad is not None]
        length = torch.stack([torch.linalg.vector_norm(g) for g in gradients]).norm()
        with torch.no_grad():
            for p, g in zip(params, gradients, strict=True):
                p += (RHO * length.reciprocal()) * g
        closure()
        with torch.no_grad():
            for p, weight in zip(params, weights, strict=True):
                p.copy_(weight)
        seed_all(1000 + seed)
        base.step()


def same(left: Net, right: Net, tolerance: float = 0.0) -> bool:
    """Whether two networks have the same weights, all of them finite."""
    pairs = zip(left.parameters(), right.parameters(), strict=True)
    return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) and bool(a.isfinite().all()) for a, b in pairs)


def fixed(setting: Setting) -> str:
    """Whether steps with a fixed radius are those written by hand."""
    model, reference = setting.net(), setting.net()
    opt = letsam.SAM(setting.make(model), rho=RHO)
    train(model, opt, [0, 1, 2, 3])
    by_hand(reference, setting.make(reference), [0, 1, 2, 3])
    return "exact" if same(model, reference, 1e-4) else "differs"


def derivative(setting: Setting) -> str:
    """Which derivative Z has; and that the radius learns with it."""
    model = setting.net()
    opt = letsam.SAM(setting.make(model), rho=letsam.LearnedRadius(RHO, interval=1))
    train(model, opt, [0, 1, 2, 3])
    if not (bool(opt.rho.isfinite()) and bool(opt.rho != RHO)):
        return "does not learn"
    return "exact" if is_differentiated(opt.base_optimizer) else "approximate"


def checkpoint(setting: Setting) -> str:
    """Whether a run that is saved and loaded into new objects continues bit for bit."""
    model, fresh = setting.net(), setting.net()
    opt, again = (letsam.SAM(setting.make(m), rho=letsam.LearnedRadius(RHO, interval=1)) for m in (model, fresh))
    train(model, opt, [0, 1, 2])
    file = io.BytesIO()
    torch.save((model.state_dict(), opt.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=False)
    fresh.load_state_dict(weights)
    again.load_state_dict(state)
    for m, o in ((model, opt), (fresh, again)):
        train(m, o, [3, 4, 5])
    return "exact" if same(model, fresh) else "differs"


def undone(setting: Setting) -> str:
    """Whether steps that are not finite leave no trace."""
    ends: dict[str, Net] = {}
    sequences = {"plain": [0, 1, 2, 3], "later": [0, 1, None, 2, None, 3], "first": [None, 0, 1, 2, 3]}
    for name, seeds in sequences.items():
        model = ends[name] = setting.net()
        train(model, letsam.SAM(setting.make(model), rho=RHO), seeds)
    later, first = (same(ends["plain"], ends[name]) for name in ("later", "first"))
    return "exact" if later and first else "not the first step" if later else "not exact"


def settings(library: str, kind: type) -> Iterator[Setting]:
    """Ways to make an optimizer, the most usual one first."""
    name = kind.__name__
    wraps = name in WRAPPERS
    width = 64 if library == "torchao" else 8  # torchao quantizes weights of 4096 entries
    for bias in (True, False):
        if wraps:
            yield Setting(lambda m: kind(torch.optim.AdamW(m.parameters(), lr=0.01)), bias, width)
        elif name == "CPUOffloadOptimizer":
            yield Setting(lambda m: kind(m.parameters(), torch.optim.AdamW), bias, width)
        else:
            for given in ({"lr": 0.01}, {"lr": 0.01, "num_iterations": 100}, {"num_iterations": 100}):
                yield Setting(lambda m, given=given: kind(m.parameters(), **given), bias, width)
                yield Setting(lambda m, given=given: kind([_muon_group(m)], **given), bias, width)
                yield Setting(lambda m, given=given: kind(m, **given), bias, width)


def _muon_group(model: nn.Module) -> dict[str, Any]:
    return {"params": list(model.parameters()), "use_muon": True}


def outcome(run: Callable[[Setting], str], setting: Setting) -> str:
    """What a measure says, or the message of its error."""
    try:
        return run(setting)
    except Exception as error:
        return message(error)


def message(error: Exception) -> str:
    """The error in one line of limited length, without addresses."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    text = re.sub(r"0x[0-9a-f]+", "0x...", text).replace("|", "/")
    return text if len(text) <= LIMIT else text[: LIMIT - 3] + "..."


def row_of(library: str, kind: type) -> Row:
    """Run an optimizer; the first way to make it that takes steps counts."""
    name, failure = kind.__name__, ""
    for setting in settings(library, kind):
        found = outcome(fixed, setting)
        if found not in ("exact", "differs"):
            if not found.startswith("TypeError: `base_optimizer`") and OF_THE_WAY.search(found):
                found = failure or found  # of a way to make it that is not this optimizer's
            failure = found
            if found.startswith("TypeError: `base_optimizer`"):
                break
            continue
        cells = [outcome(run, setting) for run in (derivative, checkpoint, undone)]
        return Row(name if setting.bias else f"{name} (matrices)", found, *cells)
    return Row(name, refused=failure)


def kinds_of(library: str) -> list[type]:
    """The optimizer classes of a library, by name."""
    module = importlib.import_module(LIBRARIES[library])
    found = [value for name, value in vars(module).items() if isinstance(value, type) and not name.startswith("__")]
    optimizers = [kind for kind in found if issubclass(kind, Optimizer) or kind.__name__ in WRAPPERS]
    own = [kind for kind in optimizers if kind.__module__.split(".")[0] == library]
    chosen = [kind for kind in own if kind is not Optimizer and kind.__name__ not in OWN_PASSES]
    return sorted(set(chosen), key=lambda kind: kind.__name__.lower())


@contextmanager
def quietly() -> Iterator[None]:
    """Without warnings of the libraries, and without compilation, which would take minutes."""
    torch.compiler.set_stance("force_eager")
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.compiler.set_stance("default")


def rows_of(library: str) -> list[Row]:
    """The rows of all optimizers of a library."""
    with quietly():
        return [row_of(library, kind) for kind in kinds_of(library)]


# --- the page -----------------------------------------------------------------------------------------------------

HEAD = """| optimizer | fixed radius | hypergradient | checkpoint | step that is not finite |
|---|---|---|---|---|
"""


def table(rows: list[Row]) -> str:
    """The optimizers that work, one a line, and then those that are refused."""
    lines = [
        f"| `{r.name}` | {r.fixed} | {r.derivative} | {r.checkpoint} | {r.undone} |" for r in rows if not r.refused
    ]
    refused = [f"- `{r.name}`: {r.refused}" for r in rows if r.refused]
    return HEAD + "\n".join(lines) + "\n" + ("\nRefused:\n\n" + "\n".join(refused) + "\n" if refused else "")


def version(library: str) -> str:
    """The version that is installed, without the device that it was built for."""
    return metadata.version(library).split("+")[0]


def section(library: str) -> str:
    """The heading and the table of a library."""
    return f"### {library} {version(library)}\n\n{table(rows_of(library))}"


def with_tables(page: str, sections: list[str]) -> str:
    """The page with everything after the heading of the tables replaced."""
    start = page.index("### ")
    return page[:start] + "\n".join(sections)


def parsed(page: str) -> dict[str, dict[str, Row]]:
    """The rows of a page, by library and name."""
    found: dict[str, dict[str, Row]] = {}
    rows: dict[str, Row] = {}
    for line in page[page.index("### ") :].splitlines():
        if line.startswith("### "):
            rows = found.setdefault(line.split()[1], {})
        elif line.startswith("| `"):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            rows[name.strip("`")] = Row(name.strip("`"), *cells)
        elif line.startswith("- `"):
            name, refused = line.removeprefix("- `").split("`: ", 1)
            rows[name] = Row(name, refused=refused)
    return found


def main(arguments: list[str]) -> int:
    """Write or check the page; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare the page with what the code does")
    check = parser.parse_args(arguments).check
    page = PAGE.read_text(encoding="utf-8")
    made = with_tables(page, [section(library) for library in LIBRARIES])
    if not check:
        PAGE.write_text(made, encoding="utf-8")
        return 0
    old, new = parsed(page), parsed(made)
    changed = [name for library in new for name, row in new[library].items() if old.get(library, {}).get(name) != row]
    print("\n".join(f"{name} differs from the page" for name in changed) or "the page is up to date")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
