"""EM over a stream of rows: one fused pass per update, until the likelihood rests."""

from typing import NamedTuple

import torch
from torch import Tensor

from cbnorm.mixtures.chunks import RowStream
from cbnorm.mixtures.covariances import STRUCTURES, Parameters
from cbnorm.mixtures.numerics import accumulator_dtype, compute_dtype, full_precision, posterior


class Climb(NamedTuple):
    """Where EM arrived: parameters, labels (n,), the history of the likelihood, and whether it rested."""

    parameters: Parameters
    labels: Tensor
    history: list[float]
    converged: bool


@torch.no_grad()
def climb(
    stream: RowStream, parameters: Parameters, covariance: str, max_iter: int, tol: float, floor: float
) -> Climb:
    """EM from ``parameters`` until the likelihood rests."""
    history: list[float] = []
    converged = False
    while len(history) < max_iter and not converged:
        parameters, likelihood = update(stream, parameters, covariance, floor)
        converged = bool(history) and likelihood - history[-1] < tol
        history.append(likelihood)
    joint = log_joint(stream, parameters, covariance)
    evidence = joint.logsumexp(dim=1).mean(dtype=accumulator_dtype(stream.device))
    return Climb(parameters, joint.max(dim=1).indices, [*history, float(evidence)], converged)


def update(
    stream: RowStream, old: Parameters, covariance: str, floor: float, *, hard: bool = False
) -> tuple[Parameters, float]:
    """One update of EM, and the mean log-likelihood before it.

    With ``hard``, every point counts whole for its most probable component.
    """
    structure = STRUCTURES[covariance](old, stream.origin, stream.dtype)
    evidence = old.weights.new_zeros(())
    counts, first = torch.zeros_like(old.weights), torch.zeros_like(old.means)
    second: Tensor | float = 0.0
    with full_precision(stream.device):
        for _, chunk in stream:
            joint = structure.log_joint(chunk)
            tau, log_evidence = posterior(joint)
            if hard:
                tau = _one_hot(joint)
            evidence += log_evidence.sum(dtype=evidence.dtype)
            counts += tau.sum(0, dtype=counts.dtype)
            first += tau.T @ chunk
            second = second + structure.second_moments(chunk, tau).to(counts.dtype)
    smallest = smallest_support(stream.dtype)
    alive, divisors = counts > smallest, counts.clamp_min(smallest)
    offsets = torch.where(alive[:, None], first / divisors[:, None], structure.offsets)
    updated = structure.covariances(divisors, offsets, torch.as_tensor(second), floor)
    weights = (counts / stream.length).clamp_min(smallest)
    parameters = Parameters(
        weights / weights.sum(), offsets + stream.origin, structure.keep(alive, updated, old.covariances)
    )
    return parameters, float(evidence) / stream.length


def _one_hot(joint: Tensor) -> Tensor:
    return torch.zeros_like(joint).scatter_(1, joint.max(dim=1, keepdim=True).indices, 1.0)


def log_joint(stream: RowStream, parameters: Parameters, covariance: str) -> Tensor:
    """Log lambda_k + log p_k(x) for every row of the stream, (n, K)."""
    structure = STRUCTURES[covariance](parameters, stream.origin, stream.dtype)
    with full_precision(stream.device):
        return stream.gather(structure.log_joint)


def chunk_dtype(data: Tensor, covariance: str) -> torch.dtype:
    """Inverting a matrix loses as many digits as its condition has: float32 does not have them."""
    matrices = covariance in {"tied", "full"}
    return accumulator_dtype(data.device) if matrices else compute_dtype(data)


def smallest_support(dtype: torch.dtype) -> float:
    """Support below which a component counts as dead, and the smallest weight."""
    return 10 * torch.finfo(dtype).eps
