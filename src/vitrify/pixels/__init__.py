"""The one implementation of preprocessing: bytes to tensor, by the C++ core that the C++ runtime links too."""

from vitrify.pixels.decode import IMAGE_SUFFIXES, MAX_PIXELS, decode
from vitrify.pixels.preprocess import ImageSource, preprocess, read_rgb
from vitrify.pixels.resize import resize

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "ImageSource", "decode", "preprocess", "read_rgb", "resize"]
