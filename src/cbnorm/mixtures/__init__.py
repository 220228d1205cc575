"""k-means and Gaussian mixtures: tensors in, tensors out; torch is the only import.

Two levels. The functional core (:func:`kmeans_plusplus`, :func:`em_step`,
:func:`log_responsibilities`) works on one tensor, reads nothing back from the device, and is
what a layer's forward calls on every batch.
"""

from cbnorm.mixtures.diagonal import Mixture, em_step, log_responsibilities, mixture_from_centers
from cbnorm.mixtures.seeding import kmeans_plusplus

__all__ = [
    "Mixture",
    "em_step",
    "kmeans_plusplus",
    "log_responsibilities",
    "mixture_from_centers",
]
