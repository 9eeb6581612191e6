"""Which weights are perturbed: param groups with `perturb=False`, and param groups by type of layer."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from . import checks
from .checks import checked_module

PERTURBED = ("weights", "norm", "all")
NORMALIZATION = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)  # pyright: ignore[reportPrivateUsage]
NAMED_NORMALIZATION = re.compile(r"Norm(\d+d|Gated)?$")  # LlamaRMSNorm, T5LayerNorm, LayerNorm2d, RMSNormGated


def param_groups(model: nn.Module, perturb: str = "all", **options: Any) -> list[dict[str, Any]]:
    """Param groups for a base optimizer that restrict the perturbation: eps_hat is 0 where `perturb=False`.

    Weights that are not perturbed are trained as usual. The groups hold named parameters, so that
    `ASAM(..., scale="weights")` works; each parameter occurs once, and empty groups are left out.

    Args:
        model: the network.
        perturb: "all"; "weights": all parameters except biases and those of normalization layers; "norm": only the
            weights and biases of normalization layers (SAM-ON). Normalization layers are those of `torch.nn` and
            classes whose name ends with "Norm", such as "RMSNorm", "LayerNorm2d" or "RMSNormGated".
        **options: options of all groups, such as `weight_decay`.

    Returns:
        A group with `perturb=True` and, unless all weights are perturbed, one with `perturb=False`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an unknown `perturb`, or one that selects no parameter of the model.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
        >>> [(group["perturb"], len(group["params"])) for group in param_groups(model, "norm", lr=0.1)]
        [(True, 2), (False, 2)]

    Reference:
        SAM-ON: Müller et al., arXiv:2306.04226.
    """
    perturbed = perturbed_parameters(model, perturb)
    groups: dict[bool, list[tuple[str, Tensor]]] = {True: [], False: []}
    for name, param in model.named_parameters():
        groups[param in perturbed].append((name, param))
    return [dict(params=params, perturb=moves, **options) for moves, params in groups.items() if params]


def perturbed_parameters(model: nn.Module, perturb: str) -> set[Tensor]:
    """The parameters that `perturb` selects, as in `param_groups`.

    Args:
        model: the network.
        perturb: "all", "weights" or "norm".

    Returns:
        The set of parameters to perturb, not empty.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an unknown `perturb`, or one that selects no parameter of the model.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
        >>> perturbed_parameters(model, "weights") == {model[0].weight}
        True
    """
    checked_module(model)
    checks.choice("perturb", perturb, PERTURBED)
    normalizing = {p for module in model.modules() if _normalizes(module) for p in module.parameters(recurse=False)}
    chosen: set[Tensor] = set()
    for name, param in model.named_parameters():
        if perturb == "weights":
            moves = param not in normalizing and not _is_bias(name, param)
        else:
            moves = perturb == "all" or param in normalizing
        if moves:
            chosen.add(param)
    if not chosen:
        what = "normalisation layers with weights" if perturb == "norm" else "parameters to perturb"
        inner = dict(model.named_children()).get("module", model)  # name the network, not the wrapper of DDP or Fabric
        raise ValueError(f'`model` must have {what} for perturb="{perturb}", got none in {type(inner).__name__}')
    return chosen


def unperturbed(groups: list[dict[str, Any]]) -> set[Tensor]:
    """The parameters of the param groups with `perturb=False`.

    Raises:
        ValueError: `perturb` is neither True nor False, or it is False in all groups.
    """
    values = [group.get("perturb", True) for group in groups]
    for value in values:
        if not isinstance(value, bool):
            raise ValueError(f"`perturb` of a param group must be True or False, got {checks.shown(value)}")
    if not any(values):
        raise ValueError("`perturb` must be True in at least one param group, got False in all (for that, rho=0)")
    return {p for group, perturbs in zip(groups, values, strict=True) if not perturbs for p in group["params"]}


def check_param_groups(groups: list[dict[str, Any]]) -> None:
    """Raise `ValueError` unless a step can be taken with these param groups.

    Raises:
        ValueError: a learning rate that is none, a trainable weight of complex numbers, or as for `unperturbed`.
    """
    unperturbed(groups)
    for group in groups:
        checks.learning_rate(group)
        for param in group["params"]:
            if param.requires_grad and param.is_complex():
                raise ValueError(
                    f"`base_optimizer` must hold real weights, got one of shape {tuple(param.shape)} in "
                    f"{str(param.dtype).removeprefix('torch.')}: make torch.view_as_real(weight) the parameter, and "
                    "use torch.view_as_complex of it in the network"
                )


def _normalizes(module: nn.Module) -> bool:
    return isinstance(module, NORMALIZATION) or NAMED_NORMALIZATION.search(type(module).__name__) is not None


def _is_bias(name: str, param: Tensor) -> bool:
    return "bias" in name.rpartition(".")[2] and param.ndim == 1  # a table of biases (relative positions) is a weight
