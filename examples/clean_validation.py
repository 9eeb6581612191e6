"""Clean validation labels next to noisy training labels: the default objective against two others.

Run it with `python examples/clean_validation.py`, two minutes on a CPU: digits with wrong training labels.
"""

import math

import torch

import letsam
from letsam.tasks import load_task, with_label_noise

OBJECTIVES = {
    "labels as they are": lambda: letsam.ValidationLoss(matches_labels=False),
    "ValidationLoss": letsam.ValidationLoss,
    "CalibratedLoss": letsam.CalibratedLoss,
}


def tensors_of(dataset):
    """All inputs and all labels of a data set."""
    return torch.utils.data.default_collate([dataset[i] for i in range(len(dataset))])


def run(objective, noise, clean, seed, epochs=60):
    """Test accuracy in %, and the radius at the end; a fifth of the training data is held out."""
    task, generator = load_task("digits"), torch.Generator().manual_seed(seed)
    inputs, true = tensors_of(task.train)
    held_out, train = torch.randperm(len(inputs), generator=generator).split([len(inputs) // 5, len(inputs) * 4 // 5])
    noisy = tensors_of(with_label_noise(task.train, noise, generator=generator))[1]
    validation = torch.utils.data.TensorDataset(inputs[held_out], (true if clean else noisy)[held_out])
    torch.manual_seed(seed)
    model = task.model()
    opt = letsam.SAM(task.optimizer(model.parameters()), letsam.LearnedRadius(0.05, objective=objective()), model=model)
    steps = epochs * (len(train) // task.batch_size)
    scheduler = torch.optim.lr_scheduler.LambdaLR(opt, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))

    def closure_on(x, y):
        def closure():
            opt.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        return closure

    loader = torch.utils.data.DataLoader(validation, task.batch_size, shuffle=True, generator=generator)
    batches = letsam.endless(loader)
    for _ in range(epochs):
        for part in train[torch.randperm(len(train), generator=generator)].split(task.batch_size)[:-1]:
            opt.step(closure_on(inputs[part], noisy[part]), closure_on(*next(batches)))
            scheduler.step()
    x, y = tensors_of(task.test)
    return 100 * (model(x).argmax(1) == y).double().mean().item(), opt.rho.item()


def main(noises=(0.0, 0.2, 0.4, 0.6), seeds=3, epochs=60):
    """Print and return a row for each share of wrong training labels and each objective."""
    rows = []
    print(f"test accuracy (radius at the end), means of {seeds} seeds\n")
    print(f"{'wrong training labels':22} {'objective':18} {'noisy validation':>18} {'clean validation':>18}")
    for noise in noises:
        for name, objective in OBJECTIVES.items():
            cells = []
            for clean in (False, True):
                ends = torch.tensor([run(objective, noise, clean, seed, epochs) for seed in range(seeds)])
                cells.append(tuple(ends.mean(0).tolist()))
            rows.append((noise, name, *cells))
            texts = [f"{accuracy:.1f} ({rho:.2f})" for accuracy, rho in cells]
            print(f"{noise:<22.0%} {name:18} {texts[0]:>18} {texts[1]:>18}", flush=True)
    return rows


if __name__ == "__main__":
    main()
