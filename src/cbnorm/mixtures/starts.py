"""Where EM starts: the moments of the cells of seeds, of k-means or given centres; or a given mixture."""

import torch
from torch import Tensor

from cbnorm.mixtures.chunks import RowStream
from cbnorm.mixtures.climb import update
from cbnorm.mixtures.covariances import Parameters
from cbnorm.mixtures.lloyd import kmeans, starting_centers
from cbnorm.mixtures.numerics import accumulator_dtype


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


@torch.no_grad()
def given_parameters(stream: RowStream, given: Parameters, covariance: str) -> Parameters:
    """A mixture to go on from, in the accumulators' type, its weights divided by their sum.

    Raises:
        ValueError: If weights or covariances are of the wrong shape, anything is not finite, or a
            weight or a variance along any direction is not positive.
    """
    k, width = given.means.shape
    shapes = {"diagonal": (k, width), "spherical": (k,), "tied": (width, width), "full": (k, width, width)}
    if given.weights.shape != (k,) or given.covariances.shape != shapes[covariance]:
        raise ValueError(
            f"init has weights of shape {tuple(given.weights.shape)} and covariances of shape"
            f" {tuple(given.covariances.shape)}; give a mixture with ({k},) and {shapes[covariance]}"
        )
    dtype = accumulator_dtype(stream.device)
    weights, means, covariances = (tensor.detach().to(stream.device, dtype) for tensor in given)
    finite = all(tensor.isfinite().all() for tensor in (weights, means, covariances))
    if not finite or not (weights > 0).all() or not _positive(covariances, covariance):
        raise ValueError(
            "init holds weights or covariances that are not positive, NaN or infinity; give a proper mixture"
        )
    return Parameters(weights / weights.sum(), means, covariances)


def _positive(covariances: Tensor, covariance: str) -> bool:
    """Whether all variances are, along every direction."""
    if covariance in {"diagonal", "spherical"}:
        return bool((covariances > 0).all())
    return bool((torch.linalg.cholesky_ex(covariances).info == 0).all())


def _isotropic(centers: Tensor, covariance: str, variance: float) -> Tensor:
    k, width = centers.shape
    if covariance == "spherical":
        return centers.new_full((k,), variance)
    if covariance == "diagonal":
        return centers.new_full((k, width), variance)
    matrix = variance * torch.eye(width, dtype=centers.dtype, device=centers.device)
    return matrix if covariance == "tied" else matrix.expand(k, width, width)
