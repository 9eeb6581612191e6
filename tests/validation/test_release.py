"""The held-out samples are given back: `ReleaseSampler` in plain loops and in trainers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from letsam.validation import ReleaseSampler


def test_held_out_samples_come_after_the_release() -> None:
    sampler = ReleaseSampler(torch.arange(90), torch.arange(90, 100), release=3, seed=5)
    epochs = [list(sampler) for _ in range(12)]
    assert all(len(epoch) == len(set(epoch)) == len(sampler) == 90 for epoch in epochs)
    assert all(max(epoch) < 90 for epoch in epochs[:3])
    given_back = [sum(index >= 90 for index in epoch) for epoch in epochs[3:]]
    assert all(5 <= count <= 10 for count in given_back)
    assert len({index for epoch in epochs[3:] for index in epoch}) == 100
    assert epochs[0] != epochs[1]
    sampler.set_epoch(7)
    assert list(sampler) == epochs[7]
    assert list(sampler) == epochs[8]
    assert list(ReleaseSampler(range(90), range(90, 100), release=3, seed=6)) != epochs[0]


def test_the_steps_before_the_release() -> None:
    sampler = ReleaseSampler(range(90), range(90, 100), release=3)
    for size, drop_last, steps in ((30, False, 9), (40, False, 9), (40, True, 6), (90, True, 3)):
        assert sampler.until(size, drop_last=drop_last) == steps
        loader = DataLoader(TensorDataset(torch.arange(100)), size, sampler=sampler, drop_last=drop_last)
        assert 3 * len(loader) == steps


def test_trainers_set_the_epoch(tmp_path: Path) -> None:
    """Lightning and Accelerate, with what they were really given."""
    from accelerate import Accelerator
    from lightning.pytorch import LightningModule, Trainer

    data = TensorDataset(torch.arange(20.0)[:, None])

    class Seen(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.seen: dict[int, set[float]] = {}

        def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
            self.seen.setdefault(self.current_epoch, set()).update(batch[0].flatten().tolist())
            return self.layer(batch[0]).mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    module = Seen()
    sampler = ReleaseSampler(range(16), range(16, 20), release=2)
    Trainer(max_epochs=6, default_root_dir=tmp_path, **quiet).fit(module, DataLoader(data, 4, sampler=sampler))
    assert [max(seen) >= 16 for seen in module.seen.values()] == [False, False, True, True, True, True]

    sampler = ReleaseSampler(range(16), range(16, 20), release=2)
    loader = Accelerator(cpu=True).prepare(DataLoader(data, 4, sampler=sampler))
    found = []
    for epoch in (0, 1, 2, 3, 0):
        loader.set_epoch(epoch)
        found.append(max(float(batch[0].max()) for batch in loader) >= 16)
    assert found == [False, False, True, True, False]


@pytest.mark.parametrize(
    ("train", "validation", "options", "message"),
    [
        ([0, 1], [1, 2], {}, "`train` and `validation` must hold each index once"),
        ([], [1], {}, r"`train` must be a row of indices, at least one, got \[\]"),
        ([0], [0.5], {}, "`validation` must be a row of indices"),
        ([0], [1], {"release": 0}, "`release` must be"),
        ([0], [1], {"seed": -1}, "`seed` must be"),
    ],
)
def test_bad_input(train: list[int], validation: list[float], options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReleaseSampler(train, validation, **{"release": 1, **options})  # type: ignore[arg-type]
