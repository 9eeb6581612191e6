"""Independent maths in float64: functions of one flat vector of weights, differentiated by autograd. No letsam here.

The base optimizer's part of the truth is the *real* torch optimizer: deep-copied with its moments for the central
differences, and made with `differentiable=True` for double backward.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .problems import Batch, flat


@dataclass
class State:
    """Everything that one step of the base optimizer starts from."""

    model: nn.Module
    base: torch.optim.Optimizer

    def copy(self) -> State:
        return State(*copy.deepcopy((self.model, self.base)))

    @property
    def theta(self) -> Tensor:
        return flat(self.model.parameters())


def outputs(model: nn.Module, theta: Tensor, data: Batch) -> Tensor:
    """The outputs on a batch, a differentiable function of the flat vector."""
    named, start = {}, 0
    for name, p in model.named_parameters():
        named[name] = theta[start : start + p.numel()].view_as(p)
        start += p.numel()
    return functional_call(model, named, (data[0],))


def loss(model: nn.Module, theta: Tensor, data: Batch) -> Tensor:
    """L(data; theta), a differentiable function of the flat vector."""
    return nn.functional.cross_entropy(outputs(model, theta, data), data[1])


def gradient(model: nn.Module, theta: Tensor, data: Batch) -> Tensor:
    theta = theta.detach().requires_grad_()
    return torch.autograd.grad(loss(model, theta, data), theta)[0]


def functional_gradient(model: nn.Module, theta: Tensor, perturbed: Tensor, data: Batch) -> Tensor:
    """J(perturbed)^T c, with c = d loss / d outputs at theta."""
    before = outputs(model, theta, data).detach().requires_grad_()
    (c,) = torch.autograd.grad(nn.functional.cross_entropy(before, data[1]), before)
    perturbed = perturbed.detach().requires_grad_()
    return torch.autograd.grad((outputs(model, perturbed, data) * c).sum(), perturbed)[0]


def hessian_vector(model: nn.Module, theta: Tensor, vector: Tensor, data: Batch) -> Tensor:
    """H v, exact, by double backward."""
    theta = theta.detach().requires_grad_()
    (g,) = torch.autograd.grad(loss(model, theta, data), theta, create_graph=True)
    return torch.autograd.grad(g @ vector, theta)[0]


def sam_direction(theta: Tensor, g: Tensor) -> Tensor:
    """arXiv:2010.01412, equation (2)."""
    return g / g.norm()


def asam_direction(theta: Tensor, g: Tensor) -> Tensor:
    """arXiv:2102.11600, algorithm 1, T = diag(|theta|)."""
    t = theta.abs()
    return t**2 * g / (t * g).norm()


DIRECTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"SAM": sam_direction, "ASAM": asam_direction}


def base_step(start: State, g: Tensor) -> Tensor:
    """theta' = base(theta, g), by the real optimizer on a copy."""
    state = start.copy()
    position = 0
    for p in state.model.parameters():
        p.grad = g[position : position + p.numel()].view_as(p).clone()
        position += p.numel()
    state.base.step()
    return state.theta


def differentiable_base_step(start: State, g: Tensor) -> Tensor:
    """The same as a differentiable function of g: torch's own optimizer with `differentiable=True`."""
    state = start.copy()
    params, position = [], 0
    for p in state.model.parameters():
        clone = p.detach().clone().requires_grad_().clone()
        clone.grad = g[position : position + p.numel()].view_as(p)
        position += p.numel()
        params.append(clone)
    group = {k: v for k, v in state.base.param_groups[0].items() if k not in ("params", "initial_lr", "param_names")}
    if isinstance(state.base, torch.optim.AdamW):
        group.pop("decoupled_weight_decay", None)
    group |= {"differentiable": True, "foreach": False}
    group.pop("fused", None)
    base = type(state.base)(params, **group)
    for p, clone in zip(state.model.parameters(), params, strict=True):
        moments = state.base.state.get(
            p, {}
        )  # Adam's counter in float64, else 1 - beta^step is rounded to float32 here
        base.state[clone].update({k: v.double() if k == "step" else v for k, v in moments.items() if v is not None})
    base.step()
    return torch.cat([p.reshape(-1) for p in params])


def as_plain_descent(start: State, g: Tensor) -> Tensor:
    """theta - lr g: what a base optimizer without a rule of its own counts as."""
    return start.theta - start.base.param_groups[0]["lr"] * g


OBJECTIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of the validation loss and the training loss
    "calibrated_loss": lambda validation, training: validation,  # minus `confidence`
    "squared_gap": lambda validation, training: (validation - training) ** 2 / 2,
    "validation_loss": lambda validation, training: validation,
}


