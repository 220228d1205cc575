"""Initial weights of convolutions and linear layers; biases start at zero."""

import math
from typing import TypeVar

from torch import nn

Weighted = TypeVar("Weighted", nn.Conv2d, nn.ConvTranspose2d, nn.Linear)

#: Deviation of a standard normal variable cut off at -2 and 2.
CUT_DEVIATION = 0.87962566103423978


def glorot_uniform(layer: Weighted) -> Weighted:
    """Uniform, variance 2 / (fan in + fan out): the default of Keras."""
    nn.init.xavier_uniform_(layer.weight)
    return zero_bias(layer)


def he_normal(layer: nn.Conv2d) -> nn.Conv2d:
    """Normal, variance 2 / fan out: as in the published code of DenseNet."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return zero_bias(layer)


def he_normal_cut(layer: nn.Conv2d) -> nn.Conv2d:
    """Normal cut off at two deviations, variance 2 / fan in: what Keras calls He-normal."""
    fan_in = layer.weight[0].numel()
    deviation = math.sqrt(2 / fan_in) / CUT_DEVIATION
    nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    return zero_bias(layer)


def normal(layer: Weighted, deviation: float = 0.02) -> Weighted:
    """Normal with a fixed deviation, as in DCGAN."""
    nn.init.normal_(layer.weight, std=deviation)
    return zero_bias(layer)


def zero_bias(layer: Weighted) -> Weighted:
    """The layer with its bias, if it has one, at zero."""
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
