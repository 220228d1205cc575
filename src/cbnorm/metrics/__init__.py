"""Measures of sets of features: how close generated images are to real ones, how classes part."""

from cbnorm.metrics.diversity import COLLAPSE, Spread, class_entropy, nearest_labels, spread
from cbnorm.metrics.frechet import Moments, frechet_distance, moments
from cbnorm.metrics.neighbours import Neighbourhood, neighbourhood

__all__ = [
    "COLLAPSE",
    "Moments",
    "Neighbourhood",
    "Spread",
    "class_entropy",
    "frechet_distance",
    "moments",
    "nearest_labels",
    "neighbourhood",
    "spread",
]