def confidence(model: nn.Module, theta: Tensor, data: Batch, label_noise: float = 0.0) -> Tensor:
    """The part of d loss / d outputs along the outputs of each sample; 0 unless larger outputs lower the loss.

    With `label_noise`, the loss is the expected one of labels that are replaced by any class with that probability.
    """
    z = outputs(model, theta, data).detach().requires_grad_()
    (c,) = torch.autograd.grad(nn.functional.cross_entropy(z, data[1], label_smoothing=label_noise), z)
    parts = [(ci @ zi) / (zi @ zi) * zi for ci, zi in zip(c, z.detach(), strict=True)]
    return torch.stack(parts) * float((c * z).sum() < 0)


def upper(
    objective: str, model: nn.Module, theta: Tensor, training: Batch, validation: Batch, at: Tensor | None = None
) -> Tensor:
    """The upper-level objective at theta; calibration is that of the weights `at`, and a constant."""
    value = OBJECTIVES[objective](loss(model, theta, validation), loss(model, theta, training))
    if objective == "calibrated_loss":
        removed = confidence(model, theta.detach() if at is None else at, validation)
        value = value - (removed * outputs(model, theta, validation)).sum()
    return value


@dataclass
class OneStep:
    """One lower-level step and the upper objective after it, as a function of rho with eps_hat held fixed."""

    start: State
    direction: Tensor
    batch: Batch
    objective: str
    training: Batch
    validation: Batch

    def after(self, rho: float) -> Tensor:
        """theta'(rho), by really stepping."""
        g = gradient(self.start.model, self.start.theta + rho * self.direction, self.batch)
        return base_step(self.start, g)

    def true_objective(self, rho: float, around: float | None = None) -> float:
        """U(rho); what is a constant of an update is that of the radius `around`."""
        at = self.after(rho if around is None else around)
        return upper(self.objective, self.start.model, self.after(rho), self.training, self.validation, at).item()

    def central_difference(self, rho: float, h: float = 4e-4) -> float:
        """dU / d rho, extrapolated twice (error O(h^6))."""

        def difference(h: float) -> float:
            return (self.true_objective(rho + h, rho) - self.true_objective(rho - h, rho)) / (2 * h)

        d1, d2, d4 = difference(h), difference(2 * h), difference(4 * h)
        a, b = (4 * d1 - d2) / 3, (4 * d2 - d4) / 3
        return (16 * a - b) / 15

    def slope(self, rho: float, curvature: Tensor, step: Callable[[State, Tensor], Tensor]) -> float:
        """dU / ds of step(g_rho + s curvature) at s = 0."""
        g = gradient(self.start.model, self.start.theta + rho * self.direction, self.batch)
        s = torch.zeros((), dtype=torch.float64, requires_grad=True)
        after = step(self.start, g + s * curvature)
        u = upper(self.objective, self.start.model, after, self.training, self.validation)
        return torch.autograd.grad(u, s)[0].item()

    def hypergradient(
        self,
        rho: float,
        *,
        estimator: str = "exact",
        projected: bool = False,
        step: Callable[[State, Tensor], Tensor] = differentiable_base_step,
    ) -> float:
        """dU / d rho with H_rho eps_hat exact, or the formula of an estimator in its place."""
        model, theta, e = self.start.model, self.start.theta, self.direction
        g = gradient(model, theta + rho * e, self.batch)
        curvature = {
            "exact": lambda: hessian_vector(model, theta + rho * e, e, self.batch),
            "secant": lambda: (g - gradient(model, theta, self.batch)) / rho,
            "diagonal": lambda: g * g * e,
        }[estimator]()
        if projected:
            curvature = curvature - g * (g @ curvature) / (g @ g)
        return self.slope(rho, curvature, step)


def adam_on_log_radius(
    rho: float, hypergradients: list[float], rates: list[float], bounds: tuple[float, float]
) -> list[float]:
    """nu <- nu - rate * m^ / (sqrt(v^) + 1e-16) on the slope rho * d upper / d rho; rho after each update."""
    from math import exp, log, sqrt

    nu, m, v, radii = log(rho), 0.0, 0.0, []
    for t, (h, rate) in enumerate(zip(hypergradients, rates, strict=True), start=1):
        slope = h * rho
        m = 0.9 * m + 0.1 * slope
        v = 0.999 * v + 0.001 * slope**2
        nu -= rate * (m / (1 - 0.9**t)) / (sqrt(v / (1 - 0.999**t)) + 1e-16)
        nu = min(max(nu, log(bounds[0])), log(bounds[1]))
        rho = exp(nu)
        radii.append(rho)
    return radii
