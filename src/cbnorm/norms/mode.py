"""Mode normalization: samples are shared among modes by a learned gate."""

import torch
from torch import Tensor, nn

from cbnorm.norms.base import (
    SMALLEST_COUNT,
    FeatureNorm,
    average_,
    check_count,
    check_momentum,
    local_generator,
    snapshot,
)
from cbnorm.norms.standardize import apply_affine, blend, pooled_moments, sample_moments


class ModeNorm(FeatureNorm):
    """Mode normalization (Deecke, Murray & Bilen, ICLR 2019).

    ``y = gamma · sum_k g_k(x_n) (x - m_k) / sqrt(v_k + eps) + beta`` with gates
    ``g(x_n) = softmax(W · mean over positions of x_n + b)`` for each sample, and moments m_k, v_k of the
    batch weighted by the gates; running averages of them in evaluation. With one mode it is batch
    normalization. The sum over modes collapses into one affine map a sample.

    Args:
        num_features: Number of channels C.
        num_components: Number of modes K.
        eps: Added to variances under the root.
        momentum: torch's convention, ``new = (1 - momentum)·old + momentum·batch``.
        affine: Learn gamma and beta.
        seed: Of the gate's uniform ±1/sqrt(C) init; None takes the seed last given to ``torch.manual_seed``.
        channel_dim: 1, or -1 for token layouts (N, …, C).
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.

    Example:
        >>> ModeNorm(3, num_components=2)(torch.randn(4, 3, 8, 8)).shape
        torch.Size([4, 3, 8, 8])
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        num_features: int,
        num_components: int = 2,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        seed: int | None = None,
        channel_dim: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps=eps, channel_dim=channel_dim)
        self.num_components = check_count("num_components", num_components)
        self.momentum, self.seed = check_momentum(momentum), seed
        shape = (num_components, num_features)
        self.gate_weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.gate_bias = nn.Parameter(torch.empty(num_components, device=device, dtype=dtype))
        self.register_buffer("running_mean", torch.zeros(shape, device=device, dtype=dtype))
        self.register_buffer("running_var", torch.ones(shape, device=device, dtype=dtype))
        self._make_affine(affine=affine, device=device, dtype=dtype)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Small random gates, moments 0 and 1, gamma 1, beta 0."""
        generator = local_generator(self.seed)
        draw = torch.rand(self.gate_weight.shape, generator=generator)
        self.gate_weight.copy_((2 * draw - 1) / self.num_features**0.5)
        self.gate_bias.zero_()
        self.running_mean.zero_()
        self.running_var.fill_(1.0)
        self._reset_affine()

    def normalize(self, x: Tensor) -> Tensor:
        """Gates, moments, one affine map a sample."""
        moments = sample_moments(x)
        gates = nn.functional.linear(
            moments.mean, self.gate_weight.to(x.dtype), self.gate_bias.to(x.dtype)
        ).softmax(dim=1)
        if self.training:
            mass, mean, variance = pooled_moments(moments, gates)
            alive = mass >= SMALLEST_COUNT
            average_(self.running_mean, mean, self.momentum, alive)
            average_(self.running_var, variance, self.momentum, alive)
        else:
            mean, variance = snapshot(self.running_mean, x.dtype), snapshot(self.running_var, x.dtype)
        centre, slope = blend(gates, mean, (variance + self.eps).rsqrt())
        gain, bias = self._affine(x.dtype)
        if gain is None or bias is None:
            return apply_affine(x, centre, slope)
        return apply_affine(x, centre, slope * gain, bias[None])

    def extra_repr(self) -> str:
        """The arguments that differ between instances."""
        return f"{self.num_features}, num_components={self.num_components}, eps={self.eps:g}"
