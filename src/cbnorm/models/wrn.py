"""The wide residual network WRN-28-2 of Table VI, as in the Keras example of AdaMatch."""

from collections.abc import Collection

from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.models.init import glorot_uniform, he_normal_cut
from cbnorm.models.places import NormFactory, Places
from cbnorm.models.pooling import mean_over_positions
from cbnorm.models.preactivation import NormReluConv
from cbnorm.models.same import SameConv2d
from cbnorm.norms import apply_norm

STEM = 16
#: Channels and stride of the three groups of four units.
GROUPS = ((32, 1), (64, 2), (128, 2))
UNITS = 4


class WideResNet(nn.Module):
    """A stem of 16 channels, three groups of four pre-activation units, the mean over positions, one layer.

    Keras counts 1,471,226 parameters for 10 classes: 1,467,610 that are learned and 3,616 running means and
    variances. Convolutions have no bias and start He-normal (cut at two deviations, as in Keras). The linear
    layer starts Glorot-uniform: the example names no start for it, and that is Keras's own. Strided
    convolutions are padded as in TensorFlow: their windows lie one pixel further to the bottom and right than
    with torch's symmetric padding.

    Args:
        num_classes: Number of logits.
        norm: Makes the layer at the places in `placement`, given the number of channels.
        placement: 0 is the image, an extra first layer, where the paper puts the norm under study; 1 to 25
            are the network's batch normalizations in the order of the forward pass.
        rescale: Divide images by 255 inside the network, ahead of everything, as the Keras example does; the
            authors' SCB and UCB models see 0 to 255 instead: no rescaling, neither here nor before.
        bn_eps: Of the layers that stay batch normalization; 1e-3 in Keras.
        bn_momentum: Likewise, in torch's convention; 0.01 in Keras.
        image_size: Not used: the head averages all positions.

    Shapes:
        images ``(N, 3, H, W)``; clusters ``(N,)`` int64 or None; logits ``(N, num_classes)``.

    Raises:
        ValueError: No such place.

    Example:
        >>> model = WideResNet(10, nn.BatchNorm2d, placement=[])
        >>> sum(p.numel() for p in model.parameters())
        1467610
        >>> sum(v.numel() for key, v in model.state_dict().items() if "num_batches" not in key)
        1471226
    """

    def __init__(
        self,
        num_classes: int,
        norm: NormFactory,
        placement: Collection[int] = (0,),
        *,
        rescale: bool = False,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        image_size: int = 32,
    ) -> None:
        super().__init__()
        places = Places(norm, placement, lambda width: nn.BatchNorm2d(width, bn_eps, bn_momentum))
        self.scale = 1 / 255 if rescale else 1.0
        self.image_norm = places.image()
        self.stem = he_normal_cut(SameConv2d(3, STEM, 3, bias=False))
        self.units, width = nn.ModuleList(), STEM
        for after, stride in GROUPS:
            for unit in range(UNITS):
                self.units.append(WideUnit(places, width, after, stride if unit == 0 else 1))
                width = after
        self.norm = places.next(width)
        self.linear = glorot_uniform(nn.Linear(width, num_classes))
        places.check()

    def forward(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """Logits of a batch of images; `clusters` reaches the layers that take ids."""
        logits: Tensor = self.linear(self.features(images, clusters))
        return logits

    def features(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """What the linear layer sees: the mean over all positions, (N, 128)."""
        images = images if self.scale == 1 else images * self.scale
        x = self.stem(apply_norm(self.image_norm, images, clusters))
        for unit in self.units:
            x = unit(x, clusters)
        return mean_over_positions(F.relu(apply_norm(self.norm, x, clusters)))


class WideUnit(nn.Module):
    """Two 3x3 convolutions, each behind a norm and ReLU, and a shortcut.

    Where the width changes, the shortcut is a 1x1 convolution that shares the first norm and ReLU.
    """

    def __init__(self, places: Places, width: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = _step(places, width, after, stride)
        self.second = _step(places, after, after, 1)
        self.shortcut = None
        if width != after:
            self.shortcut = he_normal_cut(nn.Conv2d(width, after, 1, stride=stride, bias=False))

    def forward(self, x: Tensor, clusters: Tensor | None = None) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C', H / stride, W / stride)``."""
        active = self.first.activation(x, clusters)
        y = self.second(self.first.conv(active), clusters)
        output: Tensor = y + (x if self.shortcut is None else self.shortcut(active))
        return output


def _step(places: Places, width: int, after: int, stride: int) -> NormReluConv:
    conv = SameConv2d(width, after, 3, stride=stride, bias=False)
    return NormReluConv(places.next(width), he_normal_cut(conv))
