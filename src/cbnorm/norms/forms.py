"""The two forms of mixture normalization: by the moments of the batch, or by given ones.

Each is a plain definition in tensor operations, and kernels with the same results where they are wanted.
"""

from torch import Tensor

from cbnorm.norms import mixture, native
from cbnorm.norms.fused_mixture import ScalarMixture, VectorMixture
from cbnorm.norms.mixture import Components, Moments
from cbnorm.norms.standardize import scale_and_shift


def normalize_batch(
    x: Tensor,
    components: Components,
    stored_mean: Tensor,
    stored_variance: Tensor,
    eps: float,
    *,
    joint: bool,
    temper: bool = False,
    constant: bool = False,
    gain: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Moments]:
    """Normalize by the components' moments in this batch (eq. 6 to 9).

    Args:
        x: (N, C, L).
        components: They give the posterior and, through their prior, the factor ``1/sqrt(lambda_k)``.
        stored_mean: (K, C), used for components without mass.
        stored_variance: (K, C), likewise.
        eps: Added to the variance under the root.
        joint: See :func:`cbnorm.norms.mixture.log_posterior`.
        temper: Likewise; for the joint posterior only.
        constant: Let no gradient flow through the responsibilities; for the joint posterior only.
        gain: Gamma of eq. 2, (C,).
        bias: Beta of eq. 2, (C,).

    Returns:
        Output (N, C, L) and the batch moments; only the output is sure to be differentiable.
    """
    plain = _BatchForm(eps, joint=joint, temper=temper, constant=constant)
    if native.wanted(x):
        tensors = (x, *components, stored_mean, stored_variance, gain, bias)
        y, mass, mean, variance = _fused(plain, *tensors, batch=True)
        units = x.numel() // (x.shape[1] if joint else 1)
        return y, Moments(mass, mean, variance, mass.sum(dim=1) / units)
    return plain.with_moments(x, *components, stored_mean, stored_variance, gain, bias)


def normalize_given(
    x: Tensor,
    components: Components,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    *,
    joint: bool,
    temper: bool = False,
    gain: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Normalize by given moments, posterior from ``components`` (eq. 15 when both are the parameters).

    Args:
        x: (N, C, L).
        components: They give the posterior and the factor ``1/sqrt(lambda_k)``.
        mean: (K, C).
        variance: (K, C).
        eps: Added to the variance under the root.
        joint: See :func:`cbnorm.norms.mixture.log_posterior`.
        temper: Likewise; for the joint posterior only.
        gain: Gamma of eq. 2, (C,).
        bias: Beta of eq. 2, (C,).

    Returns:
        (N, C, L).
    """
    plain = _GivenForm(eps, joint=joint, temper=temper)
    if native.wanted(x):
        return _fused(plain, x, *components, mean, variance, gain, bias, batch=False)[0]
    return plain(x, *components, mean, variance, gain, bias)


Four = tuple[Tensor, Tensor, Tensor, Tensor]


def _fused(plain: "_BatchForm | _GivenForm", *tensors: Tensor | None, batch: bool) -> Four:
    # A whole number would reach a kernel in another register than a float.
    settings = (batch, float(plain.eps), mixture.DEAD_MASS)
    if plain.joint:
        outputs: Four = VectorMixture.apply(plain, *tensors, (*settings, plain.constant, plain.temper))
        return outputs
    *inputs, gain, bias = tensors
    y, mass, mean, variance = ScalarMixture.apply(plain, *inputs, settings)
    return scale_and_shift(y, gain, bias), mass, mean, variance


class _BatchForm:
    """:func:`normalize_batch` in tensor operations, as a function of tensors alone."""

    def __init__(self, eps: float, *, joint: bool, temper: bool, constant: bool) -> None:
        self.eps, self.joint, self.temper, self.constant = eps, joint, temper, constant

    def __call__(self, *tensors: Tensor | None) -> Tensor:
        return self.with_moments(*tensors)[0]  # type: ignore[arg-type]

    def with_moments(
        self,
        x: Tensor,
        log_prior: Tensor,
        mu: Tensor,
        s: Tensor,
        mean: Tensor,
        variance: Tensor,
        gain: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, Moments]:
        log_tau = mixture.log_posterior(x, Components(log_prior, mu, s), joint=self.joint, temper=self.temper)
        if self.constant:
            log_tau = log_tau.detach()
        moments = mixture.component_moments(x, log_tau.exp(), mean, variance)
        y = mixture.mixture_normalize(x, log_tau, log_prior, moments.mean, moments.variance, self.eps)
        return scale_and_shift(y, gain, bias), moments


class _GivenForm:
    """:func:`normalize_given` in tensor operations, as a function of tensors alone."""

    constant = False

    def __init__(self, eps: float, *, joint: bool, temper: bool) -> None:
        self.eps, self.joint, self.temper = eps, joint, temper

    def __call__(
        self,
        x: Tensor,
        log_prior: Tensor,
        mu: Tensor,
        s: Tensor,
        mean: Tensor,
        variance: Tensor,
        gain: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        log_tau = mixture.log_posterior(x, Components(log_prior, mu, s), joint=self.joint, temper=self.temper)
        return scale_and_shift(
            mixture.mixture_normalize(x, log_tau, log_prior, mean, variance, self.eps), gain, bias
        )
