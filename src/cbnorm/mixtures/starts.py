"""Where EM starts: the moments of the cells of k-means++ seeds, k-means centres or given centres."""

import torch
from torch import Tensor

from cbnorm.mixtures.chunks import RowStream
from cbnorm.mixtures.climb import update
from cbnorm.mixtures.covariances import Parameters
from cbnorm.mixtures.lloyd import kmeans, starting_centers


@torch.no_grad()
def starting_parameters(
    stream: RowStream,
    k: int,
    init: str | Tensor,
    covariance: str,
    floor: float,
    generator: torch.Generator | None,
) -> Parameters:
    """The moments of the cells around some centres, which EM starts from."""
    if isinstance(init, str) and init not in {"kmeans", "kmeans++"}:
        raise ValueError(f"init must be 'kmeans++', 'kmeans', centres or a mixture, not {init!r}")
    if isinstance(init, str) and init == "kmeans":
        init = kmeans(stream.data, k, generator=generator, device=stream.device).centers
    centers = starting_centers(stream, k, init, generator) + stream.origin
    variance = max(float(stream.variances().mean()), floor)
    weights = centers.new_full((k,), 1 / k)
    # Under equal weights and spheres the best component is the nearest centre.
    spheres = Parameters(weights, centers, _isotropic(centers, covariance, variance))
    return update(stream, spheres, covariance, floor, hard=True)[0]


def _isotropic(centers: Tensor, covariance: str, variance: float) -> Tensor:
    k, width = centers.shape
    if covariance == "spherical":
        return centers.new_full((k,), variance)
    if covariance == "diagonal":
        return centers.new_full((k, width), variance)
    matrix = variance * torch.eye(width, dtype=centers.dtype, device=centers.device)
    return matrix if covariance == "tied" else matrix.expand(k, width, width)
