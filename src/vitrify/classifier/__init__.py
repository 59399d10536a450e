"""Image bytes to labels, over any runtime."""

from vitrify.classifier.classifier import (
    Classifier,
    Failure,
    LabelScore,
    Prediction,
    probabilities,
    top_labels,
)
from vitrify.classifier.options import ClassifierOptions
from vitrify.classifier.sources import expand_sources, pick_evenly

__all__ = [
    "Classifier",
    "ClassifierOptions",
    "Failure",
    "LabelScore",
    "Prediction",
    "expand_sources",
    "pick_evenly",
    "probabilities",
    "top_labels",
]
