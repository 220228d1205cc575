"""A cluster id for every image, fitted on training images only.

Names are imported when first used, so that listing them costs no import of torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cbnorm.partitions.fit import fit_partition
    from cbnorm.partitions.partition import Partition

__all__ = ["FEATURES", "METHODS", "Partition", "fit_partition"]

METHODS = ("kmeans", "gmm", "random")
FEATURES = ("raw", "standardised", "pca64", "mean_rgb")


def __getattr__(name: str) -> Any:
    if name == "fit_partition":
        from cbnorm.partitions.fit import fit_partition

        return fit_partition
    if name == "Partition":
        from cbnorm.partitions.partition import Partition

        return Partition
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
