"""Batch normalization for every rank, as the baseline the other layers replace."""

from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from cbnorm.norms.base import check_common, check_momentum, recomputing
from cbnorm.norms.layout import check_input, from_ncl, to_ncl


class BatchNorm(_BatchNorm):
    """Batch normalization (eq. 1 and 2) of (N, C), (N, C, L), (N, C, H, W), … or (N, …, C).

    torch's own kernels, buffers and state_dict. As there, training refuses a batch with one value a channel.

    Args:
        num_features: Number of channels C.
        eps: Added to the variance.
        momentum: torch's convention, ``new = (1 - momentum)·old + momentum·batch``.
        affine: Learn gamma and beta.
        channel_dim: 1, or -1 for token layouts (N, …, C).
        track_running_stats: Keep running statistics for evaluation.
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        channel_dim: int = 1,
        track_running_stats: bool = True,
        device: object = None,
        dtype: object = None,
    ) -> None:
        num_features, eps, channel_dim = check_common(num_features, eps, channel_dim)
        if momentum is not None:
            check_momentum(momentum)
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        self.channel_dim = channel_dim

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x``; same shape and type."""
        check_input(x, self, self.num_features, self.channel_dim)
        if self.channel_dim == 1:
            return self._normalize(x)
        return from_ncl(self._normalize(to_ncl(x, -1)), x, -1)

    def _normalize(self, x: Tensor) -> Tensor:
        if self.training and (recomputing() or not x.numel()):
            # The running statistics have seen this batch, or there is nothing to see: copies take what comes.
            mean, variance = (None if s is None else s.clone() for s in (self.running_mean, self.running_var))
            return F.batch_norm(x, mean, variance, self.weight, self.bias, training=True, eps=self.eps)
        return super().forward(x)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  (torch's name)
        """Every rank from 2 on is accepted; :meth:`forward` has checked it."""
