"""The networks of the whole steps: at least a million weights, batches of random images that pass through them."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from letsam.tasks.models.choice import channels_last
from letsam.tasks.models.cnn import cnn
from letsam.tasks.models.from_transformers import vit
from letsam.tasks.models.resnet import resnet


def mlp(*widths: int) -> nn.Module:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inner, outer in pairwise(widths):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {  # and the shape of a batch
    "mlp": (lambda: mlp(784, 1024, 1024, 10), (512, 1, 28, 28)),
    "cnn": (lambda: channels_last(cnn((32, 64, 128), 1024)), (128, 1, 28, 28)),
    "resnet": (lambda: channels_last(resnet((16, 32, 64, 176), blocks=2)), (64, 3, 32, 32)),
    "vit": (lambda: vit(side=32, patch=8, width=128, depth=6, heads=4), (64, 3, 32, 32)),
}


class Network:
    """A network with a training batch and a validation batch; its passes are counted and timed."""

    def __init__(self, make: Callable[[], nn.Module], shape: tuple[int, ...], dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.model = make().to(dtype)
        self.params = list(self.model.parameters())
        images = [torch.randn(shape, dtype=dtype) for _ in range(2)]
        self.batches = [(x, x.flatten(1)[:, :10].argmax(dim=1)) for x in images]
        self.seconds = 0.0
        self.passes = 0

    def loss(self, batch: int) -> Tensor:
        """Cross-entropy on one of the two batches."""
        images, labels = self.batches[batch]
        return nn.functional.cross_entropy(self.model(images), labels)

    def train(self) -> Tensor:
        """A pass on the training batch."""
        return self._pass(0)

    def validate(self) -> Tensor:
        """A pass on the validation batch."""
        return self._pass(1)

    @torch.enable_grad()
    def _pass(self, batch: int) -> Tensor:
        started = time.process_time()
        self.model.zero_grad()
        loss = self.loss(batch)
        loss.backward()
        self.seconds += time.process_time() - started
        self.passes += 1
        return loss.detach()


def network(name: str, dtype: torch.dtype = torch.float32) -> Network:
    """One of `NETWORKS`."""
    return Network(*NETWORKS[name], dtype)
