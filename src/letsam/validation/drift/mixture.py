"""Mixtures of shifts, written as ``"noise:2,blur:1"`` and parsed once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from letsam import checks
from letsam.results.nearest import did_you_mean
from letsam.validation.drift.draws import Draws, sample_numbers
from letsam.validation.drift.known_shifts import CLEAN, MODALITIES, RESAMPLED, shifts_of
from letsam.validation.drift.shift import SEVERITIES

CHOICE = 1  # stream of random numbers

Step = tuple[str, int]


@dataclass(frozen=True)
class Mixture:
    """Alternatives, of which each sample gets one.

    - ``"noise:2,blur:1"``: half of the samples get noise of severity 2, the other half blur of severity 1.
    - ``"noise:2+blur:1"``: all samples get noise, then blur.
    - ``"clean@0.7,noise:3@0.3"``: weights, which are divided by their sum; without one, an alternative has 1.
    - ``"noise"``: severity 3.
    - ``"labels:2"`` and ``"groups:2"`` draw other samples, before the inputs are shifted; they apply to the whole
      data set, whatever alternative they are in.

    Attributes:
        alternatives: of (name, severity) pairs, which are applied in order; none for clean samples.
        weights: of the alternatives, > 0, which add up to 1.
        modality: whose inputs are shifted; None: there are only resampled labels or groups.

    Example:
        >>> mixture = Mixture.parse("noise:2+blur:1,clean@3", "image")
        >>> mixture.alternatives, mixture.weights
        (((('noise', 2), ('blur', 1)), ()), (0.25, 0.75))
        >>> str(mixture)
        'noise:2+blur:1@0.25,clean@0.75'
    """

    alternatives: tuple[tuple[Step, ...], ...]
    weights: tuple[float, ...]
    modality: str | None = None

    def __post_init__(self) -> None:
        if self.modality is not None:
            checks.choice("modality", self.modality, MODALITIES)
        if not self.alternatives or len(self.alternatives) != len(self.weights):
            raise ValueError(
                "`weights` must have one number for each of the `alternatives`, at least one, "
                f"got {len(self.weights)} for {len(self.alternatives)}"
            )
        for weight in self.weights:
            checks.positive("weights", weight)
        if abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"`weights` must add up to 1, got {sum(self.weights):g}")
        known = [*(shifts_of(self.modality) if self.modality else ()), *RESAMPLED]
        for name, severity in (step for steps in self.alternatives for step in steps):
            checks.choice("alternatives", name, known)
            if severity not in SEVERITIES:
                raise ValueError(f"`alternatives` must have severities from 1 to 5, got {severity!r} for {name!r}")

    @classmethod
    def parse(cls, text: str, modality: str | None = None, *, name: str = "shift") -> Mixture:
        """Read a mixture.

        Args:
            text: the alternatives, separated by commas.
            modality: of the inputs; None: that of the first shift whose name occurs in one modality only.
            name: what the text is called in the interface of the caller, for the errors.

        Raises:
            ValueError: no such shift, severity or weight; one line with the part that is wrong.
        """
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"`{name}` must name at least one shift, such as noise:2,blur:1, got {text!r}")
        if modality is not None:
            checks.choice("modality", modality, MODALITIES)
        parts = [part.strip() for part in text.split(",")]
        parsed = [_alternative(part, text, name) for part in parts]
        names = [step for steps, _ in parsed for step, _ in steps]
        modality = modality or _modality_of(names, name)
        known = [*(shifts_of(modality) if modality else ()), *RESAMPLED]
        for step in names:
            if step not in known:
                hint = did_you_mean(step, [CLEAN, *known])
                raise ValueError(
                    f"`{name}` must be of {', '.join([CLEAN, *known])} for {modality} data, got {step!r}{hint}"
                )
        total = sum(weight for _, weight in parsed)
        return cls(tuple(steps for steps, _ in parsed), tuple(weight / total for _, weight in parsed), modality)

    def __str__(self) -> str:
        """The text that `parse` reads."""
        texts = ["+".join(f"{name}:{severity}" for name, severity in steps) or CLEAN for steps in self.alternatives]
        if len(set(self.weights)) == 1:
            return ",".join(texts)
        return ",".join(f"{text}@{weight:.3g}" for text, weight in zip(texts, self.weights, strict=True))

    @property
    def resampling(self) -> dict[str, int]:
        """The severities of shifts that draw other samples."""
        return {name: severity for steps in self.alternatives for name, severity in steps if name in RESAMPLED}

    def of_inputs(self, number: int) -> tuple[Step, ...]:
        """The steps of an alternative that change inputs."""
        return tuple(step for step in self.alternatives[number] if step[0] not in RESAMPLED)

    def chosen(self, seed: int, indices: Tensor) -> Tensor:
        """The number of the alternative that each sample gets."""
        drawn = Draws(sample_numbers(seed, indices, CHOICE)).uniform(1)[:, 0]
        bounds = torch.tensor(self.weights, device=indices.device).cumsum(0)[:-1]
        return torch.bucketize(drawn, bounds, right=True)


def _alternative(part: str, text: str, argument: str) -> tuple[tuple[Step, ...], float]:
    steps, at, weight = part.partition("@")
    try:
        share = float(weight) if at else 1.0
    except ValueError:
        share = 0.0
    if not 0 < share < float("inf"):
        raise ValueError(f"`{argument}` needs a weight > 0 after the @ of {part!r}, got {weight!r}")
    if steps.strip() == CLEAN:
        return (), share
    found: list[Step] = []
    for step in steps.split("+"):
        name, colon, severity = (part.strip() for part in step.partition(":"))
        level = severity if colon else "3"
        if not name:
            raise ValueError(f"`{argument}` must be written as noise:2,blur:1, got {text!r}")
        if name == CLEAN:
            raise ValueError(f"`{argument}` has `{CLEAN}` alone, without severity and other shifts, got {part!r}")
        if not level.isdecimal() or int(level) not in SEVERITIES:
            raise ValueError(f"`{argument}` needs a severity from 1 to 5 after the colon of {name!r}, got {severity!r}")
        found.append((name, int(level)))
    return tuple(found), share


def _modality_of(names: list[str], argument: str) -> str | None:
    """The modality that has all these shifts, if it can be told."""
    wanted = [name for name in names if name not in RESAMPLED]
    if not wanted:
        return None
    able = [modality for modality in MODALITIES if all(name in shifts_of(modality) for name in wanted)]
    if not able:
        known = sorted({name for modality in MODALITIES for name in shifts_of(modality)})
        unknown = [name for name in wanted if name not in known]
        if unknown:
            names = [CLEAN, *known, *RESAMPLED]
            raise ValueError(
                f"`{argument}` must be of {', '.join(names)}, got {unknown[0]!r}{did_you_mean(unknown[0], names)}"
            )
        raise ValueError(f"`{argument}` must name shifts of one modality, got {', '.join(wanted)}")
    return able[0]
