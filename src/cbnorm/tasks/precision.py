"""The bfloat16 of training: torch's autocast, or its products where a processor has no units for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cbnorm.machine import computes_bfloat16

#: The operations of layers that autocast lowers.
_LOWERED: frozenset[Callable[..., Any]] = frozenset(
    [
        *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
        *(F.linear, F.scaled_dot_product_attention),
        *(torch.matmul, Tensor.matmul, Tensor.__matmul__),
    ]
)


@contextmanager
def forward_precision(device: torch.device, *, bf16: bool) -> Iterator[None]:
    """A context for forward passes: bfloat16 by autocast (weights stay float32), or nothing.

    On a processor that computes bfloat16 itself no faster than float32, convolutions, linear layers and
    attention round what they are given to bfloat16, compute in float32, and round the result; so do their
    gradients. That is what units for bfloat16 do, which add in float32 too: only the order of sums differs,
    as between any two processors (attention in one operation, used in evaluation alone, may round inside).

    Args:
        device: Where the forward pass runs.
        bf16: Whether to compute in bfloat16 at all.
    """
    emulated = bf16 and device.type == "cpu" and not computes_bfloat16()
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16), _Rounded() if emulated else nullcontext():
        yield


class _Rounded(TorchFunctionMode):
    """Operations that autocast would lower: float32 arithmetic between values of bfloat16."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # Layers that leave autocast for their statistics leave this too.
        if func not in _LOWERED or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            result = func(*map(_rounded, args), **{name: _rounded(value) for name, value in kwargs.items()})
            return result.bfloat16() if result.dtype == torch.float32 else result


def _rounded(value: Any) -> Any:
    """Tensors of float32 or less as float32 with bfloat16's digits; anything else as it is."""
    if isinstance(value, Tensor) and value.dtype in {torch.float32, torch.bfloat16, torch.float16}:
        return value.bfloat16().float()
    return value
