"""k-means and Gaussian mixtures: tensors in, tensors out; torch is the only import.

Two levels. The functional core (:func:`kmeans_plusplus`, :func:`em_step`, :func:`online_em_step`,
:func:`log_responsibilities`) works on one tensor and reads nothing back from the device, so that a
layer's forward can call it; mixture normalization calls the first two. :func:`kmeans`, :func:`fit_mixture`
and :func:`pca` fit whole data sets of any numeric type, read in chunks, and report how it went.
"""

from cbnorm.mixtures.diagonal import Mixture, em_step, log_responsibilities, mixture_from_centers
from cbnorm.mixtures.gaussian import MixtureFit, fit_mixture
from cbnorm.mixtures.lloyd import KMeansResult, kmeans
from cbnorm.mixtures.online import online_em_step
from cbnorm.mixtures.pca import PCA, pca
from cbnorm.mixtures.seeding import kmeans_plusplus

__all__ = [
    "PCA",
    "KMeansResult",
    "Mixture",
    "MixtureFit",
    "em_step",
    "fit_mixture",
    "kmeans",
    "kmeans_plusplus",
    "log_responsibilities",
    "mixture_from_centers",
    "online_em_step",
    "pca",
]
