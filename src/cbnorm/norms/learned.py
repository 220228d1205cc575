"""What the two supervised layers share: learned locations and widths, known and unknown clusters."""

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cbnorm.norms.base import ClusterNorm, check_choice
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


class LearnedClusters(ClusterNorm):
    """Eq. 10 with a known id and eq. 12 without, whatever the parameters behind mean and deviation.

    Subclasses say which parameters there are (:meth:`make_parameters`), where they start
    (:meth:`reset_parameters`), and how mean and spread come from them (:meth:`raw_parameters`).
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
        check_choice("convention", convention, ("paper", "released"))
        eps = (1e-5 if convention == "paper" else 1e-3) if eps is None else eps
        super().__init__(num_features, num_clusters, eps=eps, channel_dim=channel_dim)
        self.convention: Convention = convention
        self.scale: Scale = check_choice("scale", scale, ("paper", "consistent"))  # type: ignore[assignment]
        self.unknown: Unknown = check_choice("unknown", unknown, ("sample", "position"))  # type: ignore[assignment]
        self.seed = seed
        self.make_parameters(torch.empty(num_clusters, num_features, device=device, dtype=dtype))
        self.reset_parameters()

    @abstractmethod
    def make_parameters(self, table: Tensor) -> None:
        """Register parameters, not yet initialized, with the type and device of ``table`` (K, C)."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Initialize the parameters."""

    @abstractmethod
    def raw_parameters(self) -> tuple[Tensor, Tensor]:
        """Mean and unconstrained spread of every cluster, (K, C) each."""

    def clusters(self, dtype: torch.dtype) -> Clusters:
        """Mean and deviation of every cluster, (K, C) each."""
        mean, raw = self.raw_parameters()
        return Clusters(mean.to(dtype), self.deviation(raw.to(dtype)))

    def deviation(self, raw: Tensor) -> Tensor:
        """What deviations from the mean are divided by, given the unconstrained spread."""
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


def softplus_inverse(value: Tensor) -> Tensor:
    """What softplus maps to ``value``, which must be positive."""
    return value + (-torch.expm1(-value)).log()


def glorot_uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Uniform on ±sqrt(6 / (rows + columns)), drawn on the CPU so that it is the same on every device."""
    bound = math.sqrt(6 / sum(shape))
    return (2 * torch.rand(shape, generator=generator) - 1) * bound
