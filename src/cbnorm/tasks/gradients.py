"""How far apart the elements of a network's gradients lie, tensor by tensor (Fig. 12)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def gradient_variances(output: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Variance over elements (with 1/n) of the gradient of a scalar, for every parameter tensor.

    A tensor that the scalar doesn't depend on has a gradient of zero. The graph is kept.

    Args:
        output: A scalar.
        parameters: T of them.

    Returns:
        float32 (T,); not finite where gradients aren't.

    >>> weight = nn.Parameter(torch.ones(2))
    >>> gradient_variances((weight * torch.tensor([1.0, 3.0])).sum(), [weight])
    tensor([1.])
    """
    found = torch.autograd.grad(output, list(parameters), retain_graph=True, allow_unused=True)
    zero = output.new_zeros((), dtype=torch.float32)
    return torch.stack([zero if g is None else g.float().var(correction=0) for g in found])


def summary(variances: Tensor) -> dict[str, float]:
    """What Fig. 12 shows of the variances (T,) of all tensors: the largest, the mean, and their deviation."""
    values = variances.double()
    return {
        "max": values.max().item(),
        "mean": values.mean().item(),
        "std": values.std(correction=0).item(),
    }
