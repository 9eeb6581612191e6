"""Hold out validation data in which every class keeps its proportion."""

import math

import torch
from torch import Tensor


def stratified_split(
    targets: Tensor, share: float, generator: torch.Generator, *, name: str = "share"
) -> tuple[Tensor, Tensor]:
    """Divide sample indices into training and validation, class by class.

    Class ``c`` with ``n_c`` of the ``n`` samples gives ``share * n_c`` of them to validation, rounded by the method of
    the largest remainder: every class gives the floor, and those with the largest fractional parts one more, until
    validation has ``round(share * n)``. Targets that are not classes (floating point, or more than one number per
    sample) are split at random.

    Args:
        targets: One target per sample, first dimension ``n``.
        share: The fraction held out for validation, between 0 and 1, both excluded.
        generator: CPU generator; the only source of randomness.
        name: The name of ``share`` in the interface of the caller, for the errors.

    Returns:
        Training indices and validation indices: disjoint, ascending, int64, together ``0 .. n-1``.

    Raises:
        ValueError: If ``share`` is not inside (0, 1), or there are too few samples for one on each side.

    Example:
        >>> targets = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
        >>> train, validation = stratified_split(targets, 0.5, torch.Generator().manual_seed(0))
        >>> targets[validation].tolist()
        [0, 0, 0, 1, 1]
    """
    if not 0.0 < share < 1.0:  # also false for NaN
        raise ValueError(f"`{name}` must be between 0 and 1 (both excluded), got {share}")
    count = len(targets) if targets.ndim else 0
    held_out = round(share * count)
    if not 0 < held_out < count:
        raise ValueError(
            f"`{name}` = {share} of {count} samples must leave at least 1 for training "
            f"and 1 for validation, got {count - held_out} and {held_out}"
        )

    is_validation = torch.zeros(count, dtype=torch.bool)
    if targets.is_floating_point() or targets.is_complex() or targets.ndim != 1:
        is_validation[torch.randperm(count, generator=generator)[:held_out]] = True
    else:
        _, classes = torch.unique(targets.cpu(), return_inverse=True)
        sizes = torch.bincount(classes).tolist()
        for label, quota in enumerate(_largest_remainder(sizes, share, held_out, generator)):
            members = torch.nonzero(classes == label).flatten()
            chosen = torch.randperm(len(members), generator=generator)[:quota]
            is_validation[members[chosen]] = True
    return torch.nonzero(~is_validation).flatten(), torch.nonzero(is_validation).flatten()


def _largest_remainder(sizes: list[int], share: float, total: int, generator: torch.Generator) -> list[int]:
    """Whole numbers that add up to ``total``, each within 1 of ``share * size``."""
    exact = [share * size for size in sizes]
    quotas = [math.floor(value) for value in exact]
    # Equal remainders are common (classes of equal size). A fixed order among them would favour the low labels in
    # every split, so their order is random. Rounding makes remainders equal that differ by float errors alone.
    shuffled = torch.randperm(len(sizes), generator=generator).tolist()
    by_remainder = sorted(shuffled, key=lambda label: round(quotas[label] - exact[label], 9))
    for label in by_remainder[: total - sum(quotas)]:
        quotas[label] += 1
    return quotas
