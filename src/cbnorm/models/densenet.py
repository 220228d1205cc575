"""DenseNet-40 and -100 for small images (section IV-C of the paper)."""

from collections.abc import Callable, Collection
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.models.init import glorot_uniform, he_normal, zero_bias
from cbnorm.models.places import NormFactory, Places
from cbnorm.models.pooling import mean_over_positions
from cbnorm.models.preactivation import NormReluConv
from cbnorm.norms import apply_norm
from cbnorm.norms.base import check_choice

GROWTH = 12
Variant = Literal["bc", "plain"]
Bookkeeping = Literal["paper", "released"]
Init = Literal["he", "glorot"]


class DenseNet(nn.Module):
    """Three dense blocks with growth 12, joined by transitions that halve the size.

    The paper says "DenseNet with 40 and 100 layers"; the authors' code builds the BC form (bottlenecks,
    compression 0.5) for both, which is the default here. The DenseNet paper's own 40-layer network is plain,
    with a stem of 16 channels; common ports, and the 1,100,428 parameters here, have 24.

    Args:
        num_classes: Number of logits.
        norm: Makes the layer at the places in `placement`, given the number of channels.
        placement: 0 is the image, an extra first layer, where the paper puts the norm under study; 1 to
            depth - 1 are the network's batch normalizations in the order of the forward pass.
        depth: 6n + 4 (``"bc"``) or 3n + 4 (``"plain"``): 40 or 100.
        variant: ``"bc"``: a 1x1 convolution to 48 channels before each 3x3, and transitions that halve the
            channels. ``"plain"``: neither.
        stem_width: Channels of the first convolution.
        dropout: After each 3x3 convolution; 0.2 in the authors' code.
        bookkeeping: ``"released"``: the authors' code halves the count of channels twice after a transition
            but builds on the count, so that the second transition is narrower than half.
        init: Of the convolutions: ``"he"`` as in DenseNet's code, whose linear layer keeps torch's own start,
            or ``"glorot"`` for all, as in the authors' code (Keras).
        bn_eps: Of the layers that stay batch normalization.
        bn_momentum: Likewise, in torch's convention.
        image_size: Not used: the head averages all positions.

    Shapes:
        images ``(N, 3, H, W)``, H and W from 4 up; clusters ``(N,)`` int64 or None; logits
        ``(N, num_classes)``.

    Raises:
        ValueError: No such depth, place, variant, book-keeping or start.

    Example:
        >>> sum(p.numel() for p in DenseNet(100, nn.BatchNorm2d, placement=[]).parameters())
        188092
    """

    def __init__(  # noqa: PLR0913  (each is a choice of its own)
        self,
        num_classes: int,
        norm: NormFactory,
        placement: Collection[int] = (0,),
        *,
        depth: int = 40,
        variant: Variant = "bc",
        stem_width: int = 2 * GROWTH,
        dropout: float = 0.0,
        bookkeeping: Bookkeeping = "paper",
        init: Init = "he",
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        image_size: int = 32,
    ) -> None:
        super().__init__()
        check_choice("variant", variant, get_args(Variant))
        check_choice("bookkeeping", bookkeeping, get_args(Bookkeeping))
        check_choice("init", init, get_args(Init))
        self._init = he_normal if init == "he" else glorot_uniform
        places = Places(norm, placement, lambda width: nn.BatchNorm2d(width, bn_eps, bn_momentum))
        units = units_per_block(depth, variant)
        widths = transition_widths(units, stem_width, variant, bookkeeping)
        self.image_norm = places.image()
        self.stem = self._init(nn.Conv2d(3, stem_width, 3, padding=1, bias=False))
        self.layers, width = nn.ModuleList(), stem_width
        for after in (*widths, None):
            for _ in range(units):
                self.layers.append(self._unit(places, width, variant, dropout))
                width += GROWTH
            if after is not None:
                self.layers.append(Transition(self._step(places, width, after, 1)))
                width = after
        self.norm = places.next(width)
        linear = nn.Linear(width, num_classes)
        self.linear = zero_bias(linear) if init == "he" else glorot_uniform(linear)
        places.check()

    def _unit(self, places: Places, width: int, variant: Variant, dropout: float) -> "DenseUnit":
        if variant == "plain":
            return DenseUnit([self._step(places, width, GROWTH, 3)], dropout)
        narrow = self._step(places, width, 4 * GROWTH, 1)
        return DenseUnit([narrow, self._step(places, 4 * GROWTH, GROWTH, 3)], dropout)

    def _step(self, places: Places, width: int, after: int, kernel: int) -> NormReluConv:
        conv = nn.Conv2d(width, after, kernel, padding=kernel // 2, bias=False)
        return NormReluConv(places.next(width), self._init(conv))

    def forward(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """Logits of a batch of images; `clusters` reaches the layers that take ids."""
        logits: Tensor = self.linear(self.features(images, clusters))
        return logits

    def features(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """What the linear layer sees: the mean over all positions, (N, channels)."""
        x = self.stem(apply_norm(self.image_norm, images, clusters))
        for layer in self.layers:
            x = layer(x, clusters)
        return mean_over_positions(F.relu(apply_norm(self.norm, x, clusters)))


class DenseUnit(nn.Module):
    """Appends 12 channels, computed from all channels before."""

    def __init__(self, steps: list[NormReluConv], dropout: float) -> None:
        super().__init__()
        self.steps, self.dropout = nn.ModuleList(steps), dropout

    def forward(self, x: Tensor, clusters: Tensor | None = None) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C + 12, H, W)``."""
        y = x
        for step in self.steps:
            y = step(y, clusters)
        return torch.cat([x, F.dropout(y, self.dropout, self.training)], 1)


class Transition(nn.Module):
    """A 1x1 convolution, then means over 2x2 windows."""

    def __init__(self, step: NormReluConv) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor, clusters: Tensor | None = None) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C', H/2, W/2)``."""
        return F.avg_pool2d(self.step(x, clusters), 2)


def units_per_block(depth: int, variant: Variant) -> int:
    """How many units each of the three blocks has."""
    convolutions = 6 if variant == "bc" else 3
    units, rest = divmod(depth - 4, convolutions)
    if rest or units < 1:
        raise ValueError(f"a {variant} DenseNet has a depth of {convolutions}n + 4, such as 40, not {depth}")
    return units


def transition_widths(
    units: int, stem_width: int, variant: Variant, bookkeeping: Bookkeeping
) -> tuple[int, int]:
    """Channels after both transitions."""
    halve: Callable[[int], int] = (lambda width: width // 2) if variant == "bc" else (lambda width: width)
    first = halve(stem_width + units * GROWTH)
    counted = halve(first) if bookkeeping == "released" else first
    return first, halve(counted + units * GROWTH)
