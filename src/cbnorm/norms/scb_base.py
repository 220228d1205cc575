"""SCB-Norm-base: location and width of a cluster come from two linear layers."""

import torch
from torch import Tensor, nn

from cbnorm.norms.base import local_generator
from cbnorm.norms.layout import check_weights
from cbnorm.norms.learned import SOFTPLUS_INVERSE_OF_ONE, LearnedClusters, glorot_uniform
from cbnorm.norms.standardize import apply_affine


class SCBNormBase(LearnedClusters):
    """SCB-Norm-base: two linear layers of the one-hot cluster give mean and spread (Table II of the paper).

    ``mu_k = A_k + a`` and ``raw_k = B_k + b``. The same family of functions as
    :class:`cbnorm.norms.SCBNorm` with ``2C(K+1)`` parameters instead of ``2CK``; what it adds is a component
    shared by all clusters, the initial values, and that a sample may belong to several clusters: called with
    floating-point weights (N, K) in place of ids, for instance posterior probabilities, the layers get those
    rows in place of one-hot ones, and the sample is normalized by ``mu = w A + a`` and ``raw = w B + b``.

    Args:
        num_features: Number of channels C.
        num_clusters: Number of clusters K.
        eps: See :class:`cbnorm.norms.SCBNorm`.
        convention: ``"paper"``: the second layer gives the variance, made positive by softplus (the paper
            names no function). ``"released"``: it gives the log of the deviation.
        scale: See :class:`cbnorm.norms.SCBNorm`.
        unknown: See :class:`cbnorm.norms.SCBNorm`.
        seed: Of the Glorot-uniform kernels; None takes the seed last given to ``torch.manual_seed``.
        channel_dim: 1, or -1 for token layouts (N, …, C).
        device: Of the parameters.
        dtype: Of the parameters.

    Example:
        >>> layer = SCBNormBase(3, num_clusters=2)
        >>> layer(torch.randn(4, 3), torch.tensor([0, 1, 1, 0])).shape
        torch.Size([4, 3])
        >>> layer(torch.randn(1, 3), torch.tensor([[0.9, 0.1]])).shape
        torch.Size([1, 3])
    """

    def make_parameters(self, table: Tensor) -> None:
        """Kernel (K, C) and bias (C,) of two linear layers."""
        self.mean_weight = nn.Parameter(table)
        self.mean_bias = nn.Parameter(torch.empty_like(table[0]))
        self.spread_weight = nn.Parameter(torch.empty_like(table))
        self.spread_bias = nn.Parameter(torch.empty_like(table[0]))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Glorot-uniform kernels and zero biases, as in the code that made the published numbers.

        In the paper's convention the spread's bias starts where the variance is 1.
        """
        generator = local_generator(self.seed)
        for kernel in (self.mean_weight, self.spread_weight):
            kernel.copy_(glorot_uniform(kernel.shape, generator))
        self.mean_bias.zero_()
        self.spread_bias.fill_(SOFTPLUS_INVERSE_OF_ONE if self.convention == "paper" else 0.0)

    def raw_parameters(self) -> tuple[Tensor, Tensor]:
        """Mean and unconstrained spread of every cluster, (K, C) each."""
        return self.mean_weight + self.mean_bias, self.spread_weight + self.spread_bias

    def check_clusters(self, clusters: Tensor, x: Tensor) -> bool:
        """Ids as everywhere, or weights (N, K)."""
        if not _soft(clusters):
            return super().check_clusters(clusters, x)
        check_weights(clusters, x, self.num_clusters, type(self).__name__)
        return False

    def normalize_clusters(self, x: Tensor, clusters: Tensor | None, *, unknown: bool) -> Tensor:
        """Eq. 10 with the outputs of the two layers, or eq. 12 for unknown ids."""
        if clusters is None or not _soft(clusters):
            return super().normalize_clusters(x, clusters, unknown=unknown)
        weights = clusters.to(x.dtype)
        mean = weights @ self.mean_weight.to(x.dtype) + self.mean_bias.to(x.dtype)
        raw = weights @ self.spread_weight.to(x.dtype) + self.spread_bias.to(x.dtype)
        return apply_affine(x, mean, self.deviation(raw).reciprocal())


def _soft(clusters: object) -> bool:
    return isinstance(clusters, Tensor) and clusters.is_floating_point() and clusters.ndim == 2
