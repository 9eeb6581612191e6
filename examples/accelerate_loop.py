"""A learned radius with Accelerate: `python examples/accelerate_loop.py`, a few seconds on a CPU.

Everything is prepared as usual. Only one line of the loop differs: `step` replaces backward, clipping and
`optimizer.step()`. It runs on the devices and in the precision of the accelerator.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import letsam
from letsam.integrations.accelerate import step
from letsam.tasks import load_task
from letsam.tasks.label_noise import targets_of, with_label_noise
from letsam.validation import stratified_split


def main(epochs: int = 20) -> float:
    """Train on digits with 40% wrong labels and return the test accuracy."""
    accelerator = Accelerator(cpu=True)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    task = load_task("digits")
    noisy = with_label_noise(task.train, 0.4, generator=generator)
    assert isinstance(noisy, TensorDataset)
    kept, held_out = stratified_split(targets_of(noisy), 0.1, generator)
    train = DataLoader(TensorDataset(*noisy[kept]), batch_size=64, shuffle=True, drop_last=True, generator=generator)
    validation = DataLoader(TensorDataset(*noisy[held_out]), batch_size=64, shuffle=True)

    model = task.model()
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    sam = letsam.SAM(base, rho=letsam.LearnedRadius(0.05), model=model)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(sam, epochs * len(train))
    model, opt, scheduler, train, validation = accelerator.prepare(model, sam, scheduler, train, validation)
    held_out_batches = letsam.endless(validation)
    accelerator.register_for_checkpointing(held_out_batches)  # save_state() then saves the position in the data

    def loss_on(batch: list[Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    for epoch in range(epochs):
        for batch in train:
            step(accelerator, opt, loss_on, [batch], held_out_batches)
            scheduler.step()
        gap = sam.metrics["generalization_gap"].item()
        accelerator.print(f"epoch {epoch + 1:2}  rho {sam.rho.item():.4f}  generalization gap {gap:+.3f}")

    inputs, targets = task.test[:]
    with torch.no_grad():
        accuracy = (model(inputs).argmax(1) == targets).double().mean().item()
    accelerator.print(f"test accuracy {100 * accuracy:.1f}%")
    return accuracy


if __name__ == "__main__":
    main()
