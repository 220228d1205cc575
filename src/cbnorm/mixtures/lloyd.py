"""k-means by Lloyd's updates, streamed in chunks of rows."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cbnorm.mixtures.bounds import NearestCenters
from cbnorm.mixtures.chunks import RowStream
from cbnorm.mixtures.numerics import accumulator_dtype, check_new, full_precision
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
        """Nearest centre of every row of ``data`` (n, D): int64 (n,), the lower index in a tie.

        Raises:
            ValueError: ``data`` are no matrix of finite values with D columns.
        """
        check_new(data, self.centers.shape[1])
        stream = RowStream(data, device=self.centers.device)
        stream.origin = self.centers.mean(0).to(stream.dtype)
        offsets = (self.centers - stream.origin).to(stream.dtype)
        half_norms = 0.5 * offsets.square().sum(1)
        with full_precision(stream.device):
            return stream.gather(
                lambda chunk: torch.addmm(half_norms, chunk, offsets.T, alpha=-1).min(dim=1).indices
            )


def kmeans(
    data: Tensor,
    k: int,
    *,
    init: str | Tensor = "kmeans++",
    restarts: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
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
    best: _Lloyd | None = None
    for _ in range(restarts if isinstance(init, str) else 1):
        candidate = _lloyd(stream, starting_centers(stream, k, init, generator), max_iter, tol)
        if best is None or candidate.history[-1] < best.history[-1]:
            best = candidate
    assert best is not None  # noqa: S101  (at least one restart)
    inertia = _exact_inertia(stream, best.nearest)
    return KMeansResult(
        best.nearest.centers + stream.origin,
        best.nearest.labels,
        torch.bincount(best.nearest.labels, minlength=k),
        inertia,
        (*best.history[:-1], inertia),
        len(best.history) - 1,
        best.converged,
    )


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
        if not init.isfinite().all():
            raise ValueError("init holds NaN or infinity; give finite centres")
        centers = init.to(stream.device, accumulator_dtype(stream.device))
        return centers - stream.origin
    if init != "kmeans++":
        raise ValueError(f"init must be 'kmeans++' or a tensor of centres, not {init!r}")
    return _seeds(stream, k, generator).to(accumulator_dtype(stream.device))


def _seeds(stream: RowStream, k: int, generator: torch.Generator | None) -> Tensor:
    """Rows far from each other, (K, D), relative to the stream's origin."""
    seeds = stream.take(seed_rows(stream, k, generator)[0])
    dtype = accumulator_dtype(stream.device)
    if len(seeds.unique(dim=0)) < k and stream.dtype != dtype:
        # Distances below a thousandth of the distance from the mean are rounding noise in float32.
        # Float64 only here, so that data that can do without keep their draws.
        fine = RowStream.centred(stream.data, dtype=dtype, device=stream.device)
        seeds = stream.take(seed_rows(fine, k, generator)[0])
    if len(seeds.unique(dim=0)) < k:
        raise ValueError(f"data hold fewer than {k} points that can be told apart; lower k")
    return seeds


class _Lloyd(NamedTuple):
    nearest: NearestCenters
    history: list[float]
    converged: bool


@torch.no_grad()
def _lloyd(stream: RowStream, centers: Tensor, max_iter: int, tol: float) -> _Lloyd:
    nearest = NearestCenters(stream, centers)
    limit = tol * nearest.total / (stream.length * stream.width)
    history = [nearest.inertia]
    for _ in range(max_iter):
        updated = _means(stream, nearest)
        moved = float((updated - nearest.centers).square().sum())
        nearest.move(updated)
        history.append(nearest.inertia)
        if moved <= limit:
            return _Lloyd(nearest, history, converged=True)
    return _Lloyd(nearest, history, converged=False)


def _means(stream: RowStream, nearest: NearestCenters) -> Tensor:
    """Means of the cells; an empty cell gets a point that lies farthest from its own centre."""
    means = nearest.sums / nearest.counts.clamp_min(1)[:, None]
    empty = (nearest.counts == 0).nonzero().flatten()
    if len(empty) == 0:
        return means
    farthest = _squared_distances(stream, nearest).topk(len(empty)).indices
    return means.index_copy(0, empty, stream.take(farthest).to(means.dtype))


def _squared_distances(stream: RowStream, nearest: NearestCenters) -> Tensor:
    """Squared distance of every row from its centre, (n,), as a sum of squares."""
    distances = torch.empty(stream.length, dtype=stream.dtype, device=stream.device)
    centers = nearest.centers.to(stream.dtype)
    for rows, chunk in stream:
        own = centers.index_select(0, nearest.labels[rows])
        distances[rows] = own.sub_(chunk).square_().sum(1)
    return distances


def _exact_inertia(stream: RowStream, nearest: NearestCenters) -> float:
    """Free of the cancellation that inertia from sums suffers."""
    return float(_squared_distances(stream, nearest).sum(dtype=nearest.centers.dtype))
