"""The paper's architectures as plain modules that take a norm factory."""

from collections.abc import Callable

from torch import nn

from cbnorm.models.dcgan import Discriminator, Generator
from cbnorm.models.densenet import DenseNet
from cbnorm.models.oxford_cnn import OxfordCNN
from cbnorm.models.places import NormFactory
from cbnorm.models.shallow_cnn import ShallowCNN
from cbnorm.models.vit import ViT
from cbnorm.models.wrn import WideResNet

#: Networks for classification: called with ``(num_classes, norm, placement, *, image_size, **options)``.
MODELS: dict[str, Callable[..., nn.Module]] = {
    "shallow_cnn": ShallowCNN,
    "densenet": DenseNet,
    "vit": ViT,
    "oxford_cnn": OxfordCNN,
    "wrn": WideResNet,
}

__all__ = [
    "MODELS",
    "DenseNet",
    "Discriminator",
    "Generator",
    "NormFactory",
    "OxfordCNN",
    "ShallowCNN",
    "ViT",
    "WideResNet",
]
