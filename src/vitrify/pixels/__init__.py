"""The one implementation of preprocessing: bytes to tensor, by the C++ core that the C++ runtime links too."""

from vitrify.pixels.decode import IMAGE_SUFFIXES, decode
from vitrify.pixels.limits import DecodeLimits
from vitrify.pixels.preprocess import Decoders, ImageSource, named, native_source, preprocess, read_rgb, source_name
from vitrify.pixels.resize import resize

__all__ = [
    "IMAGE_SUFFIXES",
    "DecodeLimits",
    "Decoders",
    "ImageSource",
    "decode",
    "named",
    "native_source",
    "preprocess",
    "read_rgb",
    "resize",
    "source_name",
]
