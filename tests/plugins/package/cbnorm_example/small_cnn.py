"""Three convolutions, each with normalization and ReLU, and a linear layer."""

from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.models import NormFactory
from cbnorm.norms import apply_norm


class SmallCNN(nn.Module):
    def __init__(
        self, num_classes: int, norm: NormFactory, placement: list[int], *, image_size: int, width: int = 16
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, width, 3, stride=2, padding=1) for c in (3, width, width))
        self.norms = nn.ModuleList(
            norm(width) if place in placement else nn.BatchNorm2d(width) for place in (1, 2, 3)
        )
        self.linear = nn.Linear(width * (-(-image_size // 8)) ** 2, num_classes)

    def forward(self, x: Tensor, clusters: Tensor | None = None) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(apply_norm(norm, conv(x), clusters))
        return self.linear(x.flatten(1))
