"""How curved the loss of each setting is in the eyes of the prior's limit.

    python -m benchmarks.evidence.curvature [SETTING ...]

Prints R (`letsam.radius.log_radius`), the share of itself by which the loss rises over the prior for its curvature, as
measured in the first 25 steps, for the first and the last start and two seeds: some minutes for all. A setting whose
data is missing is named and left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from letsam.radius.log_radius import MEASURED

from benchmarks.evidence.__main__ import chosen
from benchmarks.evidence.loading import loaded
from benchmarks.evidence.suite import Setting, Unit
from benchmarks.evidence.work import runs_of
from letsam import ASAM, SAM, LearnedRadius
from letsam.radius import Ascent
from letsam.tasks import TaskError
from letsam.training.devices import make_fabric
from letsam.training.methods import Kind, register

SEEDS = 2


class Found(Exception):
    """Ends a training: all is measured."""

    def __init__(self, share: float) -> None:
        super().__init__(share)
        self.share = share


class _Measuring(LearnedRadius):
    """The default, up to the end of the measurement."""

    def at(self, ascent: Ascent) -> torch.Tensor:
        if ascent.step == MEASURED:
            assert self.prior is not None
            state = self.state_dict()
            raise Found(float(self.prior**2 / 2 * state["curved_growth"] / state["curved_scale"]))
        return super().at(ascent)


for _kind in (SAM, ASAM):
    register(f"lets-curved-{_kind.__name__.lower()}", Kind(f"{_kind.__name__}, measuring", _kind, _Measuring))


def shares(setting: Setting) -> Iterator[float]:
    """R of each start and seed.

    Raises:
        TaskError: the data is missing.
    """
    task, fabric = loaded(setting), make_fabric("cpu")
    starts = {"sam": setting.sam_starts, "asam": setting.asam_starts}
    for method in [f"lets-curved-{kind}:{start}" for kind, all_ in starts.items() for start in (all_[0], all_[-1])]:
        for seed in range(SEEDS):
            try:
                runs_of(Unit(setting, "curvature", method, seed), task, fabric)
            except Found as found:
                yield found.share


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and print a line a setting."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence.curvature",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="*", help="names or how they begin (digits, fashion-vit-0.0); all without")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        settings = chosen(options.settings, quick=False, full=False)
    except ValueError as error:
        parser.error(str(error))
    for setting in settings:
        try:
            found = sorted(shares(setting))
        except TaskError as error:
            print(f"{setting.name}: left out, {error}", flush=True)
            continue
        print(f"{setting.name}: R {found[0]:.2f} to {found[-1]:.2f}, {len(found)} runs", flush=True)


if __name__ == "__main__":
    main()
