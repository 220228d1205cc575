"""A cluster id for every image: fitted on training images, or given.

Names are imported when first used, so that listing them costs no import of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cbnorm.partitions.activations import Activations
    from cbnorm.partitions.assignment import Assignment, assign
    from cbnorm.partitions.cache import Cache
    from cbnorm.partitions.fit import fit_partition
    from cbnorm.partitions.partition import Partition

__all__ = [
    "METHODS",
    "PIXEL_FEATURES",
    "Activations",
    "Assignment",
    "Cache",
    "Partition",
    "assign",
    "fit_partition",
]

#: Methods of :func:`fit_partition`: clusters that are fitted on images; ids of others come by prediction.
METHODS = ("kmeans", "gmm", "random", "mn_components")
#: Features of the pixels; ``activations`` of a trained network are the other kind.
PIXEL_FEATURES = ("raw", "standardised", "pca64", "mean_rgb")

_HOMES = {
    "Activations": "activations",
    "Assignment": "assignment",
    "Cache": "cache",
    "Partition": "partition",
    "assign": "assignment",
    "fit_partition": "fit",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"cbnorm.partitions.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
