"""Which floating-point types a computation uses, and how it leaves autocast."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def compute_dtype(data: Tensor) -> torch.dtype:
    """The type sums over data are computed in: float64 stays, everything else becomes float32."""
    return torch.float64 if data.dtype == torch.float64 else torch.float32


def accumulator_dtype(device: torch.device) -> torch.dtype:
    """The type long sums are kept in: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """A context in which autocast lowers nothing: densities of many dimensions do not survive bfloat16."""
    return torch.autocast(device.type, enabled=False)


def check_matrix(data: Tensor, name: str = "data") -> None:
    """Raise unless ``data`` is a matrix with at least one row and one column.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it has another shape.
    """
    if not isinstance(data, Tensor):
        raise TypeError(f"{name} must be a torch tensor, not {type(data).__name__}; use torch.as_tensor")
    if data.ndim != 2 or data.numel() == 0:
        raise ValueError(
            f"{name} must be a non-empty (samples, features) matrix, not shape {tuple(data.shape)}"
        )
