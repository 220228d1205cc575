"""What all layers share: shape in, shape out, statistics in full precision, running averages."""

import math
from abc import ABC, abstractmethod
from numbers import Real
from operator import index
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cbnorm.mixtures.numerics import compute_dtype, full_precision
from cbnorm.norms.context import current_clusters
from cbnorm.norms.layout import check_clusters, check_input, from_ncl, to_ncl

#: A component with less mass than this (in positions) leaves its running statistics alone.
SMALLEST_COUNT = 1e-3


class _ChannelNorm(nn.Module, ABC):
    """Number of channels, eps and where the channels are.

    Args:
        num_features: Number of channels C.
        eps: Added to variances under the root.
        channel_dim: 1, or -1 for token layouts (N, …, C).
    """

    takes_clusters: ClassVar[bool] = False
    num_features: int
    eps: float
    channel_dim: int

    def __init__(self, num_features: int, *, eps: float = 1e-5, channel_dim: int = 1) -> None:
        super().__init__()
        self.num_features, self.eps, self.channel_dim = check_common(num_features, eps, channel_dim)

    def extra_repr(self) -> str:
        """The arguments that differ between instances."""
        return f"{self.num_features}, eps={self.eps:g}"


class FeatureNorm(_ChannelNorm):
    """Base of the layers that are told nothing about the samples.

    Input of half precision and under autocast is normalized in float32 and returned in its own type.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def _make_affine(self, *, affine: bool, **options: Any) -> None:
        C = self.num_features
        self.weight = nn.Parameter(torch.ones(C, **options)) if affine else None
        self.bias = nn.Parameter(torch.zeros(C, **options)) if affine else None

    @torch.no_grad()
    def _reset_affine(self) -> None:
        if self.weight is not None and self.bias is not None:
            self.weight.fill_(1.0)
            self.bias.zero_()

    def _affine(self, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """Gamma and beta of eq. 2, (C,) each, in the type that ``x`` is normalized in; or None."""
        if self.weight is None or self.bias is None:
            return None, None
        return self.weight.to(dtype), self.bias.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize ``x``; same shape, type and memory format."""
        check_input(x, self, self.num_features, self.channel_dim)
        with full_precision(x.device):
            flat = to_ncl(x, self.channel_dim)
            y = self.normalize(flat.to(compute_dtype(x)))
            return from_ncl(y.to(x.dtype), x, self.channel_dim)

    @abstractmethod
    def normalize(self, x: Tensor) -> Tensor:
        """Normalize (N, C, L) in float32 or float64."""


class ClusterNorm(_ChannelNorm):
    """Base of the layers that are told the cluster of every sample.

    Args:
        num_features: Number of channels C.
        num_clusters: Number of clusters K.
        eps: Added to variances under the root.
        channel_dim: 1, or -1 for token layouts (N, …, C).
    """

    takes_clusters: ClassVar[bool] = True

    def __init__(
        self, num_features: int, num_clusters: int, *, eps: float = 1e-5, channel_dim: int = 1
    ) -> None:
        super().__init__(num_features, eps=eps, channel_dim=channel_dim)
        self.num_clusters = check_count("num_clusters", num_clusters)
        self._told_by_context = False

    def forward(self, x: Tensor, clusters: Tensor | None = None) -> Tensor:
        """Normalize ``x`` by the clusters of its samples.

        Args:
            x: (N, C), (N, C, L), (N, C, H, W) or, with ``channel_dim=-1``, (N, …, C).
            clusters: Ids in [0, K), -1 for unknown, (N,). Without them the ids of an enclosing
                :func:`cbnorm.norms.cluster_ids` are taken; without that, every id is unknown.

        Returns:
            Same shape, type and memory format as ``x``.

        Raises:
            TypeError: Input not floating point, ids not integers.
            ValueError: Wrong shape or device, or an id outside [-1, K) (checked in eager mode only).
            RuntimeError: Activation checkpointing computes the layer again, without the enclosing
                :func:`cbnorm.norms.cluster_ids` of the first time.
        """
        check_input(x, self, self.num_features, self.channel_dim)
        clusters = self._from_context() if clusters is None else clusters
        unknown = True
        if clusters is not None:
            unknown = self.check_clusters(clusters, x)
        with full_precision(x.device):
            flat = to_ncl(x, self.channel_dim).to(compute_dtype(x))
            y = self.normalize_clusters(flat, clusters, unknown=unknown)
            return from_ncl(y.to(x.dtype), x, self.channel_dim)

    def _from_context(self) -> Tensor | None:
        clusters = current_clusters()
        if torch.compiler.is_compiling():
            return clusters
        if not recomputing():
            self._told_by_context = clusters is not None
        elif clusters is None and self._told_by_context:
            raise RuntimeError(
                f"{type(self).__name__} is computed again in the backward pass, outside of cluster_ids: "
                "call backward() inside of it too, or give the ids as an argument"
            )
        return clusters

    def check_clusters(self, clusters: Tensor, x: Tensor) -> bool:
        """Refuse what is no id of every sample; whether some id may be -1."""
        return check_clusters(clusters, x, self.num_clusters, type(self).__name__)

    @abstractmethod
    def normalize_clusters(self, x: Tensor, clusters: Tensor | None, *, unknown: bool) -> Tensor:
        """Normalize (N, C, L); ``unknown`` is False when it is sure that no id is -1."""

    def extra_repr(self) -> str:
        """The arguments that differ between instances."""
        return f"{self.num_features}, num_clusters={self.num_clusters}, eps={self.eps:g}"


