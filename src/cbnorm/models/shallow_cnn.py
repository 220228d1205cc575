"""The shallow CNN of Table IV."""

from collections.abc import Collection
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.models.init import glorot_uniform
from cbnorm.models.places import NormFactory, Places
from cbnorm.models.pooling import mean_over_positions, relu_max_pool
from cbnorm.norms import apply_norm
from cbnorm.norms.base import check_choice

Head = Literal["pool", "flatten"]


class ShallowCNN(nn.Module):
    """Four convolutions, each followed by normalization, ReLU and pooling; then one linear layer (Table IV).

    The pooling that Table IV calls "3x3, stride 2, pad 0" halves 32 to 16 only if the last window may be
    partial, hence ``ceil_mode``. The last pooling averages all positions, which is Table IV's 4x4 window for
    images of 32x32 and keeps the linear layer the same for larger ones. Convolutions and the linear layer
    start Glorot-uniform with zero bias.

    Args:
        num_classes: Number of logits.
        norm: Makes the layer that replaces batch normalization, given the number of channels.
        placement: Which of the norm layers 1 to 4 are replaced; the others are batch normalization.
        bn_eps: Of the layers that stay batch normalization.
        bn_momentum: Likewise, in torch's convention.
        last_kernel: Size of the fourth convolution's kernel: 3, or 5 as in the authors' code.
        head: ``"pool"``: the mean over all positions. ``"flatten"``, as in the authors' code: 4x4 means at
            stride 1, all of them flattened, which ties the linear layer to `image_size`.
        image_size: Height and width of the images.

    Shapes:
        images ``(N, 3, H, W)`` with H, W multiples of 8, from 32 up; clusters ``(N,)`` int64 or None;
        logits ``(N, num_classes)``.

    Raises:
        ValueError: No such place or head, or images too small for the flattened head.

    Example:
        >>> model = ShallowCNN(10, nn.BatchNorm2d)
        >>> sum(p.numel() for p in model.parameters())
        918410
    """

    def __init__(
        self,
        num_classes: int,
        norm: NormFactory,
        placement: Collection[int] = (3,),
        *,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        last_kernel: int = 3,
        head: Head = "pool",
        image_size: int = 32,
    ) -> None:
        super().__init__()
        widths, kernels = (64, 128, 128, 256), (5, 5, 5, last_kernel)
        inputs = (3, *widths[:-1])
        self.convs = nn.ModuleList(
            nn.Conv2d(c, width, kernel, padding=kernel // 2)
            for c, width, kernel in zip(inputs, widths, kernels, strict=True)
        )
        places = Places(norm, placement, lambda width: nn.BatchNorm2d(width, bn_eps, bn_momentum))
        self.norms = nn.ModuleList(places.next(width) for width in widths)
        places.check()
        self.head = check_choice("head", head, get_args(Head))
        if head == "flatten" and image_size < 32:
            raise ValueError(f"head='flatten' needs images of 32x32 or larger, not {image_size}")
        windows = (image_size // 8 - 3) ** 2 if head == "flatten" else 1
        self.linear = nn.Linear(widths[-1] * windows, num_classes)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)  # noqa: S101 (tells the type checker)
            glorot_uniform(conv)
        glorot_uniform(self.linear)

    def forward(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """Logits of a batch of images; `clusters` reaches the layers that take ids."""
        return self.linear(self.features(images, clusters))

    def features(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """What the linear layer sees: ``(N, 256)``, or with the flattened head ``(N, 256 windows)``."""
        x = images
        for conv, norm in zip(self.convs[:-1], self.norms[:-1], strict=True):
            x = relu_max_pool(apply_norm(norm, conv(x), clusters))
        x = F.relu(apply_norm(self.norms[-1], self.convs[-1](x), clusters))
        if self.head == "flatten":
            return F.avg_pool2d(x, 4, stride=1).flatten(1)
        return mean_over_positions(x)
