"""What a network computes for samples: its outputs, and the activations that its last linear layer sees."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from letsam.tasks.model_outputs import logits_of, model_outputs

WIDEST = 1024  # numbers of an embedding; of a wider one, so many at even distances are kept


@dataclass(frozen=True)
class Activations:
    """Outputs and embeddings of samples, on the CPU.

    Args:
        outputs: logits, or predicted numbers; float32 or float64, shape ``(samples, outputs)``.
        embeddings: what the last linear layer sees, float32, shape ``(some samples, numbers)``: those of the first
            samples.
    """

    outputs: Tensor
    embeddings: Tensor


@torch.no_grad()
def activations_of(network: nn.Module, batches: Iterable[Any], most_embeddings: int) -> Activations:
    """Run a network over batches of inputs.

    Args:
        network: in evaluation mode.
        batches: of inputs, on the network's device.
        most_embeddings: of how many samples embeddings are kept.

    Returns:
        The outputs of all samples. The embedding of a sample is the input of the last linear layer that the network
        calls, as a mean over tokens or places where there are several; without such a layer it is the output.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).eval()
        >>> found = activations_of(network, [torch.zeros(4, 2), torch.ones(1, 2)], most_embeddings=2)
        >>> found.outputs.shape, found.embeddings.shape
        (torch.Size([5, 1]), torch.Size([2, 3]))
    """
    outputs: list[Tensor] = []
    embeddings: list[Tensor] = []
    left = most_embeddings
    with _last_linear(network) as seen:
        for inputs in batches:
            seen.clear()
            made = logits_of(model_outputs(network, inputs))
            scores = made.detach().to("cpu", torch.promote_types(made.dtype, torch.float32)).flatten(1)
            outputs.append(scores)
            if left > 0:
                embeddings.append(_embedding(seen, scores)[:left])
                left -= len(embeddings[-1])
    nothing = torch.empty(0, 0)
    return Activations(torch.cat(outputs) if outputs else nothing, torch.cat(embeddings) if embeddings else nothing)


@contextlib.contextmanager
def _last_linear(network: nn.Module) -> Iterator[list[Any]]:
    """A list of what the linear layer that was called last has got, while the block runs."""
    seen: list[Any] = []

    def look(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen[:] = given[:1]

    hooks = [module.register_forward_pre_hook(look) for module in network.modules() if isinstance(module, nn.Linear)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _embedding(seen: list[Any], scores: Tensor) -> Tensor:
    found = seen[0] if seen else None
    if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != len(scores):
        found = scores
    found = found.detach().cpu().float()
    found = found if found.ndim == 2 else found.flatten(1, -2).mean(dim=1)
    if found.shape[1] > WIDEST:
        found = found[:, torch.linspace(0, found.shape[1] - 1, WIDEST).long()]
    return found
