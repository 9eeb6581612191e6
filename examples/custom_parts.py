"""Custom parts of a learned radius: an objective that penalizes the generalization gap, and sign descent on log(rho).

Run it with `python examples/custom_parts.py`, a few seconds on a CPU: digits with 40% wrong labels.
"""

import torch
from sklearn.datasets import load_digits

import letsam


class PenalizedGap(letsam.Objective):
    """upper = L_vl + weight gap^2 / 2, gap = L_vl - L_tr."""

    uses_training_slope = True

    def __init__(self, weight=1.0, training_batch="next"):
        super().__init__(training_batch)
        self.weight = weight

    def derivative(self, evidence, validation_slope, training_slope):  # noqa: D102
        assert training_slope is not None  # it is asked for above
        return validation_slope + self.weight * evidence.gap * (validation_slope - training_slope)


class SignDescent(letsam.Rule):
    """rho <- rho exp(-lr sign(slope)) for each step that an update stands for."""

    def __init__(self, lr=0.02, bounds=(1e-3, 2.0)):
        super().__init__(bounds)
        self.lr = lr

    def move(self, rho, slope, update):  # noqa: D102
        return rho * (-self.lr * update.steps * slope.sign()).exp()


def main(rho=0.05, epochs=30):
    """Train on noisy digits; return the accuracy on clean test data and the radius."""
    torch.manual_seed(0)
    images, digits = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(digits)
    train, validation, test = torch.randperm(len(inputs)).split([1100, 300, len(inputs) - 1400])
    wrong = torch.rand(len(targets)) < 0.4
    noisy = torch.where(wrong, torch.randint(10, targets.shape), targets)
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    radius = letsam.LearnedRadius(rho, objective=PenalizedGap(), rule=SignDescent())
    opt = letsam.SAM(base, rho=radius)

    def closure_on(part):
        def closure():
            opt.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs[part]), noisy[part])
            loss.backward()
            return loss

        return closure

    for _ in range(epochs):
        for part in train[torch.randperm(len(train))].split(64):
            held_out = validation[torch.randint(len(validation), (64,))]
            opt.step(closure_on(part), closure_on(held_out))
    accuracy = (model(inputs[test]).argmax(1) == targets[test]).double().mean().item()
    return accuracy, opt.rho.item()


if __name__ == "__main__":
    print("test accuracy {:.3f}, rho 0.05 -> {:.3f}".format(*main()))
