"""Facial-expression recognition: images in, trained float32 model out."""

__version__ = "0.1.0"
