"""The mixture of shifts that makes validation data most like a sample of deployed data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from letsam import checks
from letsam.validation.drift.drift_features import features_of
from letsam.validation.drift.inputs import InputForm, check_finite, unlabelled_inputs
from letsam.validation.drift.known_shifts import shifts_of
from letsam.validation.drift.mixture import Mixture, Step
from letsam.validation.drift.shift import SEVERITIES
from letsam.validation.drift.two_sample import two_sample_test

SAMPLES = 400  # of the data set that are shifted in every way
FOURIER = 400  # random Fourier features
SMALLEST = 0.08  # weight of an alternative
MOST = 5  # alternatives
LEVEL = 0.05  # of the test whether there is drift at all
UNLIKE = 0.9  # of the AUC, from which on the mixture does not resemble the deployed data


@dataclass(frozen=True)
class LearnedMixture:
    """The mixture that makes data most like deployed data.

    Args:
        mixture: of shifts.
        deployed: the number of deployed inputs.
        clean_auc: how well a classifier tells the clean data from the deployed ones: 0.5 not at all, 1 always.
        auc: the same for the data under the mixture.
    """

    mixture: Mixture
    deployed: int
    clean_auc: float
    auc: float

    def __str__(self) -> str:
        unlike = "; most of this drift is of another kind than the known shifts" if self.auc > UNLIKE else ""
        return (
            f"{self.mixture}, learned from {self.deployed:,} deployed inputs; the AUC of a classifier that tells them "
            f"from the training data is {self.auc:.2f} with this shift, {self.clean_auc:.2f} without{unlike}"
        )


def learn_mixture(
    dataset: Dataset[Any], deployed: Dataset[Any] | Tensor | Sequence[Any], form: InputForm, *, seed: int = 0
) -> LearnedMixture:
    """Find the mixture whose features match those of the deployed data.

    All shifts at all severities are applied to a part of the data. The weights w minimize the maximum mean discrepancy,

        || sum_k w_k m_k - m ||,  w >= 0,  sum w = 1,

    where m_k and m are mean random Fourier features (Gaussian kernels of three widths) of the shifted and the deployed
    data: a non-negative least squares problem. At most five alternatives with a weight of 0.08 or more are kept. The
    result is "clean" where the two-sample test finds no difference between the clean and the deployed data at a level
    of 5%, or tells the mixture from the deployed data more easily.

    Args:
        dataset: the clean samples.
        deployed: inputs from operation, without targets, at least 20.
        form: of the inputs.
        seed: of the selection, the shifts and the features.

    Returns:
        The mixture, and how well it matches; `str` of a mixture is what `Mixture.parse` reads.

    Raises:
        ValueError: too few inputs, or the modality is not known.

    Reference:
        Gretton et al., "A Kernel Two-Sample Test", JMLR 2012; Rahimi and Recht, "Random Features for Large-Scale Kernel
        Machines", NeurIPS 2007.
    """
    from scipy.optimize import nnls

    from letsam.validation.drift.shifted_data import ShiftedDataset

    if form.modality is None:
        raise ValueError('`shift` = "auto" needs `modality`: it cannot be told from the inputs')
    operation = deployed_inputs(deployed, form)
    count = len(cast("Any", dataset))
    if min(len(operation), count) < 20:
        raise ValueError(f'`shift` = "auto" needs 20 samples or more, got {count}, and {len(operation)} of `deployed`')
    form.check_same("`deployed`", operation, labelled=False)
    if isinstance(operation, Tensor):
        check_finite("`deployed`", operation, range(len(operation)))
    stream = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(count, generator=stream)[:SAMPLES].tolist()
    clean = form.batch([cast("Any", dataset)[place] for place in chosen])
    places = torch.arange(len(chosen))

    def features(mixture: Mixture) -> Tensor:
        whole = ShiftedDataset(dataset, mixture, form, seed, places)
        return features_of(form.opened(whole.apply(clean, places)), form.modality)

    known = features_of(form.opened(operation), form.modality)
    alternatives: list[tuple[Step, ...]] = [()]
    alternatives += [((name, severity),) for name in shifts_of(form.modality) for severity in SEVERITIES]
    alternatives = [steps for steps in alternatives if _possible(steps, form)]
    rows = [features(Mixture((steps,), (1.0,), form.modality)) for steps in alternatives]
    embed = _embedding(torch.cat([rows[0], known]), stream)
    target = embed(known).mean(0)
    columns = torch.stack([embed(row).mean(0) for row in rows], dim=1)
    weights = torch.zeros(len(rows), dtype=torch.float64)
    support = torch.arange(len(rows))
    for _ in range(2):  # the second time among those that are kept
        heavy = 100.0 * float(columns.norm(dim=0).mean())  # holds the sum at 1
        system = torch.cat([columns[:, support], torch.full((1, len(support)), heavy, dtype=torch.float64)])
        goal = torch.cat([target, torch.tensor([heavy], dtype=torch.float64)])
        weights.zero_()
        weights[support] = torch.from_numpy(nnls(system.numpy(), goal.numpy())[0])
        largest = weights.argsort(descending=True)[:MOST]
        support = largest[weights[largest] >= min(SMALLEST, float(weights.max()))].sort().values
    kept = [round(float(weights[place]), 3) for place in support.tolist()]
    total = sum(kept)
    found = Mixture(
        tuple(alternatives[place] for place in support.tolist()), tuple(w / total for w in kept), form.modality
    )
    as_it_is = Mixture(((),), (1.0,), form.modality)
    clean_test = two_sample_test(rows[0], known, seed)
    told = {as_it_is: clean_test.auc}
    if found != as_it_is and clean_test.p_value < LEVEL:
        told[found] = two_sample_test(features(found), known, seed).auc
    best = min(told, key=lambda mixture: told[mixture])
    return LearnedMixture(best, len(known), told[as_it_is], told[best])


def deployed_inputs(deployed: Dataset[Any] | Tensor | Sequence[Any], form: InputForm) -> Any:
    """A batch of deployed inputs: they may be inputs, or samples in the form of the data set."""
    items = cast("Any", deployed)
    if not hasattr(items, "__len__") or not hasattr(items, "__getitem__"):
        raise TypeError(
            f"`deployed` must be a tensor, a sequence or a map-style data set, got {checks.shown(deployed)}"
        )
    return unlabelled_inputs([items[place] for place in range(len(items))], form)


def _possible(steps: tuple[Step, ...], form: InputForm) -> bool:
    try:
        form.check(Mixture((steps,), (1.0,), form.modality))
    except ValueError:
        return False
    return True


def _embedding(rows: Tensor, stream: torch.Generator) -> Any:
    """Random Fourier features of standardized rows, for Gaussian kernels of three widths."""
    mean, deviation = rows.mean(0), rows.std(0)
    varied = deviation > 1e-6
    scaled = ((rows - mean) / deviation)[:, varied].double()
    part = scaled[torch.randperm(len(scaled), generator=stream)[:200]]
    width = float(torch.pdist(part).median())
    third = FOURIER // 3
    directions = torch.cat(
        [
            torch.randn(scaled.shape[1], third, generator=stream, dtype=torch.float64) / (width * factor)
            for factor in (0.5, 1.0, 2.0)
        ],
        dim=1,
    )
    phases = 2 * math.pi * torch.rand(directions.shape[1], generator=stream, dtype=torch.float64)

    def embed(values: Tensor) -> Tensor:
        standard = ((values - mean) / deviation)[:, varied].double().clamp(-10, 10)
        waves = (standard @ directions + phases).cos() * math.sqrt(2)
        return torch.cat([waves, standard / math.sqrt(standard.shape[1])], dim=1)

    return embed
