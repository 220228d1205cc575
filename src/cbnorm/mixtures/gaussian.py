"""Gaussian mixtures fitted by expectation maximisation, streamed in chunks of rows."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cbnorm.mixtures.chunks import RowStream
from cbnorm.mixtures.climb import Climb, chunk_dtype, climb, log_joint, smallest_support
from cbnorm.mixtures.covariances import FULL_LIMIT, STRUCTURES, Parameters
from cbnorm.mixtures.diagonal import Mixture
from cbnorm.mixtures.numerics import check_matrix, check_new, check_number
from cbnorm.mixtures.starts import given_parameters, starting_parameters


@dataclass(frozen=True)
class MixtureFit:
    """Outcome of :func:`fit_mixture`.

    Attributes:
        covariance: ``"diagonal"``, ``"spherical"``, ``"tied"`` or ``"full"``.
        weights: (K,), float64, with sum 1.
        means: (K, D), float64.
        covariances: (K, D), (K,), (D, D) or (K, D, D) respectively, float64.
        labels: Most probable component of every row of the data, int64 (n,).
        counts: Rows per component by these labels, int64 (K,).
        mean_log_likelihood: Of a row of the data under the fitted mixture.
        history: Mean log-likelihood before each update and after the last; it does not fall,
            up to rounding.
        iterations: Number of updates made.
        converged: Whether the last update raised the likelihood by less than ``tol``.
        dead: Number of components that no row supports.
    """

    covariance: str
    weights: Tensor
    means: Tensor
    covariances: Tensor
    labels: Tensor
    counts: Tensor
    mean_log_likelihood: float
    history: tuple[float, ...]
    iterations: int
    converged: bool
    dead: int

    def log_joint(self, data: Tensor) -> Tensor:
        """Log lambda_k + log p_k(x) for every row of ``data`` (n, D): (n, K).

        Computed in float32 where the fit was, which costs about ``1e-7 d²``, where d is the larger
        of the point's and a component's distance from the mixture's mean, in standard deviations.

        Raises:
            ValueError: ``data`` are no matrix of finite values with D columns.
        """
        check_new(data, self.means.shape[1])
        stream = RowStream(data, dtype=chunk_dtype(data, self.covariance), device=self.means.device)
        stream.origin = (self.weights @ self.means).to(stream.dtype)
        return log_joint(stream, self._parameters, self.covariance)

    def log_responsibilities(self, data: Tensor) -> Tensor:
        """Log posterior of every component for every row of ``data`` (n, D): (n, K)."""
        return self.log_joint(data).log_softmax(dim=1)

    def predict(self, data: Tensor) -> Tensor:
        """Most probable component of every row of ``data`` (n, D): int64 (n,)."""
        return self.log_joint(data).max(dim=1).indices

    @property
    def mixture(self) -> Mixture:
        """The fit as a :class:`Mixture`, if it is diagonal or spherical.

        Raises:
            ValueError: If the covariances are matrices.
        """
        if self.covariance in {"tied", "full"}:
            raise ValueError(f"a {self.covariance} fit has no diagonal form; fit a diagonal mixture")
        variances = self.covariances.reshape(len(self.weights), -1).expand_as(self.means)
        return Mixture(self.weights, self.means, variances.contiguous())

    @property
    def _parameters(self) -> Parameters:
        return Parameters(self.weights, self.means, self.covariances)


def fit_mixture(
    data: Tensor,
    k: int,
    *,
    covariance: str = "diagonal",
    init: str | Tensor | Mixture | MixtureFit = "kmeans++",
    restarts: int = 1,
    max_iter: int = 100,
    tol: float = 1e-3,
    floor: float = 1e-3,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> MixtureFit:
    """Fit a mixture of ``k`` Gaussians to the rows of ``data`` by EM.

    Diagonal and spherical mixtures of float32 (or narrower) data are computed in float32 around
    the data's mean with float64 sums over chunks; tied and full ones, and float64 data, in float64.

    Args:
        data: Points, (n, D), of any numeric type, converted to floating point chunk by chunk.
        k: Number of components.
        covariance: ``"diagonal"``, ``"spherical"``, ``"tied"`` or ``"full"``; the latter two up
            to 512 dimensions.
        init: ``"kmeans++"`` or ``"kmeans"``: the cells of these centres give the first moments;
            centres (K, D): likewise; a mixture: the fit goes on from there (its weights are divided
            by their sum).
        restarts: Number of independent starts, of which the most likely fit is returned.
        max_iter: Largest number of updates.
        tol: Stop when an update raises the mean log-likelihood by less than this.
        floor: Smallest variance, along every direction.
        generator: Source of randomness; the global generator if None.
        device: Where to compute; the device of ``data`` if None.

    Returns:
        The mixture, the labels of ``data`` and a report of the convergence.

    Raises:
        ValueError: If ``data`` is empty or not finite, holds fewer than ``k`` distinct points,
            an argument is out of range or ``init`` is no proper mixture.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
        >>> fit = fit_mixture(points, 2, generator=torch.Generator().manual_seed(0))
        >>> fit.labels[0] == fit.labels[1] != fit.labels[2]
        tensor(True)
        >>> fit.means.sort(dim=0).values.flatten().tolist()
        [0.5, 9.5]
    """
    _check(data, k, covariance, restarts, max_iter, tol, floor)
    stream = RowStream.centred(data, dtype=chunk_dtype(data, covariance), device=device)
    best: Climb | None = None
    for _ in range(restarts if isinstance(init, str) else 1):
        if isinstance(init, (Mixture, MixtureFit)):
            start = _given(stream, k, init, covariance)
        else:
            start = starting_parameters(stream, k, init, covariance, floor, generator)
        candidate = climb(stream, start, covariance, max_iter, tol, floor)
        if best is None or candidate.history[-1] > best.history[-1]:
            best = candidate
    assert best is not None  # noqa: S101  (at least one restart)
    weights = best.parameters.weights
    return MixtureFit(
        covariance,
        *best.parameters,
        labels=best.labels,
        counts=torch.bincount(best.labels, minlength=k),
        mean_log_likelihood=best.history[-1],
        history=tuple(best.history),
        iterations=len(best.history) - 1,
        converged=best.converged,
        dead=int((weights <= 2 * smallest_support(stream.dtype)).sum()),
    )


def _given(stream: RowStream, k: int, init: Mixture | MixtureFit, covariance: str) -> Parameters:
    """A mixture handed in as a warm start."""
    given = init.covariance if isinstance(init, MixtureFit) else "diagonal"
    if given != covariance or init.means.shape != (k, stream.width):
        raise ValueError(
            f"init is a {given} mixture with means of shape {tuple(init.means.shape)}; this fit needs"
            f" a {covariance} one with ({k}, {stream.width})"
        )
    spread = init.covariances if isinstance(init, MixtureFit) else init.variances
    return given_parameters(stream, Parameters(init.weights, init.means, spread), covariance)


def _check(
    data: Tensor, k: int, covariance: str, restarts: int, max_iter: int, tol: float, floor: float
) -> None:
    if covariance not in STRUCTURES:
        raise ValueError(f"covariance must be one of {', '.join(STRUCTURES)}, not {covariance!r}")
    check_matrix(data)
    check_number(k, len(data))
    if covariance in {"tied", "full"} and data.shape[1] > FULL_LIMIT:
        raise ValueError(
            f"{covariance} covariances take at most {FULL_LIMIT} dimensions, not {data.shape[1]};"
            " project the data with pca first, or use diagonal"
        )
    if restarts < 1 or max_iter < 1 or tol < 0 or floor <= 0:
        raise ValueError(
            "restarts and max_iter must be at least 1, tol at least 0 and floor above 0,"
            f" not {restarts}, {max_iter}, {tol}, {floor}"
        )
