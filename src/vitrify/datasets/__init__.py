"""Labelled image folders: what is in them, how they are split, and whether every image can be read."""

from vitrify.datasets.checking import BadImage, bad_images_error, check_images
from vitrify.datasets.folder import ImageFolder, scan_folder, scan_train_val
from vitrify.datasets.splitting import stratified_split

__all__ = [
    "BadImage",
    "ImageFolder",
    "bad_images_error",
    "check_images",
    "scan_folder",
    "scan_train_val",
    "stratified_split",
]
