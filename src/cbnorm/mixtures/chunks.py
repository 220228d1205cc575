"""Read a matrix of any numeric type in chunks of rows, in floating point, relative to an origin."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cbnorm.mixtures.numerics import accumulator_dtype, check_matrix, compute_dtype

# Chunks and their squares should stay in a core's cache between the products that read them.
CHUNK_BYTES = 4 << 20
# Data that take no more are converted and moved to their origin once, not on every pass.
RESIDENT_BYTES = 64 << 20


class RowStream:
    """The rows of ``data`` minus ``origin``, a few megabytes at a time.

    Iterating yields ``(rows, chunk)``: a slice and the floating-point chunk it denotes. The chunk
    is not to be written to, and may lie in a buffer that the next one overwrites. The layout
    depends on the shape alone, so sums over chunks are repeatable.

    Args:
        data: (n, D) of any numeric type; a tensor over a memory-mapped file is read as needed.
        dtype: Type of the chunks; float64 for float64 data and float32 for all other by default.
        device: Where the chunks are computed on, as torch takes it; the device of ``data`` by default.

    Raises:
        ValueError: If ``data`` is not a non-empty matrix. NaN and infinity are refused by :meth:`centred`.
    """

    def __init__(
        self, data: Tensor, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> None:
        check_matrix(data)
        self.data = data.detach()
        self.device = data.device if device is None else torch.device(device)
        self.dtype = compute_dtype(data) if dtype is None else dtype
        self.length, self.width = data.shape
        self.rows_per_chunk = max(1, min(self.length, CHUNK_BYTES // (self.width * self.dtype.itemsize)))
        self.origin = torch.zeros(self.width, dtype=self.dtype, device=self.device)
        self._resident: Tensor | None = None

    def keep(self) -> None:
        """Convert all rows now if they are few; the origin must not change any more."""
        if self.length * self.width * self.dtype.itemsize <= RESIDENT_BYTES:
            resident = torch.empty(self.length, self.width, dtype=self.dtype, device=self.device)
            self._load(self.data, resident)
            self._resident = resident

    @classmethod
    def centred(
        cls, data: Tensor, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> "RowStream":
        """A stream whose origin is the mean of the data, where squares lose the fewest digits."""
        stream = cls(data, dtype=dtype, device=device)
        total = torch.zeros(stream.width, dtype=accumulator_dtype(stream.device), device=stream.device)
        for _, chunk in stream:
            total += chunk.sum(0)
        if not total.isfinite().all():
            raise ValueError("data hold NaN, infinity or values whose sum overflows; remove these rows first")
        stream.origin = (total / stream.length).to(stream.dtype)
        stream.keep()
        return stream

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        if self._resident is not None:
            for start in range(0, self.length, self.rows_per_chunk):
                rows = slice(start, min(start + self.rows_per_chunk, self.length))
                yield rows, self._resident[rows]
            return
        buffer = torch.empty(self.rows_per_chunk, self.width, dtype=self.dtype, device=self.device)
        for start in range(0, self.length, self.rows_per_chunk):
            rows = slice(start, min(start + self.rows_per_chunk, self.length))
            chunk = buffer[: rows.stop - rows.start]
            self._load(self.data[rows], chunk)
            yield rows, chunk

    def _load(self, rows: Tensor, out: Tensor) -> None:
        if rows.dtype == self.dtype and rows.device == self.device:
            torch.sub(rows, self.origin, out=out)
        else:
            out.copy_(rows).sub_(self.origin)

    def gather(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """``function`` of every chunk, its rows put together.

        The result is allocated whole: small pieces kept alive between the temporaries of the
        chunks would fragment the heap until it is as large as the data.
        """
        result: Tensor | None = None
        for rows, chunk in self:
            piece = function(chunk)
            if result is None:
                result = piece.new_empty(self.length, *piece.shape[1:])
            result[rows] = piece
        assert result is not None  # noqa: S101  (there is at least one row)
        return result

    def take(self, indices: Tensor) -> Tensor:
        """Some rows, relative to the origin, (len(indices), D)."""
        # Several times faster than indexing with brackets.
        if self._resident is not None:
            return self._resident.index_select(0, indices.to(self.device))
        rows = self.data.index_select(0, indices.to(self.data.device))
        chunk = torch.empty(rows.shape, dtype=self.dtype, device=self.device)
        self._load(rows, chunk)
        return chunk

    def variances(self) -> Tensor:
        """Variance of every feature around the mean, (D,), summed in float64."""
        first = torch.zeros(self.width, dtype=accumulator_dtype(self.device), device=self.device)
        second = torch.zeros_like(first)
        for _, chunk in self:
            first += chunk.sum(0)
            second += chunk.square().sum(0)
        return (second / self.length - (first / self.length).square()).clamp_min(0)
