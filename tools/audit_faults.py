"""What audits find: `python tools/audit_faults.py [--seeds 20] [--data "digits;wine"]`.

Plants every kind of fault that `letsam.validation.audit` knows into real data, and audits clean splits of them. Prints
how often each fault is found, and every finding that nobody has planted. The data are those of scikit-learn and, where
the folder LETSAM_DATA has them, `movie-snippets` and `klettres` (see `benchmarks/validation/data.py`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from letsam.data import DataOptions, data_task
from letsam.models import ModelOptions
from letsam.tasks.movie_snippets import parse_ratings, read_table
from letsam.training.drifted import form_options
from letsam.validation import Audit, audit, shifted, split

MOST = 600  # samples of a data set
COPIES = 3  # repeated samples
Samples = list[tuple[Any, Any]]
Plant = Callable[["Divided"], None]


@dataclass
class RealData:
    """Real samples without exact repeats, and what has to be known to plant faults in them.

    Args:
        samples: (input, target) pairs.
        kind: of the targets.
        modality: of the inputs.
        drift: a shift that the two-sample tests must see.
        close: makes a near copy of an input.
        form: further options of audits.
    """

    samples: Samples
    kind: str
    modality: str
    drift: str
    close: Callable[[Any, torch.Generator], Any]
    form: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known: dict[Any, tuple[Any, Any]] = {}
        for one in self.samples:
            known.setdefault(one[0] if isinstance(one[0], str) else one[0].numpy().tobytes(), one)
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))[:MOST].tolist()
        distinct = list(known.values())
        self.samples = [distinct[place] for place in order]


@dataclass
class Divided:
    """A clean division of real data, into which a fault is planted.

    Args:
        data: where the samples are from.
        seed: of the division and the fault.
    """

    data: RealData
    seed: int
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rest, operation = self._split(self.data.samples, 0.2, 1000 + self.seed)
        self.train, self.validation = self._split(rest, 0.25, self.seed)
        self.operation = operation
        self.stream = torch.Generator().manual_seed(self.seed)
        self.repeats: dict[str, list[tuple[int, int]]] = {}

    def _split(self, samples: Samples, share: float, seed: int) -> tuple[Samples, Samples]:
        by = targets_of_all(samples) if self.data.kind == "classification" else torch.arange(float(len(samples)))
        kept, held = split(by, share, seed=seed)
        return [samples[i] for i in kept.tolist()], [samples[i] for i in held.tolist()]

    def audit(self) -> Audit:
        """The audit of these parts."""
        data = self.data
        known: dict[str, Any] = {"kind": data.kind, "modality": data.modality, "seed": self.seed, "probe": False}
        parts: Any = (self.train, self.validation)
        return audit(*parts, **{**known, **data.form, **self.options})


def targets_of_all(samples: Samples) -> Tensor:
    """The targets of samples as a tensor."""
    return torch.stack([torch.as_tensor(target) for _, target in samples])


# --- data --------------------------------------------------------------------------------------------------------


def noisy(strength: float | Tensor) -> Callable[[Any, torch.Generator], Any]:
    """Near copies of tensors: noise of this standard deviation."""
    return lambda one, stream: one + strength * torch.randn(one.shape, generator=stream)


def misspelt(text: str, stream: torch.Generator) -> str:
    """A near copy of a text: one letter is lost."""
    place = int(torch.randint(len(text), (1,), generator=stream))
    return text[:place] + text[place + 1 :]


def digits(several: bool = False) -> RealData:
    """Images of digits; or with three labels: odd, above four, prime."""
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    images, targets = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16, torch.tensor(found.target)
    if several:
        prime = torch.isin(targets, torch.tensor([2, 3, 5, 7]))
        targets = torch.stack([targets % 2 == 1, targets > 4, prime], dim=1).float()
    kind = "multilabel" if several else "classification"
    return RealData(list(zip(images, targets, strict=True)), kind, "image", "noise:3", noisy(0.02))


def table(name: str) -> RealData:
    """A table of scikit-learn."""
    import sklearn.datasets

    found: Any = getattr(sklearn.datasets, f"load_{name}")()
    kind = "regression" if name == "diabetes" else "classification"
    rows, targets = torch.tensor(found.data, dtype=torch.float32), torch.tensor(found.target)
    samples = list(zip(rows, targets.float() if kind == "regression" else targets, strict=True))
    return RealData(samples, kind, "table", "scaled:3+noisy:3", noisy(0.01 * rows.std(0)))


def prepared(folder: str, drift: str, strength: float, **options: Any) -> RealData:
    """Files in a folder, as a trial reads them."""
    task = data_task(DataOptions(path=folder, test_share=0.01, augment="none", **options), ModelOptions())
    modality, form = form_options(task)
    train: Any = task.train
    samples = [train[place] for place in range(len(train))]
    return RealData(samples, "classification", modality or "image", drift, noisy(strength), form)


def tiles() -> RealData:
    """A folder of images: two photographs of scikit-learn, cut into tiles."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    with tempfile.TemporaryDirectory() as folder:
        for name, photograph in zip(("temple", "flower"), load_sample_images().images, strict=True):
            (Path(folder) / name).mkdir()
            for row in range(photograph.shape[0] // 32):
                for column in range(photograph.shape[1] // 32):
                    tile = photograph[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
                    Image.fromarray(tile).save(Path(folder) / name / f"{row}-{column}.png")
        return prepared(folder, "noise:3", 0.005)


def snippets() -> RealData:
    """Sentences of film reviews."""
    texts, ratings = parse_ratings(read_table())
    samples = [(text, int(rating > 0)) for text, rating in zip(texts, ratings, strict=True)]
    return RealData(samples, "classification", "text", "typos:3", misspelt)


def letters() -> RealData:
    """Recordings of spoken letters in eight languages."""
    from benchmarks.validation.data import letters as letters_task

    task = letters_task()
    modality, form = form_options(task)
    train: Any = task.train
    samples = [train[place] for place in range(len(train))]
    return RealData(samples, "classification", modality or "", "noise:3", noisy(0.02), form)


DATA: dict[str, Callable[[], RealData]] = {
    "digits": digits,
    "digits, three labels": lambda: digits(several=True),
    "tiles": tiles,
    "breast cancer": lambda: table("breast_cancer"),
    "wine": lambda: table("wine"),
    "diabetes": lambda: table("diabetes"),
    "snippets": snippets,
    "letters": letters,
}
ELSEWHERE = {"snippets": "movie-snippets", "letters": "klettres"}  # folders of LETSAM_DATA


# --- faults ------------------------------------------------------------------------------------------------------


def nothing(parts: Divided) -> None:
    """A clean division, which is examined in every way."""
    parts.options |= {"deployed": [one for one, _ in parts.operation], "probe": True}
    apart = range(len(parts.train)), range(len(parts.train), len(parts.train) + len(parts.validation))
    parts.options |= {"groups": apart, "times": apart}


def single_samples(parts: Divided) -> None:
    """Repeats, near repeats, a group on both sides and a training sample that is too late."""
    taken = torch.randperm(len(parts.train), generator=parts.stream)[: 2 * COPIES].tolist()
    for place, other in enumerate(taken):
        value, target = parts.train[other]
        near = place >= COPIES
        parts.validation[place] = (parts.data.close(value, parts.stream) if near else value, target)
        parts.repeats.setdefault("near-duplicates" if near else "duplicates", []).append((place, other))
    count, held = len(parts.train), len(parts.validation)
    groups, times = [*range(count)], [*range(count)]
    groups[7], times[5] = count, count + 1  # of the first validation sample; later than it
    parts.options |= {"groups": (groups, range(count, count + held)), "times": (times, range(count, count + held))}


def other_shares(parts: Divided) -> None:
    """Of half of the classes, of samples with the first label or with large targets, nine tenths are missing."""
    targets = targets_of_all(parts.validation)
    chosen = {
        "classification": lambda: targets <= targets.unique()[(len(targets.unique()) - 1) // 2],
        "multilabel": lambda: targets[:, 0] > 0,
        "regression": lambda: targets > targets.median(),
    }[parts.data.kind]()
    lost = torch.rand(len(targets), generator=parts.stream) < 0.9
    parts.validation = [one for one, out in zip(parts.validation, (chosen & lost).tolist(), strict=True) if not out]


def wrong(samples: Samples, share: float, parts: Divided) -> Samples:
    """This share of the samples gets the label of another class."""
    classes = targets_of_all(parts.data.samples).unique().tolist()
    found = list(samples)
    for place in torch.randperm(len(found), generator=parts.stream)[: round(share * len(found))].tolist():
        value, target = found[place]
        others = [one for one in classes if one != int(target)]
        found[place] = (value, torch.tensor(others[int(torch.randint(len(others), (1,), generator=parts.stream))]))
    return found


def wrong_everywhere(parts: Divided) -> None:
    """A tenth of all labels is wrong."""
    parts.train, parts.validation = wrong(parts.train, 0.1, parts), wrong(parts.validation, 0.1, parts)


def wrong_in_validation(parts: Divided) -> None:
    """A fifth of the validation labels is wrong."""
    parts.validation = wrong(parts.validation, 0.2, parts)


def drifted(parts: Divided, samples: Samples) -> Samples:
    """The samples under drift."""
    data: Any = samples
    changed: Any = shifted(data, parts.data.drift, seed=parts.seed, modality=parts.data.modality, **parts.data.form)
    return [changed[place] for place in range(len(samples))]


def other_inputs(parts: Divided) -> None:
    """Validation inputs have drifted."""
    parts.validation = drifted(parts, parts.validation)


def other_operation(parts: Divided) -> None:
    """Inputs of operation have drifted."""
    parts.options["deployed"] = [one for one, _ in drifted(parts, parts.operation)]


def too_small(parts: Divided) -> None:
    """Twelve validation samples."""
    parts.validation, parts.options["probe"] = parts.validation[:12], True


FAULTS: dict[str, tuple[tuple[str, ...], Plant, tuple[str, ...]]] = {
    "nothing": ((), nothing, ("classification", "multilabel", "regression")),
    "single samples": (
        ("duplicates", "near-duplicates", "group-leakage", "time-leakage"),
        single_samples,
        ("classification", "multilabel", "regression"),
    ),
    "other shares": (("label-shares",), other_shares, ("classification", "multilabel", "regression")),
    "a tenth of all labels": (("wrong-labels",), wrong_everywhere, ("classification",)),
    "a fifth of the validation labels": (("wrong-labels",), wrong_in_validation, ("classification",)),
    "drift of validation": (("validation-differs",), other_inputs, ("classification", "multilabel", "regression")),
    "drift of operation": (("deployed-differs",), other_operation, ("classification", "multilabel", "regression")),
    "twelve samples": (("validation-too-small",), too_small, ("classification", "multilabel", "regression")),
}
"""What is planted: the findings that it must lead to, how, and for which targets."""


def found_in(data: RealData, fault: str, seed: int) -> tuple[set[str], list[str]]:
    """Plant a fault and audit: which of its findings are there, and the others, in words."""
    codes, plant, _ = FAULTS[fault]
    parts = Divided(data, seed)
    plant(parts)
    result = parts.audit()
    seen = {one.code for one in result if one.code in codes}
    for code, pairs in parts.repeats.items():
        if set(result.places.get(code, ())) != set(pairs):
            seen.discard(code)  # other samples than those planted
    return seen, [str(one) for one in result if one.code not in codes]


def measured(names: Iterable[str], seeds: int) -> Iterator[tuple[str, str, str, int | None, list[str]]]:
    """Name of the data, fault, finding, how often it was found (None: no such fault), and findings besides."""
    for name in names:
        data = DATA[name]()
        for fault, (codes, _, kinds) in FAULTS.items():
            if data.kind not in kinds:
                continue
            counts: Counter[str] = Counter()
            besides: list[str] = []
            for seed in range(seeds):
                seen, others = found_in(data, fault, seed)
                counts.update(seen)
                besides += [f"seed {seed}: {one}" for one in others]
            for code in codes or ("",):
                yield name, fault, code, counts[code] if code else None, besides


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--data", help="names, separated by semicolons")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    names = asked.data.split(";") if asked.data else list(DATA)
    for name, fault, code, count, besides in measured(names, asked.seeds):
        print(f"{name} | {fault} | {code} | {count} | {len(besides)} besides", flush=True)
        for one in besides:
            print("      ", one[:220])


if __name__ == "__main__":
    main()
