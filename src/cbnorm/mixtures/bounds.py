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
        self._norms, self._gaps = torch.empty(2, stream.length, dtype=stream.dtype, device=stream.device)
        for rows, chunk in stream:
            self._norms[rows] = chunk.square().sum(1)
            self.labels[rows], self._gaps[rows] = self._look(chunk, self._norms[rows])
            members = self._members(self.labels[rows])
            with full_precision(chunk.device):
                self.sums += members @ chunk
            self.counts += members.sum(1)
        self.total = float(self._norms.sum(dtype=centers.dtype))
        farthest = self._norms.max().sqrt() + centers.norm(dim=1).max()
        self._rounding = torch.finfo(stream.dtype).eps * float(farthest)

    @property
    def inertia(self) -> float:
        """Sum of squared distances of the points from their centres, from the sums alone."""
        between = (self.centers * (self.counts[:, None] * self.centers - 2 * self.sums)).sum()
        return max(self.total + float(between), 0.0)

    def move(self, centers: Tensor) -> None:
        """Move the centres to ``centers`` (K, D) and bring labels, sums and counts up to date."""
        moves = (centers - self.centers).norm(dim=1)
        self.centers = centers
        # The last term covers the rounding of this very subtraction, which many moves would add up.
        closing = moves + _largest_other(moves) + self._rounding
        self._gaps -= closing.to(self._gaps.dtype).index_select(0, self.labels)
        doubtful = (self._gaps <= 0).nonzero().flatten()
        if 2 * len(doubtful) > self._stream.length:
            # Reading all in order is cheaper than gathering most.
            for rows, chunk in self._stream:
                labels, self._gaps[rows] = self._look(chunk, self._norms[rows])
                self._rearrange(self.labels[rows], labels, chunk)
                self.labels[rows] = labels
            return
        for some in doubtful.split(self._stream.rows_per_chunk):
            points = self._stream.take(some)
            labels, gaps = self._look(points, self._norms.index_select(0, some))
            self._rearrange(self.labels.index_select(0, some), labels, points)
            self.labels.index_copy_(0, some, labels)
            self._gaps.index_copy_(0, some, gaps)

    def _rearrange(self, old: Tensor, labels: Tensor, points: Tensor) -> None:
        """Bring sums and counts up to date for points whose labels were ``old``."""
        changed = (labels != old).nonzero().flatten()
        if len(changed) == 0:
            return
        difference = self._members(labels[changed]) - self._members(old[changed])
        with full_precision(points.device):
            self.sums += difference @ points.index_select(0, changed)
        self.counts += difference.sum(1)

    def _members(self, labels: Tensor) -> Tensor:
        """Ones where a point (column) has the label of the row, (K, n)."""
        ids = torch.arange(len(self.centers), device=labels.device)
        return (labels == ids[:, None]).to(self._norms.dtype)

    def _look(self, points: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest centre of each point, and by how much the second nearest is farther, at least."""
        half_norms = (0.5 * self.centers.square().sum(1)).to(points.dtype)
        with full_precision(points.device):
            scores = torch.addmm(half_norms[:, None], self.centers.to(points.dtype), points.T, alpha=-1)
        labels, best, second = two_smallest(scores)
        slack = _ROUNDING * torch.finfo(points.dtype).eps * (norms + 2 * half_norms.max())
        upper = torch.add(norms, best, alpha=2).clamp_min_(0).add_(slack).sqrt_()
        lower = torch.add(norms, second, alpha=2).sub_(slack).clamp_min_(0).sqrt_()
        return labels, lower.sub_(upper)


def two_smallest(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Index of the smallest of each column of (K, n), the lowest in a tie; the smallest; the second smallest.

    Whole rows are compared, which is several times faster than reductions over a few values each.

    >>> two_smallest(torch.tensor([[3.0, 1.0], [2.0, 1.0]]))
    (tensor([1, 0]), tensor([2., 1.]), tensor([3., 1.]))
    """
    first, *others = scores.unbind(0)
    best, second, larger = first.clone(), torch.full_like(first, torch.inf), torch.empty_like(first)
    for row in others:
        torch.maximum(best, row, out=larger)
        torch.minimum(second, larger, out=second)
        torch.minimum(best, row, out=best)
    k = len(scores)
    # Of several that are smallest the first has the largest rank; bytes are compared fastest.
    ranks = torch.arange(k, 0, -1, device=scores.device).to(torch.uint8 if k < 256 else torch.int32)
    labels = k - ((scores == best) * ranks[:, None]).amax(0).long()
    return labels, best, second


def _largest_other(moves: Tensor) -> Tensor:
    """For every centre the largest move among the other centres."""
    if len(moves) == 1:
        return torch.zeros_like(moves)
    top = moves.topk(2)
    return top.values[0].expand_as(moves).index_fill(0, top.indices[:1], float(top.values[1]))
