"""Models of the package `transformers`, randomly initialized, as modules that map images to logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from letsam.tasks.errors import TaskError


class Logits(nn.Module):
    """An image classifier of `transformers` whose forward pass takes images and returns only the logits.

    Args:
        model: The classifier, called with ``pixel_values``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape ``(batch, channels, side, side)`` to logits of shape ``(batch, classes)``."""
        return self.model(pixel_values=images).logits


def vit(
    *,
    side: int,
    patch: int,
    width: int,
    depth: int,
    heads: int,
    mlp_ratio: int = 4,
    initial_std: float = 0.02,
    channels: int = 3,
    classes: int = 10,
) -> Logits:
    """A vision transformer without dropout.

    Args:
        side: Side of the images in pixels, a multiple of ``patch``.
        patch: Side of a patch in pixels; each patch is a token.
        width: Embedding dimension, a multiple of ``heads``.
        depth: Number of layers.
        heads: Number of attention heads.
        mlp_ratio: Width of the hidden layers, as a multiple of ``width``.
        initial_std: Standard deviation of the initial weights. The usual 0.02 is small for a small ``width``, where
            ``width ** -0.5`` shortens the initial plateau of the loss.
        channels: Channels of the images.
        classes: Number of logits.

    Returns:
        The model.

    Raises:
        TaskError: If `transformers` is missing.

    Reference:
        A. Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021.
    """
    transformers = import_transformers("vit")
    config = transformers.ViTConfig(
        image_size=side,
        patch_size=patch,
        num_channels=channels,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=mlp_ratio * width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=initial_std,
        num_labels=classes,
    )
    return Logits(transformers.ViTForImageClassification(config))


def vit_s(*, side: int, patch: int, classes: int) -> Logits:
    """ViT-S: 12 layers, embedding dimension 384, 6 heads.

    Args:
        side: Side of the images.
        patch: Side of a patch.
        classes: Number of logits.

    Returns:
        The model; 21 million weights for CIFAR (patch size 4), 22 million for ImageNet (patch size 16).

    Reference:
        H. Touvron et al., "Training data-efficient image transformers", ICML 2021, table 1 (DeiT-S).
    """
    return vit(side=side, patch=patch, width=384, depth=12, heads=6, classes=classes)


def resnet50(*, classes: int) -> Logits:
    """ResNet-50 for ImageNet; 25.6 million weights.

    Args:
        classes: Number of logits.

    Returns:
        The model.

    Raises:
        TaskError: If `transformers` is missing.

    Reference:
        K. He et al., "Deep residual learning for image recognition", CVPR 2016, table 1 (stride in the 3x3
        convolution, as in all later work).
    """
    transformers = import_transformers("resnet50")
    return Logits(transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=classes)))


def import_transformers(model: str) -> Any:
    """Import the package `transformers`.

    Args:
        model: Name of the model that needs it, for the error message.

    Returns:
        The package.

    Raises:
        TaskError: If it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise TaskError(
            f'model {model!r} needs the package transformers; install it with `pip install "letsam[tasks]"`'
        ) from error
    return transformers
