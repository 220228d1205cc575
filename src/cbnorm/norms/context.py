"""Cluster ids for models whose forward cannot be edited: a context that the layers look into."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

_ACTIVE: list[Tensor | None] = []


@contextmanager
def cluster_ids(ids: Tensor | None) -> Iterator[None]:
    """Give ``ids`` to every cluster layer that is called inside without ids of its own.

    The ids take the same way as the explicit argument from the layer's ``forward`` on. Contexts nest;
    ``None`` hides the outer one. One process-wide stack: call models from one thread at a time.

    Args:
        ids: Integers (N,), -1 for unknown, on the device of the input.

    Example:
        >>> import torch
        >>> from cbnorm.norms import SCBNorm
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), SCBNorm(3, num_clusters=2))
        >>> with cluster_ids(torch.tensor([0, 1])):
        ...     model(torch.randn(2, 4)).shape
        torch.Size([2, 3])
    """
    _ACTIVE.append(ids)
    try:
        yield
    finally:
        _ACTIVE.pop()


def current_clusters() -> Tensor | None:
    """The ids of the innermost :func:`cluster_ids`, or None."""
    return _ACTIVE[-1] if _ACTIVE else None
