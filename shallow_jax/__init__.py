"""Shallow students trained on the logits of deep teachers, in JAX."""

__version__ = '0.1.0'
