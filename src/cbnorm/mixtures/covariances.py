"""The four covariance structures of a Gaussian mixture: densities, sufficient statistics, updates.

A structure holds the current parameters relative to a stream's origin, in the form its densities
need, and turns chunks of points into log densities and sums. Sums over chunks go to
:meth:`Structure.covariances`, which makes the next parameters of them.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

FULL_LIMIT = 512


class Parameters(NamedTuple):
    """Weights (K,), means (K, D) and covariances of a mixture.

    Covariances have shape (K, D) if diagonal, (K,) if spherical, (D, D) if tied, (K, D, D) if full.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor


class Structure(ABC):
    """Densities and sufficient statistics under the current parameters.

    The second moments of a chunk may use what its densities needed (its squares, say): call
    :meth:`log_joint` first.

    Args:
        parameters: The mixture, in the accumulators' type.
        origin: What the chunks are relative to, (D,).
        dtype: Type of the chunks.
    """

    def __init__(self, parameters: Parameters, origin: Tensor, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.width = parameters.means.shape[1]
        self.log_weights = parameters.weights.log()
        self.offsets = parameters.means - origin
        self._prepare(parameters.covariances)

    @abstractmethod
    def _prepare(self, covariances: Tensor) -> None: ...

    @abstractmethod
    def log_joint(self, chunk: Tensor) -> Tensor:
        """Log lambda_k + log p_k(x) for a chunk (m, D): (m, K)."""

    @abstractmethod
    def second_moments(self, chunk: Tensor, tau: Tensor) -> Tensor:
        """The chunk's part of the sums that covariances need, for responsibilities (m, K)."""

    @staticmethod
    @abstractmethod
    def covariances(counts: Tensor, offsets: Tensor, second: Tensor, floor: float) -> Tensor:
        """Covariances from counts (K,), new means relative to the origin and summed second moments.

        No variance along any direction is below ``floor``.
        """

    @staticmethod
    @abstractmethod
    def keep(alive: Tensor, updated: Tensor, old: Tensor) -> Tensor:
        """Updated covariances where a component is alive (K,), old ones elsewhere."""

    def _constants(self, log_determinants: Tensor) -> Tensor:
        volume = self.width * math.log(2 * math.pi) + log_determinants
        return self.log_weights - 0.5 * volume


class _Diagonal(Structure):
    """One variance per component and dimension: two matrix products for densities, two for sums."""

    def _prepare(self, covariances: Tensor) -> None:
        precisions = covariances.reciprocal()
        linear = self.offsets * precisions
        constants = self._constants((covariances.log() + self.offsets * linear).sum(1))
        self._constant = constants.to(self.dtype)[:, None]
        self._linear = linear.to(self.dtype)
        self._quadratic = precisions.to(self.dtype)
        self._squares = torch.empty(0, dtype=self.dtype, device=covariances.device)

    def log_joint(self, chunk: Tensor) -> Tensor:
        if self._squares.shape[0] < len(chunk):
            self._squares = torch.empty_like(chunk)
        squares = torch.square(chunk, out=self._squares[: len(chunk)])
        # Few rows times many columns is the faster way round.
        partial = torch.addmm(self._constant, self._linear, chunk.T)
        return torch.addmm(partial, self._quadratic, squares.T, alpha=-0.5).T

    def second_moments(self, chunk: Tensor, tau: Tensor) -> Tensor:
        return tau.T @ self._squares[: len(chunk)]

    @staticmethod
    def covariances(counts: Tensor, offsets: Tensor, second: Tensor, floor: float) -> Tensor:
        return (second / counts[:, None] - offsets.square()).clamp_min(floor)

    @staticmethod
    def keep(alive: Tensor, updated: Tensor, old: Tensor) -> Tensor:
        return torch.where(alive[:, None], updated, old)


class _Spherical(Structure):
    """One variance per component."""

    def _prepare(self, covariances: Tensor) -> None:
        precisions = covariances.reciprocal()
        norms = self.offsets.square().sum(1) * precisions
        self._constant = self._constants(self.width * covariances.log() + norms).to(self.dtype)
        self._linear = (self.offsets * precisions[:, None]).T.to(self.dtype)
        self._quadratic = precisions.to(self.dtype)
        self._norms = precisions.new_empty(0)

    def log_joint(self, chunk: Tensor) -> Tensor:
        self._norms = torch.linalg.vector_norm(chunk, dim=1).square()
        return torch.addmm(self._constant, chunk, self._linear) - 0.5 * self._norms[:, None] * self._quadratic

    def second_moments(self, chunk: Tensor, tau: Tensor) -> Tensor:
        return self._norms @ tau

    @staticmethod
    def covariances(counts: Tensor, offsets: Tensor, second: Tensor, floor: float) -> Tensor:
        return ((second / counts - offsets.square().sum(1)) / offsets.shape[1]).clamp_min(floor)

    @staticmethod
    def keep(alive: Tensor, updated: Tensor, old: Tensor) -> Tensor:
        return torch.where(alive, updated, old)


class _Tied(Structure):
    """One covariance matrix for all components."""

    def _prepare(self, covariances: Tensor) -> None:
        self._whiten, log_determinant = _whitening(covariances)
        self._white_offsets = self.offsets @ self._whiten
        norms = self._white_offsets.square().sum(1)
        self._constant = self._constants(log_determinant + norms)

    def log_joint(self, chunk: Tensor) -> Tensor:
        white = chunk @ self._whiten
        partial = torch.addmm(self._constant, white, self._white_offsets.T)
        return partial - 0.5 * white.square().sum(1, keepdim=True)

    def second_moments(self, chunk: Tensor, tau: Tensor) -> Tensor:
        return chunk.T @ chunk

    @staticmethod
    def covariances(counts: Tensor, offsets: Tensor, second: Tensor, floor: float) -> Tensor:
        between = (counts[:, None] * offsets).T @ offsets
        return _floored((second - between) / counts.sum(), floor)

    @staticmethod
    def keep(alive: Tensor, updated: Tensor, old: Tensor) -> Tensor:  # noqa: ARG004  (shared by all)
        return updated


class _Full(Structure):
    """One covariance matrix per component."""

    def _prepare(self, covariances: Tensor) -> None:
        self._whiten, log_determinants = _whitening(covariances)
        self._white_offsets = torch.einsum("kd,kde->ke", self.offsets, self._whiten)
        self._constant = self._constants(log_determinants)

    def log_joint(self, chunk: Tensor) -> Tensor:
        distances = chunk.new_empty(len(chunk), len(self._constant))
        # One component at a time: all whitened points at once would be K times the data.
        for k, (whiten, offset) in enumerate(zip(self._whiten, self._white_offsets, strict=True)):
            distances[:, k] = (chunk @ whiten - offset).square().sum(1)
        return self._constant - 0.5 * distances

    def second_moments(self, chunk: Tensor, tau: Tensor) -> Tensor:
        return torch.stack([(chunk * weights[:, None]).T @ chunk for weights in tau.unbind(1)])

    @staticmethod
    def covariances(counts: Tensor, offsets: Tensor, second: Tensor, floor: float) -> Tensor:
        between = offsets[:, :, None] * offsets[:, None, :]
        return _floored(second / counts[:, None, None] - between, floor)

    @staticmethod
    def keep(alive: Tensor, updated: Tensor, old: Tensor) -> Tensor:
        return torch.where(alive[:, None, None], updated, old)


STRUCTURES: dict[str, type[Structure]] = {
    "diagonal": _Diagonal,
    "spherical": _Spherical,
    "tied": _Tied,
    "full": _Full,
}


def _whitening(covariances: Tensor) -> tuple[Tensor, Tensor]:
    """W with W Wᵀ = C⁻¹, so that ‖xᵀW‖² is the Mahalanobis distance, and log |C|."""
    factor = torch.linalg.cholesky(covariances)
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    inverse = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    log_determinants = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return inverse.mT.contiguous(), log_determinants


def _floored(covariances: Tensor, floor: float) -> Tensor:
    """The nearest matrices whose eigenvalues are at least ``floor``."""
    symmetric = (covariances + covariances.mT) / 2
    identity = torch.eye(symmetric.shape[-1], dtype=symmetric.dtype, device=symmetric.device)
    # A Cholesky factorisation says whether any eigenvalue is too small at a tenth of the cost.
    if (torch.linalg.cholesky_ex(symmetric - floor * identity).info == 0).all():
        return symmetric
    values, vectors = torch.linalg.eigh(symmetric)
    return (vectors * values.clamp_min(floor)[..., None, :]) @ vectors.mT
