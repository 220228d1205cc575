"""Cluster-based normalization in NumPy: plain forwards and exact gradients, sharing nothing with the package.

Conventions, for every function here:

* ``x`` is (N, C) or (N, C, *S): samples, channels, then any position axes; L is their product, or 1.
* K clusters or components. ``mean`` and ``var`` are (K, C), ``prior`` is (K,), positive, of sum one. ``var``
  is a variance and ``prior`` a probability: compose with `softplus` and `softmax` for raw parameters.
* ``ids`` are integers (N,) in [0, K); only `scb` takes -1 (unknown).
* ``posterior`` names the unit that has one responsibility: ``"per_channel"`` every scalar, tau (N, K, C, *S);
  ``"joint"`` every position's C-vector, tau (N, K, *S) (also ``"position"``); ``"tempered"`` the same with
  log densities divided by C; ``"sample"`` every sample,
  log densities summed over channels and positions, tau (N, K).
* ``eps`` is added to the variance under the root, and to the variance of the Gaussian density as well
  (``density_eps`` changes only the latter). Variances are biased: divided by the elements' count, or mass.
* Arithmetic is in float64 (or wider, when the input is). Forwards are analytic, so that `vjp` can
  differentiate them by the complex step: no abs, no conjugate, no order on values that carry a gradient.
"""

import numpy as np

STEP = 1e-40  # the complex step has no cancellation, so only underflow of its square bounds it from below


# ---- gradients


def vjp(function, inputs, grad_output, **options):
    """Gradients of ``sum(grad_output * function(**inputs, **options))`` by the complex step, to rounding.

    Args:
        function: any forward of this module (or a composition of them).
        inputs: name -> array; integer arrays and None are passed on and get no gradient.
        grad_output: array shaped like the output; for a tuple output a tuple, None where an item is not used.
        options: passed on as they are.

    Returns:
        name -> gradient, one for each floating point input.

    >>> x = np.array([[1.0], [3.0]])
    >>> vjp(lambda x: x**2, {"x": x}, np.ones((2, 1)))["x"].tolist()
    [[2.0], [6.0]]
    """
    inputs = {name: None if value is None else np.asarray(value) for name, value in inputs.items()}
    gradients = {}
    for name, value in inputs.items():
        if value is None or not np.issubdtype(value.dtype, np.floating):
            continue
        gradient = np.zeros(value.shape, _array(value).dtype)
        for index in np.ndindex(value.shape):
            moved = _array(value) + 0j
            moved[index] += 1j * STEP
            output = function(**{**inputs, name: moved}, **options)
            gradient[index] = _inner(grad_output, output) / STEP
        gradients[name] = gradient
    return gradients


def _inner(grad_output, output):
    if isinstance(output, tuple):
        return sum(_inner(g, y) for g, y in zip(grad_output, output, strict=True) if g is not None)
    return np.sum(np.asarray(grad_output) * np.imag(output))


# ---- helpers


def softmax(logits):
    """Probabilities along the last axis."""
    return np.exp(_log_softmax(_array(logits), axis=-1))


def softplus(raw):
    """log(1 + exp(raw)), without overflow."""
    raw = _array(raw)
    return np.where(raw.real > 0, raw + _log1p_exp(-raw), _log1p_exp(raw))


def _log1p_exp(raw):
    return np.log1p(np.exp(np.where(raw.real > 0, 0, raw)))


def _array(value):
    value = np.asarray(value)
    return value.astype(np.result_type(value.dtype, np.float64))


def _flat(x):
    """X as (N, C, L)."""
    x = _array(x)
    return x.reshape(x.shape[0], x.shape[1], int(np.prod(x.shape[2:])))


