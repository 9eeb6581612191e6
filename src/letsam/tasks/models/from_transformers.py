"""Models of the package `transformers`, with fresh weights, as modules from images to logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from letsam.tasks.errors import TaskError


class Logits(nn.Module):
    """A classifier of `transformers` whose forward pass takes images and gives the logits alone.

    Args:
        model: The classifier.
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
        side: Side of the images, a multiple of ``patch``.
        patch: Side of a patch; a token each.
        width: Numbers per token, a multiple of ``heads``.
        depth: Layers.
        heads: Attention heads.
        mlp_ratio: Width of the hidden layers, as a multiple of ``width``.
        initial_std: Standard deviation of the initial weights; the usual 0.02 is small for few numbers per token, where
            ``width ** -0.5`` starts training sooner.
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
    """ViT-S: 12 layers, tokens of 384, 6 heads.

    Args:
        side: Side of the images.
        patch: Side of a patch.
        classes: Number of logits.

    Returns:
        The model; 21 million weights for CIFAR (patches of 4), 22 million for ImageNet (patches of 16).

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
    """The package `transformers`, imported now.

    Args:
        model: What it is needed for, for the error.

    Returns:
        The package.

    Raises:
        TaskError: If it is missing.
    """
    try:
        import transformers
    except ImportError as error:
        raise TaskError(
            f'model {model!r} needs the package transformers; install it with `pip install "letsam[tasks]"`'
        ) from error
    return transformers
