"""The networks of the vision tasks, one family per file: modules that map images to logits.

ViT and ResNet-50 are wrapped models of `transformers`, which is imported when such a model is built.
"""
