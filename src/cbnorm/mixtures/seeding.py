"""k-means++ seeding (Arthur & Vassilvitskii 2007), with greedy choice among several candidates."""

import math

import torch
from torch import Tensor

from cbnorm.mixtures.chunks import RowStream
from cbnorm.mixtures.numerics import (
    accumulator_dtype,
    check_matrix,
    check_number,
    compute_dtype,
    full_precision,
)


@torch.no_grad()
def kmeans_plusplus(data: Tensor, k: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Choose ``k`` rows of ``data`` as centres, far from each other with high probability.

    Each centre after the first is the best of ``2 + ⌊ln k⌋`` rows drawn with probability
    proportional to the squared distance from the centres chosen so far; best means that it
    lowers the sum of these squared distances most. Nothing is read back from the device.

    Args:
        data: Points, (n, D).
        k: Number of centres, 1 ≤ k ≤ n. With fewer than ``k`` distinct rows some centres coincide;
            rows closer than 1.4e-3 of their distance from the mean count as one in float32.
        generator: Source of randomness, on any device; the global generator if None.

    Returns:
        Centres, (K, D), rows of ``data`` in floating point.

    Raises:
        ValueError: If ``data`` is not a non-empty matrix or ``k`` is out of range.

    Example:
        >>> points = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
        >>> centers = kmeans_plusplus(points, 2, generator=torch.Generator().manual_seed(0))
        >>> sorted(centers.flatten().round().tolist())
        [0.0, 9.0]
    """
    check_matrix(data)
    stream = RowStream(data)
    stream.origin = data.to(compute_dtype(data)).mean(0)
    stream.keep()
    return data[seed_rows(stream, k, generator)[0]].to(stream.dtype)


def seed_rows(stream: RowStream, k: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """The rows chosen as centres, (K,), and every row's squared distance from the nearest, (n,)."""
    check_number(k, stream.length)
    norms = stream.gather(lambda chunk: chunk.square().sum(1))
    trials = 2 + int(math.log(k))
    draws = _uniform((k, trials), stream.device, generator)
    chosen = [(draws[0, :1] * stream.length).long()]
    nearest = _squared_distances(stream, norms, chosen[0])[:, 0]
    for step in range(1, k):
        candidates = draw_proportionally(nearest, draws[step])
        reduced = torch.minimum(nearest[:, None], _squared_distances(stream, norms, candidates))
        best = reduced.sum(0, dtype=accumulator_dtype(stream.device)).argmin(keepdim=True)
        chosen.append(candidates[best])
        nearest = reduced.index_select(1, best)[:, 0]
    return torch.cat(chosen), nearest


def _uniform(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    source = device if generator is None else generator.device
    dtype = accumulator_dtype(source)
    return torch.rand(shape, generator=generator, device=source, dtype=dtype).to(device)


def _squared_distances(stream: RowStream, norms: Tensor, rows: Tensor) -> Tensor:
    """Squared distances (n, len(rows)) from all points to some; rounding noise is set to zero."""
    targets = stream.take(rows)
    with full_precision(stream.device):
        products = stream.gather(lambda chunk: chunk @ targets.T)
    sums = norms[:, None] + norms[rows]
    distances = sums - 2 * products
    noise = 8 * torch.finfo(stream.dtype).eps * sums
    return torch.where(distances <= noise, 0.0, distances)


def draw_proportionally(masses: Tensor, uniforms: Tensor) -> Tensor:
    """Indices drawn with probabilities proportional to ``masses``, one for each of ``uniforms``."""
    cumulative = masses.cumsum(0, dtype=accumulator_dtype(masses.device))
    targets = uniforms.to(cumulative.dtype) * cumulative[-1]
    return torch.searchsorted(cumulative, targets, right=True).clamp(max=len(masses) - 1)