def _log_softmax(logits, axis):
    shifted = logits - logits.real.max(axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def _per_component(values):
    """(K, C) as (1, K, C, 1), to stand against (N, 1, C, L)."""
    return _array(values)[None, :, :, None]


def _log_tau(x, prior, mean, total, posterior):
    """Log responsibilities (N, K, C or 1, L or 1) of x (N, C, L); ``total`` (K, C) is the variance."""
    centred = x[:, None] - _per_component(mean)
    total = _per_component(total)
    log_density = -0.5 * np.log(2 * np.pi * total) - 0.5 * centred**2 / total
    if posterior in ("joint", "position"):
        log_density = log_density.sum(axis=2, keepdims=True)
    elif posterior == "sample":
        log_density = log_density.sum(axis=(2, 3), keepdims=True)
    elif posterior == "tempered":
        log_density = log_density.mean(axis=2, keepdims=True)
    elif posterior != "per_channel":
        raise ValueError(f"unknown posterior {posterior!r}")
    return _log_softmax(np.log(_array(prior))[None, :, None, None] + log_density, axis=1)


def _given_tau(tau, x):
    """Responsibilities given in one of the three public shapes, as (N, K, C or 1, L or 1)."""
    tau, ndim, L = _array(tau), np.ndim(x), _flat(x).shape[2]
    N, K = tau.shape[:2]
    if tau.ndim == ndim + 1:
        return tau.reshape(N, K, tau.shape[2], L)
    return tau.reshape(N, K, 1, L if tau.ndim == ndim else 1)


def responsibilities(x, prior, mean, var, density_eps, posterior):
    """tau_k(x) of eq. 6, diagonal Gaussians of variance ``var + density_eps``; shape by ``posterior``."""
    flat, shape = _flat(x), np.shape(x)
    tau = np.exp(_log_tau(flat, prior, mean, _array(var) + density_eps, posterior))
    N, K = tau.shape[:2]
    shapes = {"per_channel": (N, K, *shape[1:]), "sample": (N, K)}
    return tau.reshape(shapes.get(posterior, (N, K, *shape[2:])))


def weighted_moments(x, tau):
    """Mass S_k, mean m_k and biased variance v_k of each channel weighted by tau, (K, C) each.

    Sums run over samples and positions; ``tau`` has any public shape. No mass, zero moments.
    Eq. 8 as it must be meant: S_k = sum tau_k, m_k = sum tau_k x / S_k, v_k = sum tau_k (x - m_k)^2 / S_k.
    """
    flat = _flat(x)
    N, C, L = flat.shape
    weights = _given_tau(tau, x)
    K = weights.shape[1]
    weights = np.broadcast_to(weights, (N, K, C, L))
    mass = weights.sum(axis=(0, 3))
    mean, var = np.zeros((2, K, C), np.result_type(flat, weights))
    for k in range(K):
        for c in range(C):
            if mass[k, c] != 0:
                mean[k, c] = np.sum(weights[:, k, c] * flat[:, c]) / mass[k, c]
                var[k, c] = np.sum(weights[:, k, c] * (flat[:, c] - mean[k, c]) ** 2) / mass[k, c]
    return mass, mean, var


# ---- batch normalization


def batch_norm(x, eps):
    """Eq. 1: training form, no affine."""
    x = _array(x)
    axes = (0, *range(2, x.ndim))
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + eps)


def conditional_batch_norm(x, ids, gamma, beta, eps):
    """`batch_norm` of the whole batch, then each sample times gamma[id] plus beta[id], both (K, C)."""
    normalized = _flat(batch_norm(x, eps))
    ids = np.asarray(ids)
    return (normalized * _array(gamma)[ids][:, :, None] + _array(beta)[ids][:, :, None]).reshape(np.shape(x))


def cluster_batch_norm(x, ids, eps, gamma=None, beta=None):
    """Each cluster normalized by its own moments in the batch; then gamma[id], beta[id], (K, C), if given."""
    x, ids = _array(x), np.asarray(ids)
    parts = [None] * len(x)
    for k in np.unique(ids):
        members = np.flatnonzero(ids == k)
        normalized = _flat(batch_norm(x[members], eps))
        if gamma is not None:
            normalized = normalized * _array(gamma)[k][None, :, None]
        if beta is not None:
            normalized = normalized + _array(beta)[k][None, :, None]
        for row, n in enumerate(members):
            parts[n] = normalized[row]
    return np.stack(parts).reshape(x.shape)


# ---- supervised clusters


def _scb_denominator(spread, eps, convention):
    """Denominators (K, C): sqrt(variance + eps) in the paper's convention, exp(raw) + eps in the released."""
    if convention == "paper":
        return np.sqrt(_array(spread) + eps)
    if convention == "released":
        return np.exp(_array(spread)) + eps
    raise ValueError(f"unknown convention {convention!r}")


def scb(x, ids, mean, spread, eps, convention="paper", scale="paper", posterior="position"):
    """SCB-Norm: eq. 10 for a known id, corrected eq. 12/13 (`scb_unknown`) for the samples with id -1.

    ``spread`` (K, C) is the variance with ``convention="paper"`` and the raw log-std with ``"released"``.
    ``scale`` and ``posterior`` matter for unknown ids only.
    """
    flat, mean = _flat(x), _array(mean)
    denominator = _scb_denominator(spread, eps, convention)
    rows = []
    for n, k in enumerate(np.asarray(ids)):
        if k == -1:
            rows.append(scb_unknown(flat[n : n + 1], mean, spread, eps, convention, scale, posterior)[0])
        else:
            rows.append((flat[n] - mean[k][:, None]) / denominator[k][:, None])
    return np.stack(rows).reshape(np.shape(x))


