"""The paper's architectures as plain modules that take a norm factory."""

from collections.abc import Callable

from torch import nn

from cbnorm.models.shallow_cnn import ShallowCNN

#: Makes a normalization layer for a number of channels.
NormFactory = Callable[[int], nn.Module]

MODELS: dict[str, type[ShallowCNN]] = {"shallow_cnn": ShallowCNN}

__all__ = ["MODELS", "NormFactory", "ShallowCNN"]