def is_norm(module: nn.Module) -> bool:
    """Whether a module of a network is a normalization layer, whoever made it.

    Layers of other packages are known by the name that :func:`cbnorm.norms.create_norm` gives them.
    """
    ours_and_torchs = (_ChannelNorm, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)  # noqa: SLF001
    return isinstance(module, ours_and_torchs) or hasattr(module, "norm_name")


def check_common(num_features: int, eps: Any, channel_dim: int) -> tuple[int, float, int]:
    """What all layers take, as int, float and int, or one clear line."""
    eps = check_positive("eps", eps)
    if channel_dim not in (1, -1):
        raise ValueError(f"channel_dim must be 1 or -1, not {channel_dim!r}")
    return check_count("num_features", num_features), eps, channel_dim


def check_positive(name: str, value: Any) -> float:
    """``value`` as a float if it is a finite number above zero, else one clear line."""
    if not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise ValueError(f"{name} must be positive and finite, not {value!r}")
    return float(value)


def check_count(name: str, value: int, least: int = 1) -> int:
    """``value`` as an int if it is an integer (NumPy's too) of at least `least`, else one clear line."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or index(value) < least:
        raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")
    return index(value)


def check_seed(seed: int) -> int:
    """``seed`` as an int if it is an integer (NumPy's too), else one clear line."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise ValueError(f"seed must be an integer or None, not {seed!r}")
    return index(seed)


def check_momentum(momentum: Any) -> float:
    """``momentum`` if it lies in [0, 1], else one clear line."""
    if not isinstance(momentum, Real) or not 0 <= float(momentum) <= 1:
        raise ValueError(
            f"momentum must lie in [0, 1], not {momentum!r} (new = (1 - momentum)·old + momentum·batch)"
        )
    return float(momentum)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """``value`` if it is one of ``choices``, else one clear line."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return value


def snapshot(buffer: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of ``buffer``: later batches change it in place while autograd may still hold this one's."""
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        # A compiler may copy again in the backward pass, when the buffer has moved: not through this.
        return _copied(buffer).to(dtype)
    return buffer.to(dtype, copy=True)


@torch.library.custom_op("cbnorm::copied", mutates_args=())
def _copied(buffer: Tensor) -> Tensor:
    return buffer.clone()


@_copied.register_fake
def _(buffer: Tensor) -> Tensor:
    return torch.empty_like(buffer)


def recomputing() -> bool:
    """Whether a backward pass is computing a forward pass again (activation checkpointing).

    Running statistics and mixtures have seen the batch then, and must be what they were.
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._current_graph_task_id() != -1  # noqa: SLF001  (as torch.utils.checkpoint asks)


def narrowed(value: Tensor, dtype: torch.dtype) -> Tensor:
    """``value`` in another type; what is finite stays so (variances of float16's inputs may not fit)."""
    if value.dtype == dtype:
        return value
    largest = torch.finfo(dtype).max
    return torch.where(value.isfinite(), value.clamp(-largest, largest), value).to(dtype)


@torch.no_grad()
def average_(running: Tensor, value: Tensor, momentum: float, alive: Tensor | None = None) -> None:
    """In place: ``running = (1 - momentum)·running + momentum·value``, where ``alive``; once a batch."""
    if recomputing():
        return
    value = value.detach()
    moved = narrowed(running.to(value.dtype).lerp(value, momentum), running.dtype)
    running.copy_(moved if alive is None else torch.where(alive, moved, running))


def local_generator(seed: int | None) -> torch.Generator:
    """A generator of the layer's own, so that no layer draws from the global stream.

    Args:
        seed: None means the seed last given to :func:`torch.manual_seed`, which is read, not drawn from.
    """
    return torch.Generator().manual_seed(torch.initial_seed() if seed is None else check_seed(seed))