def scb_unknown(x, mean, spread, eps, convention="paper", scale="paper", posterior="position"):
    """Eq. 12 with eq. 13 corrected: the equal priors cancel, eps as in eq. 10, densities in the log domain.

    The density of a cluster has the location and the scale of its normalization: mean and `_scb_denominator`.
    ``scale="paper"`` multiplies by sqrt(K), ``"consistent"`` by 1, so that a certain posterior gives eq. 10.
    """
    flat = _flat(x)
    denominator = _scb_denominator(spread, eps, convention)
    K = len(denominator)
    tau = np.exp(_log_tau(flat, np.full(K, 1 / K), mean, denominator**2, posterior))
    normalized = (flat[:, None] - _per_component(mean)) / _per_component(denominator)
    factor = {"paper": np.sqrt(K), "consistent": 1.0}[scale]
    return (factor * (tau * normalized).sum(axis=1)).reshape(np.shape(x))


def scb_base(
    x, codes, mean_weight, mean_bias, spread_weight, spread_bias, eps, convention="paper", positive="identity"
):
    """SCB-Norm-base: one linear layer of the code gives the mean, another the spread, one of each per sample.

    ``codes`` (N, K): one-hot or any mixture of clusters. Weights (K, C), biases (C,): code e_k gives
    weight[k] + bias. With ``convention="paper"`` the variance is ``positive`` (``"identity"``, ``"exp"`` or
    ``"softplus"``) of the spread's linear output; with ``"released"`` that output is the log-std.
    """
    flat = _flat(x)
    mean = _array(codes) @ _array(mean_weight) + _array(mean_bias)
    raw = _array(codes) @ _array(spread_weight) + _array(spread_bias)
    if convention == "paper":
        raw = {"identity": _array, "exp": np.exp, "softplus": softplus}[positive](raw)
    denominator = _scb_denominator(raw, eps, convention)
    return ((flat - mean[:, :, None]) / denominator[:, :, None]).reshape(np.shape(x))


# ---- mixtures


def mixture_norm(x, tau, prior, eps):
    """Eq. 7-9 on the moments of `weighted_moments`, responsibilities given in any public shape."""
    flat = _flat(x)
    weights = _given_tau(tau, x)
    _, m, v = weighted_moments(x, tau)
    y = 0
    for k in range(weights.shape[1]):
        normalized = (flat - m[k][None, :, None]) / np.sqrt(v[k][None, :, None] + eps)
        y = y + weights[:, k] / np.sqrt(_array(prior)[k]) * normalized
    return y.reshape(np.shape(x))


def mixture_norm_parameters(
    x, prior, mean, var, eps, posterior="joint", density_eps=0.0, differentiate_tau=False
):
    """MN: `mixture_norm` with the responsibilities of a given mixture.

    A fitted mixture has its own variance floor, so ``density_eps`` is 0. With ``differentiate_tau=False`` the
    mixture and its responsibilities carry no gradient (prior, mean, var get zeros); m_k and v_k always do.
    """
    if differentiate_tau:
        tau = responsibilities(x, prior, mean, var, density_eps, posterior)
    else:
        prior, mean, var = np.real(prior), np.real(mean), np.real(var)
        tau = responsibilities(np.real(x), prior, mean, var, density_eps, posterior)
    return mixture_norm(x, tau, prior, eps)


def ucb_batch(x, prior, mean, var, eps, posterior="per_channel", density_eps=None):
    """UCB-Norm, training: eq. 7/8 on batch moments, tau from the learned parameters and differentiated."""
    density_eps = eps if density_eps is None else density_eps
    return mixture_norm_parameters(x, prior, mean, var, eps, posterior, density_eps, differentiate_tau=True)


def ucb_parameters(x, prior, mean, var, eps, posterior="per_channel", density_eps=None):
    """Eq. 15 with eps: the parameters give tau, centre and scale (inference, or consistent training)."""
    return ucb_running(x, prior, mean, var, mean, var, eps, posterior, density_eps)


def ucb_running(
    x, prior, mean, var, running_mean, running_var, eps, posterior="per_channel", density_eps=None
):
    """Inference from component statistics: tau from the parameters, the rest from given (K, C) moments."""
    flat = _flat(x)
    total = _array(var) + (eps if density_eps is None else density_eps)
    log_weight = (
        _log_tau(flat, prior, mean, total, posterior) - 0.5 * np.log(_array(prior))[None, :, None, None]
    )
    normalized = (flat[:, None] - _per_component(running_mean)) / np.sqrt(_per_component(running_var) + eps)
    return (np.exp(log_weight) * normalized).sum(axis=1).reshape(np.shape(x))


