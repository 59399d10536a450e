"""The one implementation of preprocessing: bytes to tensor."""

from vitrify.pixels.decode import IMAGE_SUFFIXES, MAX_PIXELS, decode
from vitrify.pixels.preprocess import ImageSource, crop_from_image, normalise, preprocess, read_rgb
from vitrify.pixels.resize import centre_crop, resize, resized_size

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "ImageSource",
    "centre_crop",
    "crop_from_image",
    "decode",
    "normalise",
    "preprocess",
    "read_rgb",
    "resize",
    "resized_size",
]
