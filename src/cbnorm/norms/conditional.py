"""Batch statistics with cluster ids: of the whole batch, or of each cluster."""

import torch
from torch import Tensor, nn

from cbnorm.norms.base import SMALLEST_COUNT, ClusterNorm, average_, check_choice, check_momentum, snapshot
from cbnorm.norms.standardize import apply_affine, pooled_moments, sample_moments, scale_and_shift
from cbnorm.norms.supervised import (
    Clusters,
    Scale,
    Unknown,
    normalize_known,
    normalize_mixed,
    normalize_unknown,
)


class ConditionalBatchNorm(ClusterNorm):
    """Batch normalization whose gamma and beta belong to the sample's cluster (de Vries et al., 2017).

    ``y = gamma_k · (x - m) / sqrt(v + eps) + beta_k``, m and v over the whole batch. The control that has
    both batch statistics and cluster parameters. An unknown cluster gets the mean of all gammas and betas.

    Args:
        num_features: Number of channels C.
        num_clusters: Number of clusters K.
        eps: Added to the variance under the root.
        momentum: torch's convention, ``new = (1 - momentum)·old + momentum·batch``.
        channel_dim: 1, or -1 for token layouts (N, …, C).
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.

    Example:
        >>> layer = ConditionalBatchNorm(3, num_clusters=2)
        >>> layer(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 1, -1])).shape
        torch.Size([4, 3, 8, 8])
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        num_features: int,
        num_clusters: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        channel_dim: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, num_clusters, eps=eps, channel_dim=channel_dim)
        self.momentum = check_momentum(momentum)
        self.weight = nn.Parameter(torch.ones(num_clusters, num_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(num_clusters, num_features, device=device, dtype=dtype))
        self.register_buffer("running_mean", torch.zeros(num_features, device=device, dtype=dtype))
        self.register_buffer("running_var", torch.ones(num_features, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Gamma 1, beta 0, running mean 0, running variance 1."""
        _reset(self.weight, self.bias, self.running_mean, self.running_var)

    def normalize_clusters(self, x: Tensor, clusters: Tensor | None, *, unknown: bool) -> Tensor:
        """Whole-batch moments, then the cluster's gamma and beta."""
        mean, variance = self._moments(x)
        gamma, beta = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if clusters is None:
            gamma, beta = gamma.mean(dim=0, keepdim=True), beta.mean(dim=0, keepdim=True)
        else:
            gamma, beta = _select(gamma, clusters, unknown), _select(beta, clusters, unknown)
        return apply_affine(x, mean[None], gamma * (variance + self.eps).rsqrt(), beta)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training or not x.numel():
            return snapshot(self.running_mean, x.dtype), snapshot(self.running_var, x.dtype)
        _, mean, variance = pooled_moments(sample_moments(x), x.new_ones(len(x), 1))
        average_(self.running_mean, mean[0], self.momentum)
        average_(self.running_var, variance[0], self.momentum)
        return mean[0], variance[0]


