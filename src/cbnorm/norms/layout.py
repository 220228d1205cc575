"""One view for every layout: samples × channels × positions, and the checks of what comes in."""

import torch
from torch import Tensor, nn

#: Types of cluster ids; torch finds no bounds of the other unsigned ones.
_IDS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def to_ncl(x: Tensor, channel_dim: int) -> Tensor:
    """View ``x`` as (N, C, L) without copying.

    Args:
        x: (N, C), (N, C, L), (N, C, H, W), … with ``channel_dim=1``; (N, …, C) with ``channel_dim=-1``.
        channel_dim: 1 or -1.

    Returns:
        (N, C, L), L = 1 for (N, C). The strides stay those of ``x``, so that channels_last and token
        inputs are walked in their own order.

    Example:
        >>> to_ncl(torch.zeros(2, 5, 3), channel_dim=-1).shape
        torch.Size([2, 3, 5])
    """
    if x.ndim == 2:
        return x.unsqueeze(-1)
    if channel_dim == -1:
        return x.flatten(1, -2).transpose(1, 2)
    return x.flatten(2)


def from_ncl(y: Tensor, like: Tensor, channel_dim: int) -> Tensor:
    """Undo :func:`to_ncl`: give ``y`` (N, C, L) the shape and the order in memory of ``like``."""
    if like.ndim == 2:
        return y.squeeze(-1)
    if channel_dim == -1:
        return y.transpose(1, 2).contiguous().unflatten(1, like.shape[1:-1])
    y = y.unflatten(2, like.shape[2:])
    channels_last = _CHANNELS_LAST.get(like.ndim)
    if channels_last is not None and _lies(like, channels_last):
        return y.contiguous(memory_format=channels_last)
    return y.contiguous()


def _lies(x: Tensor, order: torch.memory_format) -> bool:
    """Whether ``x`` is in this order; not under ``vmap``, which can't tell."""
    try:
        return x.is_contiguous(memory_format=order)
    except RuntimeError:
        return False


def check_input(x: Tensor, layer: nn.Module, num_features: int, channel_dim: int) -> None:
    """Raise one clear line unless ``layer`` can normalize ``x``.

    Raises:
        TypeError: ``x`` is no floating-point tensor, or float64 meets parameters of another type.
        ValueError: Wrong rank, number of channels or device.
    """
    name = type(layer).__name__
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = isinstance(x, Tensor)
        kind, way = (x.dtype, ".float()") if given else (type(x).__name__, "torch.as_tensor")
        raise TypeError(f"{name} needs a floating-point tensor, got {kind}; convert it with {way}")
    if x.ndim < 2 or x.shape[channel_dim] != num_features:
        where = "dimension 1" if channel_dim == 1 else "the last dimension"
        raise ValueError(
            f"{name} expects {num_features} channels in {where}, got an input of shape {tuple(x.shape)}"
            + _other_place(x, num_features, channel_dim)
        )
    _check_state(x, layer, name)


def _other_place(x: Tensor, num_features: int, channel_dim: int) -> str:
    """What to do where the channels lie in the other place."""
    if x.ndim < 3 or channel_dim == 1:
        return "; for (N, T, C) pass channel_dim=-1" if x.ndim != 2 else ""
    return "; for (N, C, T) pass channel_dim=1" if x.shape[1] == num_features else ""


def _check_state(x: Tensor, layer: nn.Module, name: str) -> None:
    tensors = (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
    state = next((t for t in tensors if t.is_floating_point()), None)
    if state is None:
        return
    if state.device != x.device:
        raise ValueError(f"{name} is on {state.device} but its input is on {x.device}; move one with .to()")
    if (state.dtype == torch.float64) != (x.dtype == torch.float64):
        raise TypeError(f"{name} holds {state.dtype} but its input is {x.dtype}; convert one with .to()")


def check_weights(weights: Tensor, x: Tensor, num_clusters: int, name: str) -> None:
    """Raise one clear line unless ``weights`` are one row a sample and one column a cluster.

    Raises:
        ValueError: Another shape or device.
    """
    if weights.shape != (x.shape[0], num_clusters):
        shape = (x.shape[0], num_clusters)
        raise ValueError(f"{name} needs weights of clusters of shape {shape}, got {tuple(weights.shape)}")
    if weights.device != x.device:
        raise ValueError(f"{name}: weights of clusters are on {weights.device}, the input on {x.device}")


def watched() -> bool:
    """Whether something follows every operation of torch: a tracer, ``torch.func``, a dispatch mode.

    It would not see what kernels do, and what it puts in place of tensors and sizes has no address.
    """
    return (
        torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()  # noqa: SLF001  (these have no public names)
        or torch._C._len_torch_dispatch_stack() > 0  # noqa: SLF001
    )


def check_clusters(clusters: Tensor, x: Tensor, num_clusters: int, name: str) -> bool:
    """Check cluster ids against the input and the number of clusters; read them when in eager mode.

    Returns:
        Whether some id may be -1 (unknown). True where values cannot be read: while compiling, tracing or
        recording a CUDA graph, under ``torch.func``, on the meta device.

    Raises:
        TypeError: The ids are not integers.
        ValueError: Not one id a sample, another device, or an id outside [-1, ``num_clusters``).
    """
    if not isinstance(clusters, Tensor) or clusters.dtype not in _IDS:
        raise TypeError(f"{name} needs cluster ids as an integer tensor, got {_instead(clusters)}")
    if clusters.shape != x.shape[:1]:
        raise ValueError(
            f"{name} needs one cluster id a sample, shape ({x.shape[0]},), got {tuple(clusters.shape)}"
        )
    if clusters.device != x.device:
        raise ValueError(f"{name}: cluster ids are on {clusters.device} but the input is on {x.device}")
    if clusters.numel() == 0 or _unreadable(clusters):
        return clusters.numel() != 0
    # Together: on a GPU every number that is read waits for all work before it.
    low, high = torch.stack(torch.aminmax(clusters)).tolist()
    if low < -1 or high >= num_clusters:
        bad = low if low < -1 else high
        raise ValueError(
            f"{name}: cluster id {bad} is outside [-1, {num_clusters}); -1 means unknown, "
            f"and num_clusters={num_clusters}"
        )
    return low < 0


def _instead(clusters: object) -> str:
    """What was given in the place of ids, and what to do about it."""
    if not isinstance(clusters, Tensor):
        return f"{type(clusters).__name__}; torch.as_tensor makes one of a list or an array"
    if clusters.ndim == 2:
        return f"{clusters.dtype} of shape {tuple(clusters.shape)}; only scb_base takes weights of clusters"
    return f"{clusters.dtype}; .long() makes one"


def _unreadable(x: Tensor) -> bool:
    if torch.compiler.is_compiling() or x.is_meta or watched():
        return True
    return x.is_cuda and torch.cuda.is_current_stream_capturing()
