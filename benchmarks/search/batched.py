"""R replicas of one small network trained in parallel, each with its own seed and its own radius.

Every weight has a leading dimension R, so that one batched matrix product trains all replicas: a small network costs
mostly overhead, and this way an idea is tried with all seeds and starts for little more than one run. The step is that
of `letsam.SAM` on `torch.optim.SGD`; tests/benchmarks/search proves it, weight by weight, against the optimizer. Steps
that are not finite are not skipped, which healthy runs do not need.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from letsam import LearnedRadius, ReplayedRadius, Secant
from letsam.radius import Ascent, Evidence
from letsam.step.calibration import random_labels, without_confidence
from letsam.tangent import Slope
from letsam.training.sampling import Splits, training_order, validation_batch

LR, MOMENTUM, WEIGHT_DECAY, BATCH = 0.05, 0.9, 5e-4, 64  # those of `letsam.tasks.Task`

Loss = Callable[[Tensor, Tensor], Tensor]  # outputs (R, B, classes), targets (R, B) -> (R,)


class Pass(NamedTuple):
    """The losses (R,) of a forward and backward pass, and the gradients, one (R, ...) per weight."""

    loss: Tensor
    gradients: list[Tensor]


class Moment(NamedTuple):
    """The state of a step when it asks for its radii."""

    step: int  # steps taken before this one
    share: float  # learning rate / its peak
    training: Pass  # the pass at the weights
    validation: Pass | None  # the pass on held-out samples at the same weights; None unless asked for


class Radii:
    """R radii, here fixed (0 gives plain SGD); a subclass that learns them overrides the other methods."""

    def __init__(self, rho: Tensor) -> None:
        self.rho = rho
        self.validation_loss: Loss = cross_entropy

    def validates(self, step: int) -> bool:
        """Whether step `step` begins with a validation pass."""
        return False

    def at(self, moment: Moment) -> Tensor:
        """The radii of this step, (R,)."""
        return self.rho

    def see(self, step: int, lr: float, rho: Tensor, first: Pass, second: Pass) -> None:
        """The passes at the weights and at the perturbed weights, before the base optimizer's step."""


class Trained(NamedTuple):
    """The end of a training."""

    accuracy: Tensor  # test accuracy in percent, (R,)
    rho: Tensor  # the radii of every step, (steps, R)
    weights: list[Tensor]  # one (R, ...) per weight


def network(sizes: Sequence[int], seed: int) -> nn.Sequential:
    """The network of one replica, initialised from the seed: inputs, hidden layers with ReLU, classes."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


def stacked(networks: Sequence[nn.Sequential], dtype: torch.dtype) -> list[Tensor]:
    """Their weights, stacked: matrices (R, inputs, outputs) and biases (R, 1, outputs)."""
    weights: list[Tensor] = []
    for layers in zip(*networks, strict=True):
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        if linear:
            weights.append(torch.stack([layer.weight.detach().t() for layer in linear]).to(dtype))
            weights.append(torch.stack([layer.bias.detach()[None] for layer in linear]).to(dtype))
    return [weight.requires_grad_() for weight in weights]


def outputs_of(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Inputs (R, B, d) -> outputs (R, B, classes)."""
    for layer in range(0, len(weights), 2):
        hidden = inputs.relu() if layer else inputs
        inputs = torch.baddbmm(weights[layer + 1], hidden, weights[layer])
    return inputs


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of every replica, (R,)."""
    losses = nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape).mean(1)


def run_pass(weights: Sequence[Tensor], inputs: Tensor, targets: Tensor, loss: Loss = cross_entropy) -> Pass:
    """Forward and backward."""
    losses = loss(outputs_of(weights, inputs), targets)
    return Pass(losses.detach(), list(torch.autograd.grad(losses.sum(), weights)))


def dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """The dot product over all weights of a replica, (R,)."""
    return torch.stack([(a * b).flatten(1).sum(1) for a, b in zip(left, right, strict=True)]).sum(0)


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm over all weights of a replica, (R,)."""
    return dot(tensors, tensors).sqrt()


