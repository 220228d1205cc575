"""Supervised cluster-based normalization: every cluster has a learned location and width."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.norms.base import ClusterNorm, check_choice, local_generator
from cbnorm.norms.supervised import (
    Clusters,
    Scale,
    Unknown,
    normalize_known,
    normalize_mixed,
    normalize_unknown,
)

Convention = Literal["paper", "released"]

#: softplus of this is 1.
SOFTPLUS_INVERSE_OF_ONE = math.log(math.expm1(1.0))
#: Smallest learned variance in the paper's convention.
VARIANCE_FLOOR = 1e-4


class _LearnedClusters(ClusterNorm):
    """Eq. 10 with a known id and eq. 12 without, whatever the parameters behind mean and deviation."""

    def __init__(
        self,
        num_features: int,
        num_clusters: int,
        *,
        eps: float | None = None,
        convention: Convention = "paper",
        scale: Scale = "consistent",
        unknown: Unknown = "sample",
        channel_dim: int = 1,
    ) -> None:
        check_choice("convention", convention, ("paper", "released"))
        eps = (1e-5 if convention == "paper" else 1e-3) if eps is None else eps
        super().__init__(num_features, num_clusters, eps=eps, channel_dim=channel_dim)
        self.convention: Convention = convention
        self.scale: Scale = check_choice("scale", scale, ("paper", "consistent"))  # type: ignore[assignment]
        self.unknown: Unknown = check_choice("unknown", unknown, ("sample", "position"))  # type: ignore[assignment]

    def clusters(self, dtype: torch.dtype) -> Clusters:
        """Mean and deviation of every cluster, (K, C) each."""
        mean, raw = self.raw_parameters()
        return Clusters(mean.to(dtype), self._deviation(raw.to(dtype)))

    def raw_parameters(self) -> tuple[Tensor, Tensor]:
        """Mean and unconstrained spread of every cluster, (K, C) each."""
        raise TypeError(f"{type(self).__name__} needs a method raw_parameters()")

    def _deviation(self, raw: Tensor) -> Tensor:
        if self.convention == "released":
            return raw.exp() + self.eps
        return (F.softplus(raw) + VARIANCE_FLOOR + self.eps).sqrt()

    def normalize_clusters(self, x: Tensor, clusters: Tensor | None, *, unknown: bool) -> Tensor:
        """Eq. 10, or eq. 12 for unknown ids."""
        parameters = self.clusters(x.dtype)
        if clusters is None:
            return normalize_unknown(x, parameters, scale=self.scale, unknown=self.unknown)
        if unknown:
            return normalize_mixed(x, clusters, parameters, scale=self.scale, unknown=self.unknown)
        return normalize_known(x, clusters, parameters)

    def extra_repr(self) -> str:
        """The arguments that differ between instances."""
        options = f"convention={self.convention}, scale={self.scale}, unknown={self.unknown}"
        return f"{super().extra_repr()}, {options}"


class SCBNorm(_LearnedClusters):
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
        self.mean = nn.Parameter(torch.empty(num_clusters, num_features, device=device, dtype=dtype))
        self.raw_spread = nn.Parameter(torch.empty_like(self.mean))
        self.reset_parameters()

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


class SCBNormBase(_LearnedClusters):
    """SCB-Norm-base: two linear layers of the one-hot cluster give mean and spread (Table II of the paper).

    ``mu_k = A_k + a`` and ``raw_k = B_k + b``. The same family of functions as :class:`SCBNorm` with
    ``2C(K+1)`` parameters instead of ``2CK``; what it adds is a component shared by all clusters, and the
    initial values.

    Args:
        num_features: Number of channels C.
        num_clusters: Number of clusters K.
        eps: See :class:`SCBNorm`.
        convention: ``"paper"``: the second layer gives the variance, made positive by softplus (the paper
            names no function). ``"released"``: it gives the log of the deviation.
        scale: See :class:`SCBNorm`.
        unknown: See :class:`SCBNorm`.
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


def glorot_uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Uniform on ±sqrt(6 / (rows + columns)), drawn on the CPU so that it is the same on every device."""
    bound = math.sqrt(6 / sum(shape))
    return (2 * torch.rand(shape, generator=generator) - 1) * bound
