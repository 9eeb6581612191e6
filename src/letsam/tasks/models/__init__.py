"""The networks of the vision tasks, one family per file: plain modules from images to logits.

Those of `transformers` (ViT, ResNet-50) are only wrapped; the package is imported when such a model is made.
"""