def moving_average(x, prior, mean, var, momentum, eps, posterior="per_channel", density_eps=None):
    """Alg. 2, lines 12-14, corrected: the new (prior, mean, var) after one batch.

    new = momentum * old + (1 - momentum) * batch, where the batch gives the mean of tau_k over all units that
    have one (channels too with ``"per_channel"``), m_k and v_k (biased). Moments without mass stay.
    """
    tau = responsibilities(x, prior, mean, var, eps if density_eps is None else density_eps, posterior)
    mass, m, v = weighted_moments(x, tau)
    m, v = np.where(mass == 0, mean, m), np.where(mass == 0, var, v)
    share = tau.mean(axis=tuple(axis for axis in range(tau.ndim) if axis != 1))
    pairs = ((prior, share), (mean, m), (var, v))
    return tuple(momentum * _array(old) + (1 - momentum) * new for old, new in pairs)


def moving_average_printed(x, prior, mean, var, momentum, eps, posterior="per_channel", density_eps=None):
    """Alg. 2, lines 12-14, as printed: mean and variance of xhat^k itself, over all samples and positions.

    Every channel of the batch is normalized by the batch moments of component k (eq. 8); the result's plain
    mean and variance are what is averaged. Components without mass have no xhat^k and stay.
    """
    tau = responsibilities(x, prior, mean, var, eps if density_eps is None else density_eps, posterior)
    mass, m, v = weighted_moments(x, tau)
    new_mean, new_var = _array(mean).copy(), _array(var).copy()
    for k, c in zip(*np.nonzero(mass), strict=True):
        normalized = (_flat(x)[:, c] - m[k, c]) / np.sqrt(v[k, c] + eps)
        new_mean[k, c] = momentum * new_mean[k, c] + (1 - momentum) * normalized.mean()
        new_var[k, c] = momentum * new_var[k, c] + (1 - momentum) * normalized.var()
    share = tau.mean(axis=tuple(axis for axis in range(tau.ndim) if axis != 1))
    return momentum * _array(prior) + (1 - momentum) * share, new_mean, new_var


# ---- mode normalization


def mode_gates(x, weight, bias):
    """Gates (N, K) of mode normalization: softmax of weight (K, C) @ mean of x over positions + bias (K,)."""
    pooled = _flat(x).mean(axis=2)
    return softmax(pooled @ _array(weight).T + _array(bias))


def mode_norm(x, weight, bias, eps, gamma=None, beta=None):
    """Mode normalization (Deecke et al., ICLR 2019), training: gates weigh the moments and mix the results.

    y = gamma * sum_k g_nk (x - mu_k) / sqrt(var_k + eps) + beta; gamma, beta (C,); no prior divides.
    """
    gates = mode_gates(x, weight, bias)
    _, mean, var = weighted_moments(x, gates)
    return mode_norm_running(x, weight, bias, mean, var, eps, gamma, beta)


def mode_norm_running(x, weight, bias, running_mean, running_var, eps, gamma=None, beta=None):
    """Mode normalization, inference: gates from x, moments (K, C) given."""
    flat, gates = _flat(x), mode_gates(x, weight, bias)
    mean, var = _array(running_mean), _array(running_var)
    y = 0
    for k in range(gates.shape[1]):
        normalized = (flat - mean[k][None, :, None]) / np.sqrt(var[k][None, :, None] + eps)
        y = y + gates[:, k][:, None, None] * normalized
    if gamma is not None:
        y = y * _array(gamma)[None, :, None]
    if beta is not None:
        y = y + _array(beta)[None, :, None]
    return y.reshape(np.shape(x))


# ---- closed forms


def scb_closed_form(x, ids, mean, spread, eps, grad_output, convention="paper"):
    """Eq. 11 corrected: gradients of `scb` for known ids, name -> array."""
    flat, g, mean = _flat(x), _flat(grad_output), _array(mean)
    denominator = _scb_denominator(spread, eps, convention)
    grad_x, grad_mean, grad_denominator = np.zeros_like(flat), np.zeros_like(mean), np.zeros_like(mean)
    for n, k in enumerate(np.asarray(ids)):
        d = denominator[k][:, None]
        grad_x[n] = g[n] / d
        grad_mean[k] -= (g[n] / d).sum(axis=1)
        grad_denominator[k] -= (g[n] * (flat[n] - mean[k][:, None]) / d**2).sum(axis=1)
    through = 1 / (2 * denominator) if convention == "paper" else np.exp(_array(spread))
    return {"x": grad_x.reshape(np.shape(x)), "mean": grad_mean, "spread": grad_denominator * through}


