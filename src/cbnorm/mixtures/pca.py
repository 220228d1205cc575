"""Principal components of a matrix streamed in chunks of rows."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cbnorm.mixtures.chunks import RowStream
from cbnorm.mixtures.numerics import full_precision

# Up to this many features the covariance matrix and all its eigenvectors are cheaper.
_EXACT_WIDTH = 768
_BLOCK = 32
_PASSES = 40


@dataclass(frozen=True)
class PCA:
    """Outcome of :func:`pca`.

    Attributes:
        mean: (D,), float64.
        scale: What every feature is divided by, (D,), float64; ones unless standardised.
        components: Orthonormal rows, (d, D), float64, the one of largest variance first; the
            entry of largest magnitude in a row is positive.
        variances: Variances along the components, (d,), float64.
        total_variance: Sum of the variances of all (scaled) features.
        passes: Passes of block Lanczos iteration; 0 if the covariance matrix was decomposed.
    """

    mean: Tensor
    scale: Tensor
    components: Tensor
    variances: Tensor
    total_variance: float
    passes: int

    @torch.no_grad()
    def transform(self, data: Tensor) -> Tensor:
        """Coordinates of the rows of ``data`` (n, D) along the components, (n, d), float64."""
        stream = RowStream(data, dtype=self.mean.dtype, device=self.mean.device)
        stream.origin = self.mean
        projection = (self.components / self.scale).T
        return stream.gather(lambda chunk: chunk @ projection)


@torch.no_grad()
def pca(data: Tensor, d: int, *, standardise: bool = False, device: torch.device | str | None = None) -> PCA:
    """The ``d`` directions of largest variance among the rows of ``data``.

    Deterministic. More than 768 features go through block Lanczos iteration until ``C v = λ v``
    holds to a ten-thousandth, or 40 passes are made; fewer through their covariance matrix.

    Args:
        data: Points, (n, D), of any numeric type, converted to floating point chunk by chunk.
        d: Number of components, 1 ≤ d ≤ min(n, D).
        standardise: Divide every feature by its standard deviation first; constant features
            are left as they are, and contribute nothing.
        device: Where to compute; the device of ``data`` if None.

    Returns:
        Mean, scale, components and their variances.

    Raises:
        ValueError: If ``data`` is empty or not finite or ``d`` is out of range.

    Example:
        >>> line = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
        >>> result = pca(line, 1)
        >>> result.components, result.transform(line).flatten()
        (tensor([[0.7071, 0.7071]], dtype=torch.float64),
         tensor([-1.4142,  0.0000,  1.4142], dtype=torch.float64))
    """
    stream = RowStream.centred(data, device=device)
    if not 1 <= d <= min(stream.length, stream.width):
        raise ValueError(
            f"d must lie between 1 and {min(stream.length, stream.width)},"
            f" the smaller side of the data, not {d}"
        )
    variances = stream.variances()
    scale = variances.sqrt() if standardise else torch.ones_like(variances)
    scale = torch.where(scale > 0, scale, 1.0)
    total = float((variances / scale.square()).sum())
    if stream.width <= _EXACT_WIDTH:
        values, vectors, passes = *_decompose(stream, scale, d), 0
    else:
        values, vectors, passes = _krylov(stream, scale, d)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    components = (vectors * largest.sign()).T.contiguous()
    return PCA(stream.origin.to(scale.dtype), scale, components, values.clamp_min(0), total, passes)


def _decompose(stream: RowStream, scale: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """Leading eigenvalues (d,) and eigenvectors (D, d) of the covariance matrix."""
    scatter = scale.new_zeros(stream.width, stream.width)
    with full_precision(stream.device):
        for _, chunk in stream:
            scatter += chunk.T @ chunk
    covariance = scatter / stream.length / torch.outer(scale, scale)
    values, vectors = torch.linalg.eigh(covariance)
    return values.flip(0)[:d], vectors.flip(1)[:, :d]


def _krylov(stream: RowStream, scale: Tensor, d: int) -> tuple[Tensor, Tensor, int]:
    """The same by block Lanczos from a fixed random start, and the number of passes over the data.

    Each pass multiplies one block of vectors by the covariance matrix and adds what is new in
    the product to the basis, in which the matrix is then diagonalised.
    """
    # The points span at most `length` directions, none of which the random start lies in.
    limit = min(stream.width, stream.length + _BLOCK)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(stream.width, min(_BLOCK, limit), generator=generator, dtype=scale.dtype)
    block = torch.linalg.qr(start.to(scale.device)).Q
    basis, images = block, _covariance_times(stream, scale, block)
    for _ in range(_PASSES):
        small = basis.T @ images
        values, rotation = torch.linalg.eigh((small + small.T) / 2)
        values, rotation = values.flip(0)[:d], rotation.flip(1)[:, :d]
        if basis.shape[1] >= limit or (basis.shape[1] >= d and _settled(basis, images, values, rotation)):
            break
        room = min(block.shape[1], limit - basis.shape[1])
        block = _new_directions(basis, images[:, -block.shape[1] :])[:, :room]
        basis = torch.cat([basis, block], dim=1)
        images = torch.cat([images, _covariance_times(stream, scale, block)], dim=1)
    return values, basis @ rotation, -(-basis.shape[1] // _BLOCK)


def _settled(basis: Tensor, images: Tensor, values: Tensor, rotation: Tensor) -> bool:
    """Whether every leading pair satisfies C v = λ v to a ten-thousandth of λ."""
    residuals = images @ rotation - basis @ rotation * values
    noise = 1e-7 * values[0]
    return bool((residuals.norm(dim=0) <= 1e-4 * values + noise).all())


def _new_directions(basis: Tensor, block: Tensor) -> Tensor:
    """Orthonormal columns that span what ``block`` adds to ``basis``."""
    # Twice is enough: a single projection leaves rounding of the size of what it removed.
    for _ in range(2):
        block = torch.linalg.qr(block - basis @ (basis.T @ block)).Q
    return block


def _covariance_times(stream: RowStream, scale: Tensor, basis: Tensor) -> Tensor:
    scaled = (basis / scale[:, None]).to(stream.dtype)
    image = torch.zeros_like(basis)
    with full_precision(stream.device):
        for _, chunk in stream:
            image += chunk.T @ (chunk @ scaled)
    return image / stream.length / scale[:, None]
