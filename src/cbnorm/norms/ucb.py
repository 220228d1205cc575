"""Unsupervised cluster-based normalization: a Gaussian mixture learned inside the layer."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.norms.base import (
    SMALLEST_COUNT,
    FeatureNorm,
    average_,
    check_choice,
    check_count,
    check_momentum,
    local_generator,
    recomputing,
    snapshot,
)
from cbnorm.norms.forms import normalize_batch, normalize_given
from cbnorm.norms.learned import SOFTPLUS_INVERSE_OF_ONE, VARIANCE_FLOOR, softplus_inverse
from cbnorm.norms.mixture import Components, Moments, normalized_moments
from cbnorm.norms.seeding import (
    FIT_SAMPLES,
    Seeded,
    agree,
    check_finite,
    fit_scalars,
    fit_vectors,
    sample_vectors,
)
from cbnorm.norms.standardize import scale_and_shift

Update = Literal["weight", "moving_average", "moving_average_printed"]
TrainStats = Literal["batch", "params"]
EvalStats = Literal["running", "params", "batch"]
Posterior = Literal["per_channel", "joint"]
Init = Literal["spread", "first_batch"]

#: The default form of UCB-Norm, in one place because it is decided by an experiment.
DEFAULT_UPDATE: Update = "weight"
DEFAULT_TRAIN_STATS: TrainStats = "batch"
DEFAULT_EVAL_STATS: EvalStats = "running"
DEFAULT_POSTERIOR: Posterior = "per_channel"


class UCBNorm(Seeded, FeatureNorm):
    """Unsupervised cluster-based normalization, UCB-Norm (arXiv 2403.16798v2, eq. 6 to 9, 15, Alg. 2).

    ``y = sum_k tau_k(x) / sqrt(lambda_k) · (x - m_k) / sqrt(v_k + eps)``, tau the posterior of a mixture
    (lambda, mu, sigma^2) that the layer holds. For well separated components the output's variance is about
    K, for K equal ones the output is sqrt(K) times batch normalization: the factor is the paper's.

    The paper's own combination (moments m, v of the batch in training, the parameters mu, sigma^2 in
    inference) changes the function between the two, because nothing ties the parameters to the moments.
    So the choices are options; see ``docs/norms/ucb.md``.

    Args:
        num_features: Number of channels C.
        num_components: Number of components K.
        update: ``"weight"``: lambda, mu, sigma^2 are trained by backpropagation. ``"moving_average"``: they
            follow the batch (Alg. 2, lines 12-14 in the form that has the data's mixture as fixed point).
            ``"moving_average_printed"``: those lines to the letter. They average the mean and variance over
            the batch of the *normalized* activations, ``(mean(x) - m_k) / sqrt(v_k)`` and ``var(x) / v_k``:
            numbers in units of the components, which do not move when the data move. Eq. 15 then centres
            and scales by them, so that evaluation is another function than training. For comparison only.
        train_stats: Moments in training: of the ``"batch"`` (eq. 8) or the ``"params"`` (eq. 15).
        eval_stats: Moments in evaluation: ``"running"`` averages of the batch moments, the ``"params"``
            (eq. 15), or those of the ``"batch"`` (what the authors' experiments did: the output then depends
            on the other samples).
        posterior: One for each scalar, ``"per_channel"``, or one for each position's vector, ``"joint"``.
        temper: Divide joint log densities by C before they are compared, so that responsibilities stay soft
            in many channels; priors are not tempered.
        init: ``"spread"``: equal priors, means over [-1, 1], unit variances. ``"first_batch"``: the mixture
            that EM finds in the first batch of training, of its vectors after k-means++ (``"joint"``, as in
            :class:`cbnorm.norms.MixtureNorm`) or of each channel's scalars; until then as ``"spread"``. Under
            torch.distributed all processes take that of process 0, so each of them must train on a batch.
        eps: Added to variances, in the density too.
        momentum: torch's convention, ``new = (1 - momentum)·old + momentum·batch``; the paper's m is
            ``1 - momentum``.
        affine: Learn gamma and beta (eq. 2) as well.
        seed: Of the initial means and of k-means++ (``"joint"``); None takes the seed last given to
            ``torch.manual_seed``.
        channel_dim: 1, or -1 for token layouts (N, …, C).
        device: Of parameters and buffers.
        dtype: Of parameters and buffers.

    Example:
        >>> layer = UCBNorm(3, num_components=2)
        >>> layer(torch.randn(4, 3, 8, 8)).shape
        torch.Size([4, 3, 8, 8])
    """

    running_prior: Tensor
    running_mean: Tensor
    running_var: Tensor
    seeded: Tensor

    def __init__(  # noqa: PLR0913
        self,
        num_features: int,
        num_components: int,
        *,
        update: Update = DEFAULT_UPDATE,
        train_stats: TrainStats = DEFAULT_TRAIN_STATS,
        eval_stats: EvalStats = DEFAULT_EVAL_STATS,
        posterior: Posterior = DEFAULT_POSTERIOR,
        temper: bool = False,
        init: Init = "spread",
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        seed: int | None = None,
        channel_dim: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps=eps, channel_dim=channel_dim)
        self.num_components = check_count("num_components", num_components)
        self.update = check_choice("update", update, get_args(Update))
        self.train_stats = check_choice("train_stats", train_stats, get_args(TrainStats))
        self.eval_stats = check_choice("eval_stats", eval_stats, get_args(EvalStats))
        self.posterior = check_choice("posterior", posterior, get_args(Posterior))
        if temper and posterior != "joint":
            raise ValueError(
                "temper=True needs posterior='joint': a scalar's density has nothing to be divided by"
            )
        self.temper, self.init = temper, check_choice("init", init, get_args(Init))
        self.momentum = check_momentum(momentum)
        # The first batch may come long after another seed was given to torch.
        self.seed = torch.initial_seed() if seed is None and init == "first_batch" else seed
        self._before: tuple[Tensor, Tensor, Tensor] | None = None
        self._make_state(affine=affine, device=device, dtype=dtype)
        self.reset_parameters()

    def _make_state(
        self, *, affine: bool, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        K, C = self.num_components, self.num_features
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.register_buffer("running_mean", torch.empty(K, C, **options))
        self.register_buffer("running_var", torch.empty(K, C, **options))
        if self.update == "weight":
            self.mean = nn.Parameter(torch.empty_like(self.running_mean))
            self.raw_variance = nn.Parameter(torch.empty_like(self.running_mean))
            self.prior_logits = nn.Parameter(torch.empty(K, **options))
        else:
            self.register_buffer("running_prior", torch.empty(K, **options))
        self._make_affine(affine=affine, **options)
        if self.init == "first_batch":
            self.register_buffer("seeded", torch.zeros((), dtype=torch.long, device=device))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Equal priors, unit variances, means spread over [-1, 1] so that components can part.

        With a joint posterior every channel has its own order of the means, scaled by ``1/sqrt(C)``: the
        components then lie about one deviation apart, whatever C.
        """
        mean = torch.linspace(-1, 1, self.num_components) if self.num_components > 1 else torch.zeros(1)
        mean = mean[:, None].expand(-1, self.num_features)
        if self.posterior == "joint":
            order = torch.rand(mean.shape, generator=local_generator(self.seed)).argsort(dim=0)
            mean = mean.gather(0, order) / self.num_features**0.5
        self.running_mean.copy_(mean)
        self.running_var.fill_(1.0)
        if self.update == "weight":
            self.mean.copy_(mean)
            self.raw_variance.fill_(SOFTPLUS_INVERSE_OF_ONE)
            self.prior_logits.zero_()
        else:
            self.running_prior.fill_(1 / self.num_components)
        self._reset_affine()
        if self.init == "first_batch":
            self.seeded.zero_()
            self._mark(seeded=False)

    @torch.compiler.disable
    @torch.no_grad()
    def _seed(self, x: Tensor) -> None:
        data = sample_vectors(x, FIT_SAMPLES)
        check_finite(data, type(self).__name__)
        if self.posterior == "joint":
            fitted = fit_vectors(data, self.num_components, local_generator(self.seed))
        else:
            fitted = fit_scalars(data, self.num_components)
        prior, mean, variance = agree(fitted)
        self.running_mean.copy_(mean)
        self.running_var.copy_(variance)
        if self.update == "weight":
            self.mean.copy_(mean)
            self.raw_variance.copy_(softplus_inverse(variance - VARIANCE_FLOOR))
            self.prior_logits.copy_(prior.log())
        else:
            self.running_prior.copy_(prior)
        self.seeded.fill_(1)
        self._mark(seeded=True)

    def mixture(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Log prior (K,), mean (K, C) and variance (K, C) of the components, without eps."""
        if self.update == "weight":
            variance = F.softplus(self.raw_variance.to(dtype)) + VARIANCE_FLOOR
            return self.prior_logits.to(dtype).log_softmax(dim=0), self.mean.to(dtype), variance
        smallest = torch.finfo(dtype).tiny
        return (
            snapshot(self.running_prior, dtype).clamp_min(smallest).log(),
            snapshot(self.running_mean, dtype),
            snapshot(self.running_var, dtype),
        )

    def normalize(self, x: Tensor) -> Tensor:
        """Eq. 7 or 15 on (N, C, L), by mode and options."""
        if self.training and self.init == "first_batch" and x.numel() and not self._has_mixture():
            self._seed(x.detach())
        log_prior, mean, variance = self._mixture_of_batch(x.dtype)
        components = Components(log_prior, mean, variance + self.eps)
        source = self.train_stats if self.training else self.eval_stats
        if source == "batch":
            y, moments = self._by_batch(x, components)
            if self.training:
                self._track(moments)
        else:
            if source == "running":
                mean, variance = self._stored(x)
            joint = self.posterior == "joint"
            y = normalize_given(x, components, mean, variance, self.eps, joint=joint, temper=self.temper)
            if self.training and (self.update != "weight" or self.eval_stats == "running"):
                with torch.no_grad():
                    self._track(self._by_batch(x, components)[1])
        return scale_and_shift(y, *self._affine(y.dtype))

    def _mixture_of_batch(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The mixture; that of the first time where a batch is computed again and the averages have moved."""
        if self.update == "weight" or not self.training or torch.compiler.is_compiling():
            return self.mixture(dtype)
        if self._before is None or not recomputing():
            self._before = self.mixture(dtype)
        return self._before

    def _by_batch(self, x: Tensor, components: Components) -> tuple[Tensor, Moments]:
        joint, stored = self.posterior == "joint", self._stored(x)
        return normalize_batch(x, components, *stored, self.eps, joint=joint, temper=self.temper)

    def _stored(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return snapshot(self.running_mean, x.dtype), snapshot(self.running_var, x.dtype)

    @torch.no_grad()
    def _track(self, moments: Moments) -> None:
        alive = moments.mass >= SMALLEST_COUNT
        printed = self.update == "moving_average_printed"
        new = normalized_moments(moments, self.eps) if printed else (moments.mean, moments.variance)
        average_(self.running_mean, new[0], self.momentum, alive)
        average_(self.running_var, new[1], self.momentum, alive)
        if self.update != "weight":
            sound = alive.any() & moments.share.isfinite().all()
            average_(self.running_prior, moments.share, self.momentum, sound)

    def _mixture_names(self) -> tuple[str, ...]:
        if self.init != "first_batch":
            return ()
        weight = self.update == "weight"
        return (
            ("mean", "raw_variance", "prior_logits")
            if weight
            else ("running_mean", "running_var", "running_prior")
        )

    def __getstate__(self) -> dict[str, Any]:
        """Without the mixture of the last batch: a copy needs none, and those of tracers can't be copied."""
        return self.__dict__ | {"_before": None}

    def extra_repr(self) -> str:
        """The arguments that differ between instances."""
        return (
            f"{self.num_features}, num_components={self.num_components}, eps={self.eps:g}, "
            f"update={self.update}, train_stats={self.train_stats}, eval_stats={self.eval_stats}, "
            f"posterior={self.posterior}, temper={self.temper}, init={self.init}, momentum={self.momentum:g}"
        )
