"""Normalization and ReLU ahead of a convolution, of which DenseNet and the wide residual network consist."""

from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.norms import apply_norm


class NormReluConv(nn.Module):
    """``conv(relu(norm(x)))``; ids reach the norm if it takes them."""

    def __init__(self, norm: nn.Module, conv: nn.Conv2d) -> None:
        super().__init__()
        self.norm, self.conv = norm, conv

    def forward(self, x: Tensor, clusters: Tensor | None = None) -> Tensor:
        """What the convolution gives."""
        output: Tensor = self.conv(self.activation(x, clusters))
        return output

    def activation(self, x: Tensor, clusters: Tensor | None = None) -> Tensor:
        """What the convolution sees."""
        # Batch normalization keeps its input, not its output: 4 % of a DenseNet's step for one tensor less.
        fresh = self.training and isinstance(self.norm, nn.BatchNorm2d)
        return F.relu(apply_norm(self.norm, x, clusters), inplace=fresh)
