"""Supervised cluster-based normalization: every cluster has a learned location and width."""

import torch
from torch import Tensor, nn

from cbnorm.norms.base import local_generator
from cbnorm.norms.learned import SOFTPLUS_INVERSE_OF_ONE, LearnedClusters, glorot_uniform


class SCBNorm(LearnedClusters):
    """Supervised cluster-based normalization, SCB-Norm (arXiv 2403.16798v2, eq. 10, 12, 13).

    ``y = (x - mu_k) / sqrt(sigma_k^2 + eps)``, where k is the cluster of the input that ``x`` came from, and
    mu_k, sigma_k^2 are learned. No batch statistics anywhere: training and evaluation are the same function,
    a learned affine map for each cluster. Nothing forces the output to zero mean and unit variance.

    A sample of unknown cluster (id -1, or no ids) is normalized by all clusters, weighted by their posterior.
    The paper prints two factors too many there: see ``docs/errata.md``.

    Args:
        num_features: Number of channels C.
        num_clusters: Number of clusters K.
        eps: Default 1e-5 (paper) or 1e-3 (released).
        convention: ``"paper"``: variance = softplus(raw) + 1e-4, eps under the root, starting at mean 0 and
            variance 1. ``"released"``: as in the authors' package, deviation = exp(raw) + eps, both tables
            Xavier-uniform.
        scale: What eq. 12 is multiplied by: ``"consistent"`` 1, ``"paper"`` sqrt(K), which makes unknown
            samples sqrt(K) times larger than known ones.
        unknown: Posterior of an unknown cluster, one a ``"sample"`` or one a ``"position"``.
        seed: Of the released convention's init; None takes the seed last given to ``torch.manual_seed``.
        channel_dim: 1, or -1 for token layouts (N, …, C).
        device: Of the parameters.
        dtype: Of the parameters.

    Example:
        >>> layer = SCBNorm(3, num_clusters=2)
        >>> y = layer(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 1, -1]))
        >>> y.shape
        torch.Size([4, 3, 8, 8])
    """

    def make_parameters(self, table: Tensor) -> None:
        """Two tables (K, C)."""
        self.mean, self.raw_spread = nn.Parameter(table), nn.Parameter(torch.empty_like(table))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Identity-like start (paper) or Xavier-uniform tables (released)."""
        if self.convention == "paper":
            self.mean.zero_()
            self.raw_spread.fill_(SOFTPLUS_INVERSE_OF_ONE)
            return
        generator = local_generator(self.seed)
        for table in (self.mean, self.raw_spread):
            table.copy_(glorot_uniform(table.shape, generator))

    def raw_parameters(self) -> tuple[Tensor, Tensor]:
        """Mean and unconstrained spread of every cluster, (K, C) each."""
        return self.mean, self.raw_spread
