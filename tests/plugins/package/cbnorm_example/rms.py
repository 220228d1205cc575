"""Root mean square normalization: a sample is divided by the root of its mean square."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        mean_square = x.square().mean(dim=tuple(range(1, x.ndim)), keepdim=True)
        weight = self.weight.view(-1, *[1] * (x.ndim - 2))
        return x * torch.rsqrt(mean_square + self.eps) * weight
