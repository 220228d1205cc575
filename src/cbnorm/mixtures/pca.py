"""Principal components of a matrix streamed in chunks of rows."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cbnorm.mixtures.chunks import RowStream
from cbnorm.mixtures.numerics import full_precision

# Up to this many features the covariance matrix and all its eigenvectors are cheaper.
_EXACT_WIDTH = 768
_EXTRA_COLUMNS = 32


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
        iterations: Passes of subspace iteration; 0 if the covariance matrix was decomposed.
    """

    mean: Tensor
    scale: Tensor
    components: Tensor
    variances: Tensor
    total_variance: float
    iterations: int

    @torch.no_grad()
    def transform(self, data: Tensor) -> Tensor:
        """Coordinates of the rows of ``data`` (n, D) along the components, (n, d), float64."""
        stream = RowStream(data, dtype=self.mean.dtype, device=self.mean.device)
        stream.origin = self.mean
        projection = (self.components / self.scale).T
        return stream.gather(lambda chunk: chunk @ projection)


@torch.no_grad()
def pca(data: Tensor, d: int, *, standardise: bool = False, device: torch.device | None = None) -> PCA:
    """The ``d`` directions of largest variance among the rows of ``data``.

    Deterministic. Wide data go through subspace iteration until the ``d`` variances change by
    less than 1e-6 of themselves, or 30 passes are made; others through their covariance matrix.

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
        values, vectors, passes = _iterate(stream, scale, d)
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


def _iterate(stream: RowStream, scale: Tensor, d: int) -> tuple[Tensor, Tensor, int]:
    """The same by subspace iteration from a fixed random start, and the number of passes."""
    width = min(d + _EXTRA_COLUMNS, stream.width, stream.length)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(stream.width, width, generator=generator, dtype=scale.dtype, device="cpu")
    basis = torch.linalg.qr(start.to(scale.device)).Q
    values = scale.new_zeros(width)
    for passes in range(1, 31):
        image = _covariance_times(stream, scale, basis)
        small = basis.T @ image
        updated, rotation = torch.linalg.eigh((small + small.T) / 2)
        updated, rotation = updated.flip(0), rotation.flip(1)
        settled = (updated - values)[:d].abs() <= 1e-6 * updated[:d].abs()
        if settled.all():
            return updated[:d], (basis @ rotation)[:, :d], passes
        values, basis = updated, torch.linalg.qr(image @ rotation).Q
    image = _covariance_times(stream, scale, basis)
    values, rotation = torch.linalg.eigh(basis.T @ image)
    return values.flip(0)[:d], (basis @ rotation.flip(1))[:, :d], passes


def _covariance_times(stream: RowStream, scale: Tensor, basis: Tensor) -> Tensor:
    scaled = (basis / scale[:, None]).to(stream.dtype)
    image = torch.zeros_like(basis)
    with full_precision(stream.device):
        for _, chunk in stream:
            image += chunk.T @ (chunk @ scaled)
    return image / stream.length / scale[:, None]