class ClusterBatchNorm(ClusterNorm):
    """Each cluster normalized by its own batch statistics: SCB-Norm with measured instead of learned moments.

    ``y = (x - m_k) / sqrt(v_k + eps)`` with moments over the samples of cluster k in the batch, running
    averages of them in evaluation. What supervised normalization means when it is to give zero mean and unit
    variance. Clusters absent from a batch use and keep their running statistics. Unknown samples take no part
    in the statistics and are normalized by all clusters as in eq. 12.

    Args:
        num_features: Number of channels C.
        num_clusters: Number of clusters K.
        eps: Added to variances under the root.
        momentum: torch's convention, ``new = (1 - momentum)·old + momentum·batch``.
        affine: Learn gamma and beta: one for all clusters, or
        separate: one for each, which is domain-specific batch normalization (Chang et al., 2019); unknown
            samples get their mean.
        scale: See :class:`cbnorm.norms.SCBNorm`.
        unknown: See :class:`cbnorm.norms.SCBNorm`.
        channel_dim: 1, or -1 for token layouts (N, …, C).
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.

    Example:
        >>> layer = ClusterBatchNorm(3, num_clusters=2)
        >>> y = layer(torch.randn(6, 3, 8, 8) + 5, torch.tensor([0, 1, 1, 0, 1, 0]))
        >>> bool(y.mean().abs() < 1e-4)
        True
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(  # noqa: PLR0913  (norm options; all but two by keyword)
        self,
        num_features: int,
        num_clusters: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        separate: bool = False,
        scale: Scale = "consistent",
        unknown: Unknown = "sample",
        channel_dim: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, num_clusters, eps=eps, channel_dim=channel_dim)
        self.momentum = check_momentum(momentum)
        self.scale: Scale = check_choice("scale", scale, ("paper", "consistent"))  # type: ignore[assignment]
        self.unknown: Unknown = check_choice("unknown", unknown, ("sample", "position"))  # type: ignore[assignment]
        shape = (num_clusters, num_features)
        self.register_buffer("running_mean", torch.zeros(shape, device=device, dtype=dtype))
        self.register_buffer("running_var", torch.ones(shape, device=device, dtype=dtype))
        if separate and not affine:
            raise ValueError("separate=True is about gamma and beta: add affine=True")
        self.separate = separate
        learned = shape if separate else (num_features,)
        self.weight = nn.Parameter(torch.ones(learned, device=device, dtype=dtype)) if affine else None
        self.bias = nn.Parameter(torch.zeros(learned, device=device, dtype=dtype)) if affine else None

    def reset_parameters(self) -> None:
        """Gamma 1, beta 0, running means 0, running variances 1."""
        _reset(self.weight, self.bias, self.running_mean, self.running_var)

    def normalize_clusters(self, x: Tensor, clusters: Tensor | None, *, unknown: bool) -> Tensor:
        """Cluster moments, then eq. 10, or eq. 12 for unknown ids."""
        mean, variance = self._moments(x, clusters)
        parameters = Clusters(mean, (variance + self.eps).sqrt())
        if clusters is not None and not unknown:
            return normalize_known(x, clusters, parameters, *self._each(x.dtype))
        if clusters is None:
            y = normalize_unknown(x, parameters, scale=self.scale, unknown=self.unknown)
        else:
            y = normalize_mixed(x, clusters, parameters, scale=self.scale, unknown=self.unknown)
        if self.weight is None or self.bias is None:
            return y
        gamma, beta = self.weight.to(y.dtype), self.bias.to(y.dtype)
        if not self.separate:
            return scale_and_shift(y, gamma, beta)
        if clusters is None:
            return scale_and_shift(y, gamma.mean(dim=0), beta.mean(dim=0))
        gamma, beta = (_select(table, clusters, unknown)[:, :, None] for table in (gamma, beta))
        return y * gamma + beta

    def _each(self, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """Gamma and beta of every cluster, (K, C)."""
        if self.weight is None or self.bias is None:
            return None, None
        gamma, beta = (table.to(dtype).expand(self.num_clusters, -1) for table in (self.weight, self.bias))
        return gamma, beta

    def _moments(self, x: Tensor, clusters: Tensor | None) -> tuple[Tensor, Tensor]:
        stored = snapshot(self.running_mean, x.dtype), snapshot(self.running_var, x.dtype)
        if not self.training or clusters is None:
            return stored
        member = (clusters.unsqueeze(1) == torch.arange(self.num_clusters, device=x.device)).to(x.dtype)
        mass, mean, variance = pooled_moments(sample_moments(x), member)
        alive = mass >= SMALLEST_COUNT
        average_(self.running_mean, mean, self.momentum, alive)
        # One value has no variance to learn from.
        average_(self.running_var, variance, self.momentum, mass >= 2)
        return torch.where(alive, mean, stored[0]), torch.where(alive, variance, stored[1])


@torch.no_grad()
def _reset(gamma: Tensor | None, beta: Tensor | None, mean: Tensor, variance: Tensor) -> None:
    for ones in (gamma, variance):
        if ones is not None:
            ones.fill_(1.0)
    for zeros in (beta, mean):
        if zeros is not None:
            zeros.zero_()


def _select(table: Tensor, clusters: Tensor, unknown: bool) -> Tensor:
    """Rows of ``table`` (K, C) by id, their mean for id -1; (N, C)."""
    rows = table[clusters.long().clamp_min(0)]
    if not unknown:
        return rows
    return torch.where((clusters < 0).unsqueeze(1), table.mean(dim=0), rows)
