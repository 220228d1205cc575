"""How close generated images are to real ones, and how varied: measures of sets of features."""

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
