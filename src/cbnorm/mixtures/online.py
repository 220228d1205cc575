"""Online EM: a mixture that follows a stream of batches."""

import torch
from torch import Tensor

from cbnorm.mixtures.diagonal import Mixture, em_step


@torch.no_grad()
def online_em_step(
    data: Tensor, mixture: Mixture, *, rate: float, floor: float = 1e-3
) -> tuple[Mixture, Tensor]:
    """One step of stepwise EM (Cappé & Moulines 2009) on a batch.

    The sums that EM needs (of responsibilities, of points and of their squares) are averaged
    exponentially over batches: ``s ← (1 - rate) s + rate s(batch)``. With ``rate=1`` this is
    :func:`em_step`; with rates that decrease like 1/t it converges to where EM on all data does.
    Components keep their order from batch to batch.

    Args:
        data: A batch of points, (n, D).
        mixture: The mixture so far.
        rate: Share of the batch in the new mixture, 0 < rate ≤ 1.
        floor: Smallest variance.

    Returns:
        The updated mixture, and the batch's mean log-likelihood under the old one (0-d).

    Raises:
        ValueError: If ``rate`` is out of range.

    Example:
        >>> mixture = Mixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1))
        >>> batch = torch.tensor([[4.0], [6.0]])
        >>> online_em_step(batch, mixture, rate=0.5)[0].means
        tensor([[2.5000]])
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate must lie above 0 and at most at 1, not {rate}")
    batch, likelihood = em_step(data, mixture, floor=floor)
    return _average(mixture, batch, rate, floor), likelihood


def _average(old: Mixture, new: Mixture, rate: float, floor: float) -> Mixture:
    """The mixture whose sums are the weighted average of two mixtures' sums."""
    weights = (1 - rate) * old.weights + rate * new.weights
    share = (rate * new.weights / weights)[:, None]
    moved = new.means - old.means
    # The variance of two groups: within, plus between. No square of a mean is subtracted.
    variances = old.variances.lerp(new.variances, share) + share * (1 - share) * moved.square()
    return Mixture(weights, old.means + share * moved, variances.clamp_min(floor))
