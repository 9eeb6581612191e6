"""Small files in the formats of the tasks, and the pictures in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

# Movie snippets

GOOD, BAD = ("great", "moving", "funny", "clever"), ("dull", "awful", "tedious", "clumsy")

THINGS = ("film", "script", "cast", "plot", "score", "ending")


def review(i: int) -> tuple[float, str]:
    words = GOOD if i % 2 else BAD
    rating = (1 + i % 3) * (1 if i % 2 else -1)
    return rating, f"Scene {i}: a {words[i // 2 % 4]} {THINGS[i // 8 % 6]}, and a {words[i // 48 % 4]} one."


def parquet(folder: Path, **splits: dict[str, list[Any]]) -> None:
    from datasets import Dataset as Table

    folder.mkdir(parents=True)
    for name, columns in splits.items():
        Table.from_dict(columns).to_parquet(folder / f"{name}-00000-of-00001.parquet")


def picture(number: int, size: tuple[int, int] = (32, 32)) -> Any:
    """Three bands of grey, the first as bright as the number: nothing in it is symmetric."""
    from PIL import Image

    shades = torch.arange(size[0] * size[1]).reshape(size[1], size[0]) % 50 + number
    return Image.frombytes("L", size, bytes(shades.to(torch.uint8).flatten().tolist())).convert("RGB")
