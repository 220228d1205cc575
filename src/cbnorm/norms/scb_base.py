"""SCB-Norm-base: location and width of a cluster come from two linear layers."""

import torch
from torch import Tensor, nn

from cbnorm.norms.base import local_generator
from cbnorm.norms.learned import SOFTPLUS_INVERSE_OF_ONE, Convention, LearnedClusters, glorot_uniform
from cbnorm.norms.supervised import Scale, Unknown


class SCBNormBase(LearnedClusters):
    """SCB-Norm-base: two linear layers of the one-hot cluster give mean and spread (Table II of the paper).

    ``mu_k = A_k + a`` and ``raw_k = B_k + b``. The same family of functions as
    :class:`cbnorm.norms.SCBNorm` with ``2C(K+1)`` parameters instead of ``2CK``; what it adds is a component
    shared by all clusters, and the initial values.

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
    """

    def __init__(
        self,
        num_features: int,
        num_clusters: int,
        *,
        eps: float | None = None,
        convention: Convention = "paper",
        scale: Scale = "consistent",
        unknown: Unknown = "sample",
        seed: int | None = None,
        channel_dim: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_features,
            num_clusters,
            eps=eps,
            convention=convention,
            scale=scale,
            unknown=unknown,
            channel_dim=channel_dim,
        )
        self.seed = seed
        self.mean_weight = nn.Parameter(torch.empty(num_clusters, num_features, device=device, dtype=dtype))
        self.mean_bias = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype))
        self.spread_weight = nn.Parameter(torch.empty_like(self.mean_weight))
        self.spread_bias = nn.Parameter(torch.empty_like(self.mean_bias))
        self.reset_parameters()

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
