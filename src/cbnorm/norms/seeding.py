"""A first mixture out of the first batch: of the vectors at its positions, or of each channel's scalars."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, distributed, nn

from cbnorm.mixtures import Mixture, em_step, kmeans_plusplus
from cbnorm.norms.layout import watched
from cbnorm.norms.mixture import Components, component_moments, log_posterior

#: Vectors of a batch that are fitted, steps of EM, and the smallest variance, unless a layer says otherwise.
FIT_SAMPLES, SEED_STEPS, SEED_FLOOR = 4096, 10, 1e-3
#: Smallest prior of a fitted component: what no value supports must be able to come back.
SMALLEST_PRIOR = 1e-6
#: Conjugate golden ratio: multiples of it modulo 1 cover the unit interval evenly.
GOLDEN = 0.6180339887498949


def sample_vectors(x: Tensor, count: int, batches: Tensor | int = 0) -> Tensor:
    """At most ``count`` of the vectors of ``x`` (N, C, L), evenly spread, others in every batch; (n, C)."""
    positions = x.shape[0] * x.shape[2]
    if positions <= count:
        return x.transpose(1, 2).reshape(positions, -1)
    steps = torch.arange(count, device=x.device, dtype=torch.float64) + batches * count
    index = ((steps * GOLDEN) % 1.0 * positions).long().clamp_max(positions - 1)
    return x.transpose(1, 2)[index // x.shape[2], index % x.shape[2]]


def check_finite(data: Tensor, name: str) -> None:
    """Raise one clear line unless a mixture can be fitted to ``data``."""
    if not bool(torch.isfinite(data).all()):
        raise ValueError(f"{name} cannot seed its mixture: the first batch is not finite")


class Seeded(nn.Module):
    """A layer whose mixture comes from its first batch; the buffer ``seeded`` says whether it has come.

    Reading the buffer waits for the device, so it is read once, and again where another one is in its place:
    of a restored layer, a copy, or :func:`torch.func.functional_call`.
    """

    seeded: Tensor
    _is_seeded: bool
    _read: Tensor | None = None

    @abstractmethod
    def _mixture_names(self) -> tuple[str, ...]:
        """The parameters and buffers that are the mixture; none where no batch gives it."""

    def _has_mixture(self) -> bool:
        # What follows every operation has no values to read.
        readable = not (torch.compiler.is_compiling() or watched())
        if not self._is_seeded or (readable and self._read is not self.seeded):
            self._mark(seeded=_read_flag(self.seeded))
        return self._is_seeded

    def _mark(self, *, seeded: bool) -> None:
        self._is_seeded, self._read = seeded, self.seeded

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        names = self._mixture_names()
        before = self.seeded.clone() if names else None
        super()._load_from_state_dict(state_dict, prefix, *args)
        if before is None:
            return
        found = [state_dict.get(f"{prefix}{name}") for name in names]
        shapes = [getattr(self, name).shape for name in names]
        if [None if tensor is None else tensor.shape for tensor in found] != shapes:
            # Of another number of components "seeded" fits, and would say that a mixture has come.
            self.seeded = before
        self._mark(seeded=bool(self.seeded))


@torch.compiler.disable
def _read_flag(flag: Tensor) -> bool:
    return bool(flag)


def run_em(data: Tensor, mixture: Mixture, steps: int, floor: float) -> Mixture:
    """``steps`` steps of EM on vectors (n, C)."""
    for _ in range(steps):
        mixture, _ = em_step(data, mixture, floor=floor)
    return mixture


def fit_vectors(
    data: Tensor,
    components: int,
    generator: torch.Generator,
    *,
    steps: int = SEED_STEPS,
    floor: float = SEED_FLOOR,
) -> Mixture:
    """A mixture of vectors (n, C): k-means++, then EM from equal priors and the variances of all of them."""
    rows = data if len(data) >= components else data.repeat(components, 1)
    means = kmeans_plusplus(rows, components, generator=generator)
    spread = data.var(dim=0, correction=0).clamp_min(floor).expand_as(means)
    weights = data.new_full((components,), 1 / components)
    return run_em(data, Mixture(weights, means, spread), steps, floor)


@torch.no_grad()
def fit_scalars(
    data: Tensor, components: int, *, steps: int = SEED_STEPS, floor: float = SEED_FLOOR
) -> Mixture:
    """A mixture of the scalars of every channel of (n, C), the priors shared: EM that starts at quantiles.

    Component k starts at the mean of the values that are nearest to its centre, half way between the quantile
    (k + 1/2) / K of the channel and the k-th of K points spread evenly over a deviation on either side. So it
    is the k-th from below in every channel, and no two start alike where many values are equal, as zeros
    after a ReLU are: such two could never part.
    """
    x, prior = data.unsqueeze(2), data.new_full((components,), 1 / components)
    variance = (data.var(dim=0, correction=0) / components**2).clamp_min(floor).expand(components, -1)
    mean = _nearest_means(x, _centres(data, components), variance)
    for _ in range(steps):
        log_tau = log_posterior(x, Components(prior.log(), mean, variance), joint=False)
        _, mean, variance, share = component_moments(x, log_tau.exp(), mean, variance)
        variance, prior = variance.clamp_min(floor), share.clamp_min(SMALLEST_PRIOR)
        prior = prior / prior.sum()
    return Mixture(prior, mean, variance)


def _centres(data: Tensor, components: int) -> Tensor:
    variance, middle = torch.var_mean(data, dim=0, correction=0)
    ranks = (torch.arange(components, device=data.device) + 0.5) / components
    quantiles = data.sort(dim=0).values[(ranks * len(data)).long()]
    return (quantiles + middle + variance.sqrt() * (2 * ranks - 1).to(data.dtype)[:, None]) / 2


def _nearest_means(x: Tensor, centres: Tensor, variance: Tensor) -> Tensor:
    nearest = (x.unsqueeze(1) - centres[None, :, :, None]).abs().argmin(dim=1, keepdim=True)
    member = nearest == torch.arange(len(centres), device=x.device)[None, :, None, None]
    return component_moments(x, member.to(x.dtype), centres, variance).mean


def agree(mixture: Mixture) -> Mixture:
    """The mixture of process 0, where there are several: parameters must not differ between them."""
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        for tensor in mixture:
            distributed.broadcast(tensor, src=0)
    return mixture
