"""A custom variant: climb along the sign of the gradient, descend with the mean of both gradients.

Run it with `python examples/custom_variant.py`, a few seconds on a CPU.
"""

import torch

import letsam


class SignAscent(letsam.perturbations.Perturbation):
    """eps_hat = sign(g) / sqrt(n) for n weights; theta <- base(theta, (g_rho + g_0) / 2)."""

    keeps_ascent_gradient = True

    def direction(self, weights, gradients, gradient_norm):  # noqa: D102
        for gradient in gradients:
            gradient.sign_()
        return torch.ones_like(gradient_norm) / sum(g.numel() for g in gradients) ** 0.5

    def descent(self, weights, gradients, ascent_gradients):  # noqa: D102
        assert ascent_gradients is not None  # every step climbs
        for gradient, before in zip(gradients, ascent_gradients, strict=True):
            gradient.add_(before).mul_(0.5)

    def descent_derivative(self, changes, gradients, ascent_gradients):  # noqa: D102
        for change in changes:  # g_0 does not depend on rho
            change.mul_(0.5)


def main(steps=200):
    """Train a small network; return the first loss, the last loss and the learned radius."""
    torch.manual_seed(0)
    inputs = torch.randn(256, 8)
    targets = (inputs[:, 0] * inputs[:, 1] > 0).long()
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
    base = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    opt = letsam.SharpnessAware(base, SignAscent(), rho=letsam.LearnedRadius(0.05))

    def closure_on(part):
        def closure():
            opt.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs[part]), targets[part])
            loss.backward()
            return loss

        return closure

    losses = [opt.step(closure_on(slice(0, 192)), closure_on(slice(192, 256))) for _ in range(steps)]
    return losses[0].item(), losses[-1].item(), opt.rho.item()


if __name__ == "__main__":
    print("loss {:.3f} -> {:.3f}, rho 0.05 -> {:.3f}".format(*main()))
