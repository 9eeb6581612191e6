"""A learned radius in a plain PyTorch loop: `python examples/plain_loop.py`, a few seconds on a CPU.

Two lines differ from a loop with SGD: the optimizer is wrapped, and its step gets two closures. The second closure runs
on a batch that the model is not trained on; the radius is learned from its loss.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import letsam
from letsam.tasks import load_task
from letsam.tasks.label_noise import targets_of, with_label_noise
from letsam.validation import stratified_split


def main(epochs: int = 20) -> float:
    """Train on digits with 40% wrong labels and return the test accuracy."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    task = load_task("digits")
    noisy = with_label_noise(task.train, 0.4, generator=generator)
    assert isinstance(noisy, TensorDataset)
    kept, held_out = stratified_split(targets_of(noisy), 0.1, generator)
    train = DataLoader(TensorDataset(*noisy[kept]), batch_size=64, shuffle=True, drop_last=True, generator=generator)
    validation = DataLoader(TensorDataset(*noisy[held_out]), batch_size=64, shuffle=True, generator=generator)

    model = task.model()
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    opt = letsam.SAM(base, rho=letsam.LearnedRadius(0.05))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, epochs * len(train))

    def closure_on(batch: list[Tensor]) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            return loss

        return closure

    held_out_batches = letsam.endless(validation)
    for epoch in range(epochs):
        for batch in train:
            opt.step(closure_on(batch), closure_on(next(held_out_batches)))
            scheduler.step()
        gap = opt.metrics["generalization_gap"].item()
        print(f"epoch {epoch + 1:2}  rho {opt.rho.item():.4f}  generalization gap {gap:+.3f}")

    inputs, targets = task.test[:]
    with torch.no_grad():
        accuracy = (model(inputs).argmax(1) == targets).double().mean().item()
    print(f"test accuracy {100 * accuracy:.1f}%")
    return accuracy


if __name__ == "__main__":
    main()