def eq15_closed_form(x, prior, mean, var, eps, grad_output, posterior="per_channel"):
    """Eq. 14 corrected for eq. 15: gradients of `ucb_parameters`, name -> array.

    ``prior`` is the gradient with each prior free; ``logits`` that for prior = softmax(logits).
    """
    flat, g, prior, s = _flat(x), _flat(grad_output), _array(prior), _array(var) + eps
    tau = np.exp(_log_tau(flat, prior, mean, s, posterior))
    normalized = (flat[:, None] - _per_component(mean)) / np.sqrt(_per_component(s))
    c = normalized / np.sqrt(prior)[None, :, None, None]
    y = (tau * c).sum(axis=1, keepdims=True)
    # A posterior shared by several scalars collects what all of them say about it.
    shared = tuple(axis for axis in (2, 3) if tau.shape[axis] != flat.shape[axis - 1])
    d = (g[:, None] * tau * (c - y)).sum(axis=shared, keepdims=True)
    direct = g[:, None] * tau / np.sqrt(prior)[None, :, None, None] / np.sqrt(_per_component(s))
    centred = flat[:, None] - _per_component(mean)
    total = _per_component(s)
    q = d.sum(axis=(0, 2, 3)) / prior - 0.5 * (g[:, None] * tau * c).sum(axis=(0, 2, 3)) / prior
    return {
        "x": (direct - d * centred / total).sum(axis=1).reshape(np.shape(x)),
        "mean": (d * centred / total - direct).sum(axis=(0, 3)),
        "var": (0.5 * d * (centred**2 / total**2 - 1 / total) - 0.5 * direct * centred / total).sum(
            axis=(0, 3)
        ),
        "prior": q,
        "logits": prior * (q - np.sum(prior * q)),
    }


def eq7_closed_form(x, prior, mean, var, eps, grad_output, posterior="per_channel", differentiate_tau=True):
    """Eq. 14 corrected for eq. 7/8: gradients of `ucb_batch` (and of MN with tau constant), name -> array.

    The parameters act through tau and 1/sqrt(prior) only; each element acts on all through m_k, v_k.
    With ``differentiate_tau=False`` it is `mixture_norm_parameters`: no eps in the density, and only ``x``.
    """
    flat, g, prior = _flat(x), _flat(grad_output)[:, None], _array(prior)
    density = _array(var) + (eps if differentiate_tau else 0.0)
    tau = np.exp(_log_tau(flat, prior, mean, density, posterior))
    full = np.broadcast_to(tau, (len(flat), len(prior), *flat.shape[1:]))
    root = np.sqrt(prior)[None, :, None, None]
    mass = full.sum(axis=(0, 3), keepdims=True)
    mass = np.where(mass == 0, 1, mass)
    m = (full * flat[:, None]).sum(axis=(0, 3), keepdims=True) / mass
    v = (full * (flat[:, None] - m) ** 2).sum(axis=(0, 3), keepdims=True) / mass
    centred, s = flat[:, None] - m, v + eps
    grad_m = -(g * full / root).sum(axis=(0, 3), keepdims=True) / np.sqrt(s)
    grad_v = -0.5 * (g * full / root * centred).sum(axis=(0, 3), keepdims=True) / s**1.5
    grad_x = g * full / root / np.sqrt(s) + full / mass * (grad_m + 2 * grad_v * centred)
    if not differentiate_tau:
        return {"x": grad_x.sum(axis=1).reshape(np.shape(x))}
    grad_tau = g * centred / np.sqrt(s) / root + (grad_m * centred + grad_v * (centred**2 - v)) / mass
    shared = tuple(axis for axis in (2, 3) if tau.shape[axis] != full.shape[axis])
    grad_tau = grad_tau.sum(axis=shared, keepdims=True)
    grad_log = tau * (grad_tau - (tau * grad_tau).sum(axis=1, keepdims=True))
    away, total = flat[:, None] - _per_component(mean), _per_component(density)
    direct = (g * full / root * centred / np.sqrt(s)).sum(axis=(0, 2, 3))
    return {
        "x": (grad_x - grad_log * away / total).sum(axis=1).reshape(np.shape(x)),
        "mean": (grad_log * away / total).sum(axis=(0, 3)),
        "var": (0.5 * grad_log * (away**2 / total**2 - 1 / total)).sum(axis=(0, 3)),
        "prior": (grad_log.sum(axis=(0, 2, 3)) - 0.5 * direct) / prior,
    }
