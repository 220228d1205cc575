"""Generator and discriminator of the DCGAN for CIFAR-100 (section IV-D, Fig. 10 and 11 of the paper)."""

from collections.abc import Collection
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.models.init import normal
from cbnorm.models.places import NormFactory, Places
from cbnorm.norms import apply_norm
from cbnorm.norms.base import check_choice

LATENT, BOTTOM, WIDTH = 128, 4, 512
SLOPE = 0.2
Activation = Literal["leaky_relu", "relu"]


class Generator(nn.Module):
    """A linear layer and four transposed convolutions, from 128 numbers to an image of 32x32 in (-1, 1).

    The paper gives this much, "the first three deconvolutional layers followed by BN and LeakyReLU", and the
    optimizer. Everything else (widths, kernels, 128 latent numbers, batch normalization of the 8192 values
    after the linear layer, N(0, 0.02) weights) is from the DCGAN of chainer-gan-lib, whose published settings
    are the paper's; that one has ReLU. The slope is not given: 0.2, as in its discriminator.

    Args:
        norm: Makes the layer at the places in `placement`, given the number of channels.
        placement: 1 follows the linear layer (8192 values), 2, 3 and 4 the first three transposed
            convolutions. The paper replaces "the first two deconvolution layers'": 2 and 3.
        activation: After every layer but the last.
        bn_eps: Of the layers that stay batch normalization; 2e-5 in Chainer.
        bn_momentum: Likewise, in torch's convention.

    Shapes:
        latent ``(N, 128)``, also ``(N, 128, 1, 1)``; clusters ``(N,)`` int64 or None; images
        ``(N, 3, 32, 32)``.

    Raises:
        ValueError: No such place or activation.

    Example:
        >>> sum(p.numel() for p in Generator(nn.BatchNorm2d).parameters())
        3828739
    """

    def __init__(
        self,
        norm: NormFactory,
        placement: Collection[int] = (2, 3),
        *,
        activation: Activation = "leaky_relu",
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        places = Places(norm, placement, lambda width: nn.BatchNorm2d(width, bn_eps, bn_momentum))
        check_choice("activation", activation, get_args(Activation))
        self.slope = SLOPE if activation == "leaky_relu" else 0.0
        flat = BOTTOM**2 * WIDTH
        self.linear = normal(nn.Linear(LATENT, flat))
        self.linear_norm = places.next(flat, lambda width: nn.BatchNorm1d(width, bn_eps, bn_momentum))
        self.deconvs, self.norms, width = nn.ModuleList(), nn.ModuleList(), WIDTH
        for _ in range(3):
            self.deconvs.append(normal(nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1)))
            width //= 2
            self.norms.append(places.next(width))
        self.last = normal(nn.ConvTranspose2d(width, 3, 3, padding=1))
        places.check()

    def forward(self, latent: Tensor, clusters: Tensor | None = None) -> Tensor:
        """Images from latent vectors; `clusters` reaches the layers that take ids."""
        x = apply_norm(self.linear_norm, self.linear(latent.flatten(1)), clusters)
        x = F.leaky_relu(x, self.slope).view(-1, WIDTH, BOTTOM, BOTTOM)
        for deconv, norm in zip(self.deconvs, self.norms, strict=True):
            x = F.leaky_relu(apply_norm(norm, deconv(x), clusters), self.slope)
        images: Tensor = self.last(x).tanh()
        return images


class Discriminator(nn.Module):
    """Seven convolutions and a linear layer; batch normalization without gamma after all but the first.

    The paper doesn't describe it: chainer-gan-lib's, with LeakyReLU 0.2 and N(0, 0.02) weights.

    Args:
        bn_eps: Of batch normalization; 2e-5 in Chainer.
        bn_momentum: Likewise, in torch's convention.

    Shapes:
        images ``(N, 3, 32, 32)`` in [-1, 1]; logits ``(N,)``, positive for real.

    Example:
        >>> sum(p.numel() for p in Discriminator().parameters())
        5862657
    """

    def __init__(self, *, bn_eps: float = 1e-5, bn_momentum: float = 0.1) -> None:
        super().__init__()
        self.first = normal(nn.Conv2d(3, WIDTH // 8, 3, padding=1))
        self.convs, self.norms, width = nn.ModuleList(), nn.ModuleList(), WIDTH // 8
        for _ in range(3):
            halving = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
            width *= 2
            for conv in (halving, nn.Conv2d(width, width, 3, padding=1)):
                self.convs.append(normal(conv))
                self.norms.append(ShiftedBatchNorm2d(width, bn_eps, bn_momentum))
        self.linear = normal(nn.Linear(BOTTOM**2 * WIDTH, 1))

    def forward(self, images: Tensor) -> Tensor:
        """One logit an image."""
        logits: Tensor = self.linear(self.features(images)).squeeze(1)
        return logits

    def features(self, images: Tensor) -> Tensor:
        """What the linear layer sees, (N, 8192)."""
        x = F.leaky_relu(self.first(images), SLOPE)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), SLOPE)
        return x.flatten(1)


class ShiftedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization with beta but without gamma."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(num_features, eps, momentum)
        self.register_parameter("weight", None)

    def reset_parameters(self) -> None:
        """Beta and running means 0, running variances 1."""
        self.reset_running_stats()
        nn.init.zeros_(self.bias)
