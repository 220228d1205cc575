"""Which floating-point types a computation uses, and how it leaves autocast."""

from contextlib import AbstractContextManager, nullcontext

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
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def posterior(log_joint: Tensor) -> tuple[Tensor, Tensor]:
    """Responsibilities (n, K), which sum to 1 however far a point lies, and log evidence (n, 1).

    For log lambda_k + log p_k(x), (n, K). Dividing by the sum is what normalizes: far away the rounding
    of a log evidence is larger than 1. Written out, because torch.softmax over a few columns takes
    several times as long and changes the layout.

    >>> posterior(torch.full((1, 2), -1e8))[0]
    tensor([[0.5000, 0.5000]])
    """
    largest = log_joint.amax(dim=1, keepdim=True)
    shares = (log_joint - largest).exp_()
    total = shares.sum(dim=1, keepdim=True)
    return shares / total, largest + total.log()


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


def check_number(k: int, points: int) -> None:
    """Raise ValueError unless ``k`` centres or components can be found among so many points."""
    if isinstance(k, bool) or not hasattr(k, "__index__") or not 1 <= k <= points:
        raise ValueError(f"k must be an integer between 1 and the number of points, {points}, not {k!r}")


def check_new(data: Tensor, width: int) -> None:
    """Raise ValueError unless ``data`` are rows of `width` finite values, as those a fit has seen."""
    check_matrix(data)
    if data.shape[1] != width:
        raise ValueError(f"data must have {width} columns, as what was fitted had, not {data.shape[1]}")
    if data.is_floating_point() and not data.isfinite().all():
        raise ValueError("data hold NaN or infinity; remove these rows first")
