"""Mixture normalization: a mixture fitted to the activations by EM inside the layer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cbnorm.mixtures import Mixture
from cbnorm.norms.base import (
    SMALLEST_COUNT,
    FeatureNorm,
    average_,
    check_count,
    check_momentum,
    check_positive,
    check_seed,
    narrowed,
    recomputing,
    snapshot,
)
from cbnorm.norms.forms import normalize_batch, normalize_given
from cbnorm.norms.mixture import Components
from cbnorm.norms.seeding import (
    FIT_SAMPLES,
    SEED_FLOOR,
    SEED_STEPS,
    Seeded,
    check_finite,
    fit_vectors,
    run_em,
    sample_vectors,
)

_STATES = (
    ("mixture_weights", "mixture_means", "mixture_variances"),
    ("running_prior", "running_mean", "running_var"),
)


class MixtureNorm(Seeded, FeatureNorm):
    """Mixture normalization, MN (Kalayeh & Shah; arXiv 2403.16798v2, eq. 4 to 9).

    ``y = gamma · sum_k tau_k(x) / sqrt(lambda_k) · (x - m_k) / sqrt(v_k + eps) + beta`` with a diagonal
    mixture over the C-dimensional vectors at all positions: one responsibility a position, shared by its
    channels. With one component it is batch normalization.

    In training the mixture is seeded once, on the first batch, by k-means++ and ``seed_steps`` steps of EM;
    afterwards every batch gives it ``em_steps`` warm-started steps, so that components keep their order. EM
    sees at most ``fit_samples`` vectors of the batch. Gradients flow through m_k and v_k as in batch
    normalization, not through tau unless ``differentiate_tau``. In evaluation running averages of
    (lambda, m, v) take the place of everything (eq. 15), independently of the batch; lambda and tau stay
    those of a given mixture. Under DistributedDataParallel each process takes a step of its own from the
    mixture of process 0; that of process 0 is kept.

    Args:
        num_features: Number of channels C.
        num_components: Number of components K.
        mixture: A given (weights (K,), means (K, C), variances (K, C)): no EM, the posterior comes from it.
        fit_samples: Vectors of a batch that EM sees.
        seed_steps: EM steps after seeding.
        em_steps: EM steps on every later batch.
        refit_every: Seed anew every so many batches, components matched to the old ones; None never does.
        variance_floor: Smallest variance of the mixture.
        differentiate_tau: Let gradients flow through tau to ``x``.
        eps: Added to v_k under the root.
        momentum: torch's convention, ``new = (1 - momentum)·old + momentum·batch``.
        affine: Learn gamma and beta.
        seed: Of k-means++; None takes the seed last given to ``torch.manual_seed``. Kept in the state_dict.
        channel_dim: 1, or -1 for token layouts (N, …, C).
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.

    Example:
        >>> layer = MixtureNorm(3, num_components=2)
        >>> layer(torch.randn(4, 3, 8, 8)).shape
        torch.Size([4, 3, 8, 8])
    """

    mixture_weights: Tensor
    mixture_means: Tensor
    mixture_variances: Tensor
    running_prior: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    seeded: Tensor
    seed: Tensor

    def __init__(  # noqa: PLR0913
        self,
        num_features: int,
        num_components: int,
        *,
        mixture: Sequence[Tensor] | None = None,
        fit_samples: int = FIT_SAMPLES,
        seed_steps: int = SEED_STEPS,
        em_steps: int = 1,
        refit_every: int | None = None,
        variance_floor: float = SEED_FLOOR,
        differentiate_tau: bool = False,
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
        self.fit_samples = check_count("fit_samples", fit_samples)
        self.refit_every = None if refit_every is None else check_count("refit_every", refit_every)
        self.seed_steps = check_count("seed_steps", seed_steps, least=0)
        self.em_steps = check_count("em_steps", em_steps, least=0)
        self.variance_floor = check_positive("variance_floor", variance_floor)
        self.differentiate_tau = differentiate_tau
        self.momentum = check_momentum(momentum)
        self.fitted, self._is_seeded = mixture is None, False
        self._make_state(affine=affine, device=device, dtype=dtype)
        self._seed = _as_int64(torch.initial_seed() if seed is None else seed)
        self.register_buffer("seed", torch.tensor(self._seed, device=device))
        self.reset_parameters()
        if mixture is not None:
            parts = len(mixture) if isinstance(mixture, Sequence) else 0
            if parts != 3:
                given = f"{parts} tensors" if parts else type(mixture).__name__
                raise ValueError(f"mixture must be (weights, means, variances), not {given}")
            self.set_mixture(*mixture)

    def _make_state(
        self, *, affine: bool, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        K, C = self.num_components, self.num_features
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        for prior, mean, variance in _STATES:
            self.register_buffer(prior, torch.empty(K, **options))
            self.register_buffer(mean, torch.empty(K, C, **options))
            self.register_buffer(variance, torch.empty(K, C, **options))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long, device=device))
        self.register_buffer("seeded", torch.zeros((), dtype=torch.long, device=device))
        self._make_affine(affine=affine, **options)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Gamma 1 and beta 0; a given mixture is kept, another one is made anew from the next batch."""
        self._reset_affine()
        self.num_batches_tracked.zero_()
        self.seed.fill_(self._seed)
        if not self.fitted and self._is_seeded:
            self._start_running()
            return
        for prior, mean, variance in _STATES:
            getattr(self, prior).fill_(1 / self.num_components)
            getattr(self, mean).zero_()
            getattr(self, variance).fill_(1.0)
        self.seeded.zero_()
        self._mark(seeded=False)

    @torch.no_grad()
    def set_mixture(self, weights: Tensor, means: Tensor, variances: Tensor) -> None:
        """Take over a mixture, as posterior and as start of the running statistics.

        Args:
            weights: (K,), positive; divided by their sum.
            means: (K, C).
            variances: (K, C), positive.

        Raises:
            ValueError: Wrong shape, values that are not finite, weights or variances that are not positive.
        """
        weights, means, variances = (
            torch.as_tensor(new, dtype=self.mixture_means.dtype, device=self.mixture_means.device)
            for new in (weights, means, variances)
        )
        for name, new, old in (
            ("weights", weights, self.mixture_weights),
            ("means", means, self.mixture_means),
            ("variances", variances, self.mixture_variances),
        ):
            if new.shape != old.shape:
                raise ValueError(f"mixture {name} must have shape {tuple(old.shape)}, not {tuple(new.shape)}")
            if not bool(new.isfinite().all()):
                raise ValueError(f"mixture {name} must be finite")
            if name != "means" and not bool((new > 0).all()):
                raise ValueError(f"mixture {name} must be positive")
        for prefix in ("mixture_weights", "running_prior"):
            getattr(self, prefix).copy_(weights / weights.sum())
        for prefix in ("mixture_means", "running_mean"):
            getattr(self, prefix).copy_(means)
        for prefix in ("mixture_variances", "running_var"):
            getattr(self, prefix).copy_(variances.clamp_min(self.variance_floor))
        self.seeded.fill_(1)
        self._mark(seeded=True)

    def normalize(self, x: Tensor) -> Tensor:
        """Eq. 7 with the batch's moments in training, eq. 15 with running ones in evaluation."""
        form = self._normalize_batch if self.training else self._normalize_running
        return form(x, *self._affine(x.dtype))

    def _normalize_batch(self, x: Tensor, gain: Tensor | None, bias: Tensor | None) -> Tensor:
        if self.fitted and x.numel() and not recomputing():
            self._fit(x.detach())
        components = self._components(x.dtype)
        stored = snapshot(self.running_mean, x.dtype), snapshot(self.running_var, x.dtype)
        constant = not self.differentiate_tau
        y, moments = normalize_batch(
            x, components, *stored, self.eps, joint=True, constant=constant, gain=gain, bias=bias
        )
        alive = moments.mass >= SMALLEST_COUNT
        average_(self.running_mean, moments.mean, self.momentum, alive)
        average_(self.running_var, moments.variance, self.momentum, alive)
        average_(self.running_prior, components.log_prior.exp(), self.momentum, alive.any())
        return y

    def _normalize_running(self, x: Tensor, gain: Tensor | None, bias: Tensor | None) -> Tensor:
        mean, variance = snapshot(self.running_mean, x.dtype), snapshot(self.running_var, x.dtype)
        components = self._components(x.dtype)
        if self.fitted:
            smallest = torch.finfo(x.dtype).tiny
            log_prior = snapshot(self.running_prior, x.dtype).clamp_min(smallest).log()
            components = Components(log_prior, mean, variance + self.eps)
        return normalize_given(x, components, mean, variance, self.eps, joint=True, gain=gain, bias=bias)

    def _components(self, dtype: torch.dtype) -> Components:
        weights, means, variances = self._mixture(dtype)
        return Components(weights.clamp_min(torch.finfo(dtype).tiny).log(), means, variances)

    @torch.no_grad()
    def _fit(self, x: Tensor) -> None:
        if not self._has_mixture() or self._refit_due():
            self._seed_mixture(x)
        else:
            start = self._mixture(x.dtype)
            self._take(run_em(self._subsample(x), start, self.em_steps, self.variance_floor))
        self.num_batches_tracked += 1

    def _refit_due(self) -> bool:
        batches = 0 if self.refit_every is None else int(self.num_batches_tracked)
        return self.refit_every is not None and batches > 0 and batches % self.refit_every == 0

    def _mixture(self, dtype: torch.dtype) -> Mixture:
        state = (self.mixture_weights, self.mixture_means, self.mixture_variances)
        return Mixture(*(snapshot(buffer, dtype) for buffer in state))

    def _take(self, mixture: Mixture) -> None:
        # A value that is not finite would spoil the mixture for all later batches.
        finite = torch.stack([part.isfinite().all() for part in mixture]).all()
        for prefix, new in zip(("weights", "means", "variances"), mixture, strict=True):
            old = getattr(self, f"mixture_{prefix}")
            old.copy_(torch.where(finite, narrowed(new, old.dtype), old))

    def _subsample(self, x: Tensor) -> Tensor:
        return sample_vectors(x, self.fit_samples, self.num_batches_tracked)

    @torch.compiler.disable
    def _seed_mixture(self, x: Tensor) -> None:
        data = self._subsample(x)
        if not self._is_seeded:
            check_finite(data, type(self).__name__)
        elif not bool(data.isfinite().all()):
            return
        generator = torch.Generator().manual_seed(int(self.seed) + int(self.num_batches_tracked))
        steps, floor = self.seed_steps, self.variance_floor
        self._take(fit_vectors(data, self.num_components, generator, steps=steps, floor=floor))
        if self._is_seeded:
            self._keep_order()
        else:
            self._start_running()
        self.seeded.fill_(1)
        self._mark(seeded=True)

    def _start_running(self) -> None:
        self.running_prior.copy_(self.mixture_weights)
        self.running_mean.copy_(self.mixture_means)
        self.running_var.copy_(self.mixture_variances)

    def _keep_order(self) -> None:
        """Match new components to the running ones, nearest pair first, so that averages stay meaningful."""
        distance = torch.cdist(self.running_mean.double(), self.mixture_means.double())
        order = torch.empty(self.num_components, dtype=torch.long, device=distance.device)
        for _ in range(self.num_components):
            old, new = divmod(int(distance.argmin()), self.num_components)
            order[old] = new
            distance[old], distance[:, new] = torch.inf, torch.inf
        for state in (self.mixture_weights, self.mixture_means, self.mixture_variances):
            state.copy_(state[order])

    def _mixture_names(self) -> tuple[str, ...]:
        return "mixture_weights", "mixture_means", "mixture_variances"

    def extra_repr(self) -> str:
        """The arguments that differ between instances."""
        return f"{self.num_features}, num_components={self.num_components}, eps={self.eps:g}"


def _as_int64(seed: int) -> int:
    """Torch's seeds are unsigned; a buffer holds signed ones."""
    return check_seed(seed) % (2**62)