def over(values: Tensor, tensor: Tensor) -> Tensor:
    """(R,) shaped to multiply a (R, ...) tensor."""
    return values.view(-1, *[1] * (tensor.ndim - 1))


class LearnedRadii(Radii):
    """A `LearnedRadius` for every replica, with Z by the secant; SAM only: eps_hat reaches 1."""

    def __init__(self, starts: Tensor, radius: LearnedRadius, validation_loss: Loss = cross_entropy) -> None:
        super().__init__(starts)
        self.gain: Tensor | None = None  # of the last validation pass, see `letsam.radius.Evidence`
        if not isinstance(radius.hypergradient, Secant) or radius.objective.training_batch != "next":
            raise ValueError(f"`radius` must have the secant and the next batch, got {radius.objective}")
        self.radius = copy.deepcopy(radius)
        matched = radius.objective.matches_labels and validation_loss is cross_entropy
        self.validation_loss = self._matched if matched else validation_loss
        self.radius.rho = starts
        self.radius.rule.start(starts)
        self.finite = torch.ones_like(starts, dtype=torch.bool)
        self.z: list[Tensor] = []  # -lr H_rho eps_hat of the step before

    def validates(self, step: int) -> bool:
        """Whether the library would validate in this step."""
        return self.radius.wants(step).validation is not None

    def at(self, moment: Moment) -> Tensor:
        """The radii, from what a step of `letsam.SAM` reports to its radius before the ascent."""
        losses = moment.training.loss, None if moment.validation is None else moment.validation.loss
        evidence = Evidence(moment.step, moment.share, 1.0, *losses)
        if moment.validation is not None and self.z:
            slopes = [self.slope(one.gradients) for one in (moment.validation, moment.training)]
            evidence = Evidence(
                *(moment.step, moment.share, 1.0, *losses, *slopes),
                usable=self.finite,
                gain=self.gain,
                label_noise=self.radius.rule.label_noise,
            )
        self.radius.update(evidence)
        length = norm(moment.training.gradients)
        return self.radius.at(Ascent(moment.step, moment.share, 1.0, moment.training.loss, length, 1))

    def _matched(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss, with the gradient at the outputs that the objective has."""
        kept, noise = outputs.detach(), self.radius.rule.label_noise

        def changed(cotangent: Tensor) -> Tensor:
            drawn = random_labels(cotangent, kept)
            self.gain = (drawn * kept).sum((1, 2))
            noisy = cotangent if noise is None else cotangent + over(noise, drawn) * drawn
            return torch.vmap(without_confidence)(noisy, kept) if self.radius.objective.calibrates else noisy

        outputs.register_hook(changed)  # pyright: ignore[reportUnknownMemberType]
        return cross_entropy(outputs, targets)

    def slope(self, gradients: Sequence[Tensor]) -> Slope:
        """The slope along Z."""
        value = dot(gradients, self.z)
        return Slope(value, (norm(gradients) * norm(self.z)).clamp(min=torch.finfo(value.dtype).tiny))

    def see(self, step: int, lr: float, rho: Tensor, first: Pass, second: Pass) -> None:
        """The end of a step; Z where the next step will use it."""
        rule, hypergradient = self.radius.rule, self.radius.hypergradient
        if self.radius.wants(step).growth:
            rule.observe(first.loss, rho, norm(second.gradients) - norm(first.gradients))
        self.radius.commit(self.finite)
        if not self.radius.wants(step).tangent:
            return
        if hasattr(prior := getattr(rule, "prior", None), "relative_rise"):  # `ideas.RelativeAscent`
            prior.relative_rise = (second.loss - first.loss) / first.loss
        change = [(g1 - g0) / over(rho, g0) for g1, g0 in zip(second.gradients, first.gradients, strict=True)]
        if hypergradient.length_invariant:
            share = getattr(hypergradient, "projected", 1.0) * dot(second.gradients, change)
            share = share / dot(second.gradients, second.gradients)
            change = [z - over(share, g) * g for z, g in zip(change, second.gradients, strict=True)]
        self.z = [-lr * z for z in change]


class ReplayedRadii(Radii):
    """`letsam.ReplayedRadius` for every replica, given the radii of every step of a finished run, (steps, R)."""

    def __init__(self, curves: Tensor, steps: int, burn_in: int) -> None:
        super().__init__(curves[0])
        self.replayed = [ReplayedRadius(curve, steps, burn_in=burn_in) for curve in curves.t().tolist()]

    def at(self, moment: Moment) -> Tensor:
        """The radii that belong to this step."""
        self.rho = self.rho.new_tensor([one.value(moment.step) for one in self.replayed])
        return self.rho


class Samples:
    """The splits of some seeds, stacked; training, validation and test sets are `TensorDataset`s of flat inputs."""

    def __init__(self, splits: dict[int, Splits], batch_size: int = BATCH) -> None:
        self.splits, self.batch_size = splits, batch_size
        self.row = {seed: index for index, seed in enumerate(splits)}
        self.train = _stack([one.train for one in splits.values()])
        held_out = [one.validation for one in splits.values() if one.validation is not None]
        self.validation = _stack(held_out) if held_out else None
        self.test = tuple(tensors[0] for tensors in _stack([one.test for one in splits.values()][:1]))

    def order(self, epoch: int) -> Tensor:
        """Indices of the training samples, (seeds, steps of an epoch, batch size)."""
        size = self.batch_size
        return torch.tensor([training_order(one.order, size, seed, epoch) for seed, one in self.splits.items()])

    def held_out(self, step: int) -> Tensor:
        """Indices of the validation samples of a step, (seeds, batch size)."""
        assert self.validation is not None
        count = self.validation[1].shape[1]
        return torch.tensor([validation_batch(count, self.batch_size, seed, step) for seed in self.splits])


def train(samples: Samples, sizes: Sequence[int], seeds: Sequence[int], radii: Radii, *, epochs: int) -> Trained:
    """Train one network per replica with SAM on SGD, the learning rate falling to 0 in half a cosine.

    There is a seed and a radius for each replica; the same seed may come more than once.
    """
    of = torch.tensor([samples.row[seed] for seed in seeds])[:, None]
    weights = stacked([network(sizes, seed) for seed in seeds], samples.train[0].dtype)
    buffers = [torch.zeros_like(weight) for weight in weights]
    order = samples.order(0)
    steps, curve = epochs * order.shape[1], []
    for step in range(steps):
        epoch, batch = divmod(step, order.shape[1])
        if epoch and not batch:
            order = samples.order(epoch)
        share = 0.5 * (1 + math.cos(math.pi * step / steps))
        inputs, targets = (tensor[of, order[of[:, 0], batch]] for tensor in samples.train)
        validation = None
        if radii.validates(step):
            assert samples.validation is not None
            chosen = samples.held_out(step)[of[:, 0]]
            held_out = [tensor[of, chosen] for tensor in samples.validation]
            validation = run_pass(weights, held_out[0], held_out[1], radii.validation_loss)
        first = run_pass(weights, inputs, targets)
        rho = radii.at(Moment(step, share, first, validation))
        factor = rho / norm(first.gradients).clamp(min=torch.finfo(rho.dtype).tiny ** 0.5)
        with torch.no_grad():
            climbed = [w + over(factor, w) * g for w, g in zip(weights, first.gradients, strict=True)]
        second = run_pass([weight.requires_grad_() for weight in climbed], inputs, targets)
        radii.see(step, LR * share, rho, first, second)
        with torch.no_grad():
            for weight, gradient, buffer in zip(weights, second.gradients, buffers, strict=True):
                buffer.mul_(MOMENTUM).add_(gradient).add_(weight, alpha=WEIGHT_DECAY)
                weight.sub_(buffer, alpha=LR * share)
        curve.append(rho)
    with torch.no_grad():
        inputs, targets = samples.test
        predicted = outputs_of(weights, inputs.expand(len(seeds), -1, -1)).argmax(-1)
    return Trained((predicted == targets).float().mean(1) * 100, torch.stack(curve), weights)


def _stack(datasets: Sequence[object]) -> tuple[Tensor, Tensor]:
    tensors = [dataset.tensors for dataset in datasets]  # pyright: ignore[reportAttributeAccessIssue]
    return torch.stack([x for x, _ in tensors]), torch.stack([y for _, y in tensors])
