"""Image bytes to labels, over any runtime."""

from vitrify.classifier.classifier import Classifier, Failure, PrecisionChoice, Prediction
from vitrify.classifier.postprocess import LabelScore, probabilities, top_labels
from vitrify.classifier.sources import expand_sources, pick_evenly

__all__ = [
    "Classifier",
    "Failure",
    "LabelScore",
    "PrecisionChoice",
    "Prediction",
    "expand_sources",
    "pick_evenly",
    "probabilities",
    "top_labels",
]
