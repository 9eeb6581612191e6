"""Numbers that describe inputs, such that shifts change them: what two-sample tests and the learned mixture compare."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor

TEXT_BUCKETS = 128  # of letter pairs and triples
PARTS_OF_WORDS = 512
THUMBNAIL = 4  # pixels a side
BANDS = 6  # of the spectrum of an image
SOUND_BANDS = 16


def features_of(batch: Any, modality: str | None) -> Tensor:
    """A row of numbers for each input.

    Args:
        batch: inputs as shifts see them, see `InputForm.opened`.
        modality: of the inputs; None: their values are used as they are.

    Returns:
        Shape ``(batch, features)``, float32, on the CPU.
    """
    if modality == "text":
        return _of_texts(batch)
    inputs = cast("Tensor", batch).float()
    found = {"image": _of_images, "table": _of_rows, "audio": _of_waves, "log-mel": _of_sounds}.get(modality or "")
    return (inputs.flatten(1) if found is None else found(inputs)).nan_to_num(0.0, 0.0, 0.0).cpu()


def hashed_texts(texts: list[Any]) -> Tensor:
    """Parts of words, hashed: texts that share most of them are near each other, whatever their lengths.

    Args:
        texts: strings, of which groups of 2 to 4 letters within words are used; or rows of tokens, of which single ones
            and pairs are used.

    Returns:
        Shape ``(texts, 512)``, of length 1; hashing with signs keeps inner products (Weinberger et al., 2009).
    """
    import numpy as np
    from sklearn.feature_extraction.text import HashingVectorizer

    if texts and isinstance(texts[0], str):
        hashing = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=PARTS_OF_WORDS, lowercase=False)
    else:
        hashing = HashingVectorizer(tokenizer=_named, lowercase=False, ngram_range=(1, 2), n_features=PARTS_OF_WORDS)
    found: Any = hashing.transform(texts)
    return torch.from_numpy(np.asarray(found.todense())).float()


def _named(row: Any) -> list[str]:
    return [str(token) for token in row]


def _of_images(images: Tensor) -> Tensor:
    flat = images.flatten(1)
    grey = images.mean(dim=1, keepdim=True)
    levels = torch.quantile(flat, images.new_tensor([0.05, 0.25, 0.5, 0.75, 0.95]), dim=1).T
    ends = torch.stack([(flat < 0.01).float().mean(1), (flat > 0.99).float().mean(1)], dim=1)
    across, down = (_differences(grey, axis) for axis in (3, 2))
    edges = torch.stack([across.mean(1), down.mean(1), across.median(1).values, down.median(1).values], dim=1)
    size = min(THUMBNAIL, *grey.shape[2:])
    small = torch.nn.functional.adaptive_avg_pool2d(grey, size).flatten(1)
    power = torch.fft.rfft2(grey[:, 0] - grey[:, 0].mean(dim=(1, 2), keepdim=True)).abs().square()
    rows = torch.fft.fftfreq(grey.shape[2], device=images.device)[:, None].abs()
    columns = torch.fft.rfftfreq(grey.shape[3], device=images.device)[None]
    band = ((rows**2 + columns**2).sqrt() / 0.7072 * BANDS).long().clamp(max=BANDS - 1).flatten()
    sums = images.new_zeros(len(images), BANDS).index_add_(1, band, power.flatten(1))
    counts = torch.bincount(band, minlength=BANDS).clamp(min=1)
    deviation = flat.std(1, correction=min(1, flat.shape[1] - 1))
    spread = torch.stack([flat.mean(1), deviation, images.mean(dim=(2, 3)).std(dim=1, correction=0)], dim=1)
    return torch.cat([spread, levels, ends, edges, small, (sums / counts + 1e-8).log()], dim=1)


def _differences(images: Tensor, axis: int) -> Tensor:
    """Of neighbouring pixels along an axis; 0 where there is one pixel."""
    found = images.diff(dim=axis).abs().flatten(1)
    return found if found.shape[1] else found.new_zeros(len(images), 1)


def _of_rows(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows.abs()], dim=1)  # nothing that depends on the other rows of the batch


def _of_waves(waves: Tensor) -> Tensor:
    flat = waves.flatten(1)
    power = torch.fft.rfft(flat).abs().square()
    parts = power.chunk(SOUND_BANDS, dim=1)
    if len(parts) == SOUND_BANDS:
        bands = torch.stack([part.mean(1) for part in parts], dim=1)
    else:  # few frequencies; recordings of all lengths have as many bands
        bands = torch.nn.functional.adaptive_avg_pool1d(power, SOUND_BANDS)
    levels = torch.stack([flat.square().mean(1), flat.abs().amax(1).square()], dim=1)
    return torch.cat(
        [(bands + 1e-10).log(), (levels + 1e-10).log(), (flat.abs() > 0.99).float().mean(1)[:, None]], dim=1
    )


def _of_sounds(sounds: Tensor) -> Tensor:
    pooled = sounds.flatten(1, -3) if sounds.ndim > 3 else sounds
    energy = pooled.reshape(len(sounds), -1, *sounds.shape[-2:]).mean(dim=1)
    bands = torch.nn.functional.adaptive_avg_pool1d(energy.transpose(1, 2), min(SOUND_BANDS, energy.shape[1]))
    return torch.cat([bands.mean(1), bands.std(1), energy.flatten(1).amin(1)[:, None]], dim=1)


def _of_texts(texts: list[Any]) -> Tensor:
    import numpy as np
    from sklearn.feature_extraction.text import HashingVectorizer

    letters = bool(texts) and isinstance(texts[0], str)
    if letters:
        pairs = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 3), n_features=TEXT_BUCKETS, lowercase=False)
    else:
        pairs = HashingVectorizer(tokenizer=lambda row: map(str, row), lowercase=False, n_features=TEXT_BUCKETS)
    hashed: Any = pairs.transform(texts)
    hashed = np.asarray(hashed.todense())
    sizes = [[np.log1p(len(text)), *(_of_letters(text) if letters else ())] for text in texts]
    return torch.cat([torch.tensor(sizes, dtype=torch.float32), torch.from_numpy(hashed).float()], dim=1)


def _of_letters(text: str) -> tuple[float, ...]:
    words = text.split()
    count = max(1, len(text))
    return (
        len(words),
        len(text) / max(1, len(words)),
        sum(letter.isupper() for letter in text) / count,
        sum(letter.isalpha() for letter in text) / count,
        sum(a == b for a, b in pairwise(text)) / count,
    )
