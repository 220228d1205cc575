"""Batch normalization whose beta belongs to the image's cluster."""

import torch
from torch import Tensor, nn

from cbnorm.norms.context import current_clusters


class ClusterShift(nn.Module):
    takes_clusters = True

    def __init__(self, num_features: int, num_clusters: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(num_features, momentum=momentum, affine=False)
        # The last row is for unknown clusters: their id is -1.
        self.shift = nn.Parameter(torch.zeros(num_clusters + 1, num_features))

    def forward(self, x: Tensor, clusters: Tensor | None = None) -> Tensor:
        clusters = current_clusters() if clusters is None else clusters
        if clusters is None:
            clusters = torch.full((len(x),), -1, device=x.device)
        return self.bn(x) + self.shift[clusters][:, :, None, None]
