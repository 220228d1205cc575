"""OxfordCNN of Table VIII: a plain CNN for the 37 breeds of Oxford-IIIT Pet."""

from collections.abc import Collection

from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.models.init import glorot_uniform
from cbnorm.models.places import NormFactory, Places
from cbnorm.models.same import SameConv2d
from cbnorm.norms import apply_norm

#: Channels and kernel of the two convolutions in each block.
BLOCKS = ((32, 5), (32, 4), (64, 4), (64, 3), (128, 3), (128, 2), (256, 2))
HIDDEN = (512, 256)
SLOPE = 0.5


class OxfordCNN(nn.Module):
    """Seven blocks of two convolutions and pooling, then two sigmoid layers; 256x256 pixels become 2x2.

    Nothing stands between the two convolutions of a block; LeakyReLU with slope 0.5 follows the second. Even
    kernels are padded as in TensorFlow: the odd row and column go to bottom and right. Weights start
    Glorot-uniform with zero bias (the default of Keras, which both sources use).

    The count of 1,647,493 parameters has 37 classes, gamma and beta of both batch normalizations (64 maps,
    1024 flat values), no running statistics and no layer at place 3.

    Args:
        num_classes: Number of logits.
        norm: Makes the layer at the places in `placement`, given the number of channels.
        placement: 0 is the image; 1 and 2 are the network's batch normalizations, after the third block and
            on the flattened maps; 3 is where the authors put SCB-Norm, absent unless asked for: on the 256
            values that the last dropout and the linear layer follow.
        bn_eps: Of the layers that stay batch normalization.
        bn_momentum: Likewise, in torch's convention.
        image_size: Height and width of the images, a multiple of 128.

    Shapes:
        images ``(N, 3, H, W)``; clusters ``(N,)`` int64 or None; logits ``(N, num_classes)``.

    Raises:
        ValueError: No such place, or another size.

    Example:
        >>> sum(p.numel() for p in OxfordCNN(37, nn.BatchNorm1d, placement=[]).parameters())
        1647493
    """

    def __init__(
        self,
        num_classes: int,
        norm: NormFactory,
        placement: Collection[int] = (3,),
        *,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        image_size: int = 256,
    ) -> None:
        super().__init__()
        if image_size < 128 or image_size % 128:
            raise ValueError(
                f"OxfordCNN takes images of 256x256 or another multiple of 128, not {image_size}"
            )
        places = Places(norm, placement, lambda width: nn.BatchNorm1d(width, bn_eps, bn_momentum))
        self.image_norm = places.image()
        self.convs, width = nn.ModuleList(), 3
        for after, kernel in BLOCKS:
            for _ in range(2):
                self.convs.append(glorot_uniform(SameConv2d(width, after, kernel)))
                width = after
        self.map_norm = places.next(BLOCKS[2][0], lambda maps: nn.BatchNorm2d(maps, bn_eps, bn_momentum))
        flat = width * (image_size // 128) ** 2
        self.flat_norm = places.next(flat)
        self.hidden = nn.ModuleList(
            glorot_uniform(nn.Linear(before, after))
            for before, after in zip((flat, HIDDEN[0]), HIDDEN, strict=True)
        )
        self.hidden_norm = places.next(HIDDEN[1], nn.Identity)
        self.linear = glorot_uniform(nn.Linear(HIDDEN[1], num_classes))
        places.check()

    def forward(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """Logits of a batch of images; `clusters` reaches the layers that take ids."""
        logits: Tensor = self.linear(self.features(images, clusters))
        return logits

    def features(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """What the linear layer sees: (N, 256)."""
        x = apply_norm(self.flat_norm, self.maps(images, clusters).flatten(1), clusters)
        for hidden in self.hidden:
            x = hidden(F.dropout(x, 0.2, self.training)).sigmoid()
        return F.dropout(apply_norm(self.hidden_norm, x, clusters), 0.1, self.training)

    def maps(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        """What the seven blocks give: (N, 256, H / 128, W / 128)."""
        x = apply_norm(self.image_norm, images, clusters)
        for block in range(len(BLOCKS)):
            first, second = self.convs[2 * block], self.convs[2 * block + 1]
            x = F.max_pool2d(F.leaky_relu(second(first(x)), SLOPE), 2)
            if block == 2:
                x = apply_norm(self.map_norm, x, clusters)
        return x
