"""Nearest centres kept up to date with bounds on distances, so that few points are looked at again.

Hamerly (2010): a point keeps its centre without a look as long as an upper bound on the distance
to it lies below a lower bound on the distance to every other; when centres move, the bounds move
by as much (triangle inequality). Bounds are slack by what rounding can do to a distance.
"""

import torch
from torch import Tensor

from cbnorm.mixtures.chunks import RowStream
from cbnorm.mixtures.numerics import full_precision

# Relative to the squared norms that a squared distance is the difference of.
_ROUNDING = 32


class NearestCenters:
    """Labels of all rows of a stream, with sums and counts of every cell, while centres move.

    Args:
        stream: The points.
        centers: (K, D), relative to the stream's origin, in the accumulators' type.

    Attributes:
        centers: Where the centres are now.
        labels: Index of the nearest centre, int64 (n,).
        sums: Sum of the points of every cell, (K, D).
        counts: Points of every cell, (K,).
        total: Sum of the squared norms of all points.
    """

    def __init__(self, stream: RowStream, centers: Tensor) -> None:
        self._stream = stream
        self.centers = centers
        self.sums = torch.zeros_like(centers)
        self.counts = torch.zeros_like(centers[:, 0])
        self.labels = torch.empty(stream.length, dtype=torch.int64, device=stream.device)
        self._norms, self._upper, self._lower = torch.empty(
            3, stream.length, dtype=stream.dtype, device=stream.device
        )
        for rows, chunk in stream:
            self._norms[rows] = chunk.square().sum(1)
            self.labels[rows], self._upper[rows], self._lower[rows] = self._look(chunk, self._norms[rows])
            members = torch.nn.functional.one_hot(self.labels[rows], len(centers)).to(chunk.dtype)
            with full_precision(chunk.device):
                self.sums += members.T @ chunk
            self.counts += members.sum(0)
        self.total = float(self._norms.sum(dtype=centers.dtype))

    @property
    def inertia(self) -> float:
        """Sum of squared distances of the points from their centres, from the sums alone."""
        between = (self.centers * (self.counts[:, None] * self.centers - 2 * self.sums)).sum()
        return max(self.total + float(between), 0.0)

    def move(self, centers: Tensor) -> None:
        """Move the centres to ``centers`` (K, D) and bring labels, sums and counts up to date."""
        moves = (centers - self.centers).norm(dim=1)
        self.centers = centers
        self._upper += moves.to(self._upper.dtype)[self.labels]
        self._lower -= _largest_other(moves).to(self._lower.dtype)[self.labels]
        doubtful = (self._upper >= self._lower).nonzero().flatten()
        for rows in doubtful.split(self._stream.rows_per_chunk):
            self._revisit(rows)

    def _revisit(self, rows: Tensor) -> None:
        points, old = self._stream.take(rows), self.labels[rows]
        labels, self._upper[rows], self._lower[rows] = self._look(points, self._norms[rows])
        self.labels[rows] = labels
        changed = (labels != old).nonzero().flatten()
        if len(changed) == 0:
            return
        arrived, left = (
            torch.nn.functional.one_hot(ids[changed], len(self.centers)) for ids in (labels, old)
        )
        with full_precision(points.device):
            self.sums += (arrived - left).T.to(points.dtype) @ points[changed]
        self.counts += (arrived - left).sum(0)

    def _look(self, points: Tensor, norms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Nearest centre of each point, and bounds on the distances to it and to the second nearest."""
        half_norms = (0.5 * self.centers.square().sum(1)).to(points.dtype)
        with full_precision(points.device):
            scores = torch.addmm(half_norms, points, self.centers.T.to(points.dtype), alpha=-1)
        best, labels = scores.min(dim=1)
        scores.scatter_(1, labels[:, None], torch.inf)
        second = scores.amin(dim=1)
        slack = _ROUNDING * torch.finfo(points.dtype).eps * (norms + 2 * half_norms.max())
        upper = (norms + 2 * best).clamp_min_(0).add_(slack).sqrt_()
        lower = (norms + 2 * second).sub_(slack).clamp_min_(0).sqrt_()
        return labels, upper, lower


def _largest_other(moves: Tensor) -> Tensor:
    """For every centre the largest move among the other centres."""
    if len(moves) == 1:
        return torch.zeros_like(moves)
    top = moves.topk(2)
    return top.values[0].expand_as(moves).index_fill(0, top.indices[:1], float(top.values[1]))
