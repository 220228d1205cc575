"""Losses of a generator and a discriminator, and the noise between them, as pure functions."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Law = Literal["normal", "uniform"]


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """``mean softplus(-real) + mean softplus(fake)``: cross-entropy of telling real images from samples.

    Args:
        real: Logits of real images, positive where taken for real, (N,).
        fake: Logits of samples, (M,).

    >>> round(discriminator_loss(torch.zeros(3), torch.zeros(2)).item(), 6)
    1.386294
    """
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """``mean softplus(-fake)``, the non-saturating loss of Goodfellow et al. (2014).

    Its gradient stays large while the discriminator is sure of the samples, unlike that of
    ``-mean softplus(fake)``, the other half of the discriminator's loss.

    Args:
        fake: Logits of samples, positive where taken for real, (M,).

    >>> round(generator_loss(torch.zeros(2)).item(), 6)
    0.693147
    """
    return F.softplus(-fake).mean()


def latent(count: int, size: int, law: Law, generator: torch.Generator | None = None) -> Tensor:
    """Latent vectors, float32 ``(count, size)``, drawn on the CPU so that they don't depend on the device.

    Args:
        count: How many.
        size: Numbers in each.
        law: ``normal``: standard normal; ``uniform``: on (-1, 1), as in chainer-gan-lib.
        generator: A CPU generator; None: torch's global one.
    """
    if law == "uniform":
        return 2 * torch.rand(count, size, generator=generator) - 1
    return torch.randn(count, size, generator=generator)
