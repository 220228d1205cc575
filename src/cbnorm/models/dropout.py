"""Dropout that a CPU can afford, and attention whose weights it acts on."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 1 << 16


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each value with probability `p` in training and scale the others, so that means stay.

    torch draws such masks number by number on a CPU, at 6 ns each, a sixth of a step of the vision
    transformer. Here every value gets 16 random bits; probabilities are then multiples of 2⁻¹⁶.

    Args:
        x: Any shape; on another device than a CPU torch's dropout is used.
        p: In [0, 1).
        training: Otherwise `x` is returned.

    Example:
        >>> sorted(set(dropout(torch.ones(1000), 0.5, training=True).tolist()))
        [0.0, 2.0]
    """
    if not training or p == 0 or x.device.type != "cpu":
        return F.dropout(x, p, training)
    dropped = round(p * _LEVELS)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    levels = words.view(torch.int16)[: x.numel()].view(x.shape)
    kept = (levels >= dropped - _LEVELS // 2).to(x.dtype)
    return x * kept.mul_(_LEVELS / (_LEVELS - dropped))


class Dropout(nn.Dropout):
    """:func:`dropout` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return dropout(x, self.p, self.training)


def attention(queries: Tensor, keys: Tensor, values: Tensor, p: float = 0.0) -> Tensor:
    """Scaled dot-product attention with dropout of its weights.

    With dropout, torch computes this in float32 on a CPU even under autocast, in twice the time; here
    products have the type of the inputs.

    Args:
        queries: ``(N, heads, T, width)``.
        keys: The same shape.
        values: The same shape.
        p: Probability of dropping a weight; 0 outside of training.

    Returns:
        The same shape.
    """
    if p == 0 or queries.device.type != "cpu":
        return F.scaled_dot_product_attention(queries, keys, values, dropout_p=p)
    scores = (queries @ keys.transpose(-1, -2)).mul(queries.shape[-1] ** -0.5)
    return dropout(scores.softmax(-1), p, training=True) @ values
