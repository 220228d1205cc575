"""k-means by Lloyd's algorithm, streamed in chunks of rows."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cbnorm.mixtures.chunks import RowStream
from cbnorm.mixtures.numerics import accumulator_dtype, full_precision
from cbnorm.mixtures.seeding import seed_rows


@dataclass(frozen=True)
class KMeansResult:
    """Outcome of :func:`kmeans`.

    Attributes:
        centers: (K, D), float64.
        labels: Nearest centre of every row of the data, int64 (n,).
        counts: Rows per cluster, int64 (K,).
        inertia: Sum of squared distances from the nearest centres.
        history: Inertia before each update and after the last; never increases.
        iterations: Number of updates made.
        converged: Whether the centres came to rest before ``max_iter``.
    """

    centers: Tensor
    labels: Tensor
    counts: Tensor
    inertia: float
    history: tuple[float, ...]
    iterations: int
    converged: bool

    def predict(self, data: Tensor) -> Tensor:
        """Nearest centre of every row of ``data`` (n, D): int64 (n,), the lower index in a tie."""
        stream = RowStream(data)
        stream.origin = self.centers.mean(0).to(stream.dtype)
        return nearest_center(stream, self.centers)


def kmeans(
    data: Tensor,
    k: int,
    *,
    init: str | Tensor = "kmeans++",
    restarts: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> KMeansResult:
    """Cluster the rows of ``data`` around ``k`` centres of least total squared distance.

    A centre that loses all its points moves to the point farthest from its own centre.

    Args:
        data: Points, (n, D), of any numeric type, converted to floating point chunk by chunk.
        k: Number of clusters.
        init: ``"kmeans++"``, or the centres to start from, (K, D).
        restarts: Number of independent starts, of which the one of least inertia is returned.
        max_iter: Largest number of updates.
        tol: The centres are at rest when the sum of their squared moves is at most ``tol`` times
            the mean variance of the features.
        generator: Source of randomness; the global generator if None.
        device: Where to compute; the device of ``data`` if None.

    Returns:
        Centres, labels and a report of the convergence.

    Raises:
        ValueError: If ``data`` is empty or not finite, holds fewer than ``k`` distinct points,
            or an argument is out of range.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
        >>> result = kmeans(points, 2, generator=torch.Generator().manual_seed(0))
        >>> sorted(result.centers.flatten().tolist()), result.inertia
        ([0.5, 9.5], 1.0)
    """
    stream = RowStream.centred(data, device=device)
    if restarts < 1 or max_iter < 1 or tol < 0:
        raise ValueError(
            f"restarts and max_iter must be at least 1 and tol at least 0, not {restarts}, {max_iter}, {tol}"
        )
    variances = stream.variances()
    runs = 1 if isinstance(init, Tensor) else restarts
    best: _Lloyd | None = None
    for _ in range(runs):
        start = starting_centers(stream, k, init, generator)
        candidate = _lloyd(stream, start, variances, max_iter, tol)
        if best is None or candidate.history[-1] < best.history[-1]:
            best = candidate
    assert best is not None  # noqa: S101  (at least one restart)
    centers = best.centers + stream.origin
    labels = nearest_center(stream, centers)
    counts = torch.bincount(labels, minlength=k)
    history = tuple(best.history)
    return KMeansResult(centers, labels, counts, history[-1], history, len(history) - 1, best.converged)


@torch.no_grad()
def starting_centers(
    stream: RowStream, k: int, init: str | Tensor, generator: torch.Generator | None
) -> Tensor:
    """Centres to start from, (K, D), relative to the stream's origin, in float64.

    Raises:
        ValueError: If ``init`` is of the wrong shape or name, or the data cannot be told apart.
    """
    if isinstance(init, Tensor):
        if init.shape != (k, stream.width):
            raise ValueError(f"init must have shape ({k}, {stream.width}), not {tuple(init.shape)}")
        centers = init.to(stream.device, accumulator_dtype(stream.device))
        return centers - stream.origin
    if init != "kmeans++":
        raise ValueError(f"init must be 'kmeans++' or a tensor of centres, not {init!r}")
    rows, _ = seed_rows(stream, k, generator)
    seeds = stream.take(rows)
    if len(seeds.unique(dim=0)) < k:
        raise ValueError(f"data hold fewer than {k} points that can be told apart; lower k")
    return seeds.to(accumulator_dtype(stream.device))


def nearest_center(stream: RowStream, centers: Tensor) -> Tensor:
    """Index of the nearest of ``centers`` (K, D) for every row of the stream, int64 (n,)."""
    offsets = centers - stream.origin
    return stream.gather(lambda chunk: _assign(chunk, offsets)[1])


class _Lloyd(NamedTuple):
    centers: Tensor
    history: list[float]
    converged: bool


@torch.no_grad()
def _lloyd(stream: RowStream, centers: Tensor, variances: Tensor, max_iter: int, tol: float) -> _Lloyd:
    total = float(variances.sum()) * stream.length
    limit = tol * float(variances.mean())
    sums, counts, gain = _sweep(stream, centers)
    history = [total + gain]
    for _ in range(max_iter):
        updated = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centers)
        updated = _relocate(stream, centers, updated, counts)
        moved = float((updated - centers).square().sum())
        centers = updated
        sums, counts, gain = _sweep(stream, centers)
        history.append(total + gain)
        if moved <= limit:
            return _Lloyd(centers, history, converged=True)
    return _Lloyd(centers, history, converged=False)


def _assign(chunk: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Half the squared distance from the nearest centre, less half the point's norm; and its index."""
    half_norms = (0.5 * centers.square().sum(1)).to(chunk.dtype)
    with full_precision(chunk.device):
        scores = torch.addmm(half_norms, chunk, centers.T.to(chunk.dtype), alpha=-1)
    best, ids = scores.min(dim=1)
    return best, ids


def _sweep(stream: RowStream, centers: Tensor) -> tuple[Tensor, Tensor, float]:
    """Sums and counts of the points of every cell, and the inertia less the points' norms."""
    sums, counts = torch.zeros_like(centers), torch.zeros_like(centers[:, 0])
    gain = centers.new_zeros(())
    index = torch.arange(len(centers), device=centers.device)
    for _, chunk in stream:
        best, ids = _assign(chunk, centers)
        members = (ids[:, None] == index).to(chunk.dtype)
        with full_precision(chunk.device):
            sums += members.T @ chunk
        counts += members.sum(0)
        gain += 2 * best.sum(dtype=gain.dtype)
    return sums, counts, float(gain)


def _relocate(stream: RowStream, old: Tensor, updated: Tensor, counts: Tensor) -> Tensor:
    """Move the centres of empty cells to the points farthest from their own centres."""
    empty = (counts == 0).nonzero().flatten()
    if len(empty) == 0:
        return updated
    distances = stream.gather(lambda chunk: chunk.square().sum(1) + 2 * _assign(chunk, old)[0])
    farthest = stream.take(distances.topk(len(empty)).indices)
    return updated.index_copy(0, empty, farthest.to(updated.dtype))
