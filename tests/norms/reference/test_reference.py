"""The reference against itself: closed forms, differences, identities and numbers worked out by hand."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("norms_reference", Path(__file__).with_name("reference.py"))
ref = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ref)

EPS = 1e-3
SHAPES = [(6, 3), (4, 2, 5), (4, 3, 2, 3), (1, 2, 3), (5, 1)]
POSTERIORS = ["per_channel", "joint", "sample"]


def problem(shape=(4, 3, 2, 3), K=3, seed=0):
    rng = np.random.default_rng(seed)
    N, C = shape[:2]
    mixture = {
        "prior": rng.dirichlet(np.full(K, 3.0)),
        "mean": rng.normal(0.0, 0.4, (K, C)),
        "var": rng.uniform(0.6, 1.5, (K, C)),
    }
    x = rng.normal(0.2, 1.0, shape)  # overlapping: even a posterior per sample must stay away from 0 and 1
    return x, mixture, rng.integers(0, K, N), rng.normal(size=shape)


def forwards():
    """Every forward with all its differentiable inputs: name -> (function, inputs, options)."""
    x, mixture, ids, _ = problem(seed=1)
    N, C, K = 4, 3, 3
    rng = np.random.default_rng(2)
    table = {"gamma": rng.normal(size=(K, C)), "beta": rng.normal(size=(K, C))}
    gate = {"weight": rng.normal(size=(K, C)), "bias": rng.normal(size=K)}
    affine = {"gamma": rng.normal(size=C), "beta": rng.normal(size=C)}
    moments = {"running_mean": rng.normal(size=(K, C)), "running_var": rng.uniform(0.5, 2, (K, C))}
    linear = {f"{name}_weight": rng.uniform(0.1, 1, (K, C)) for name in ("mean", "spread")}
    linear |= {f"{name}_bias": rng.uniform(0.1, 1, C) for name in ("mean", "spread")}
    cluster = {"x": x, "mean": mixture["mean"], "spread": mixture["var"]}
    eps = {"eps": EPS}
    rows = {
        "batch_norm": (ref.batch_norm, {"x": x}, eps),
        "conditional_batch_norm": (ref.conditional_batch_norm, {"x": x, "ids": ids, **table}, eps),
        "cluster_batch_norm": (ref.cluster_batch_norm, {"x": x, "ids": np.array([0, 2, 0, 2]), **table}, eps),
        "mode_norm": (ref.mode_norm, {"x": x, **gate, **affine}, eps),
        "mode_norm_running": (ref.mode_norm_running, {"x": x, **gate, **affine, **moments}, eps),
    }
    for convention in ("paper", "released"):
        options = {**eps, "convention": convention}
        rows[f"scb-{convention}"] = ref.scb, {**cluster, "ids": np.array([0, -1, 2, 1])}, options
        codes = rng.dirichlet(np.ones(K), N)
        rows[f"scb_base-{convention}"] = ref.scb_base, {"x": x, "codes": codes, **linear}, options
        for scale in ("paper", "consistent"):
            for posterior in ("position", "sample"):
                name = f"scb_unknown-{convention}-{scale}-{posterior}"
                rows[name] = ref.scb_unknown, cluster, {**options, "scale": scale, "posterior": posterior}
    for posterior in POSTERIORS:
        options, inputs = {**eps, "posterior": posterior}, {"x": x, **mixture}
        tau = ref.responsibilities(**inputs, density_eps=0.0, posterior=posterior)
        given = {"x": x, "tau": tau, "prior": mixture["prior"]}
        rows[f"mixture_norm-{posterior}"] = ref.mixture_norm, given, eps
        rows[f"ucb_batch-{posterior}"] = ref.ucb_batch, inputs, options
        rows[f"ucb_parameters-{posterior}"] = ref.ucb_parameters, inputs, options
        rows[f"ucb_running-{posterior}"] = ref.ucb_running, {**inputs, **moments}, options
        rows[f"moving_average-{posterior}"] = ref.moving_average, inputs, {**options, "momentum": 0.9}
    return rows


FORWARDS = forwards()


@pytest.mark.parametrize("name", FORWARDS)
def test_complex_step_agrees_with_central_differences(name):
    function, inputs, options = FORWARDS[name]
    rng = np.random.default_rng(3)
    output = function(**inputs, **options)
    outputs = output if isinstance(output, tuple) else (output,)
    weights = tuple(rng.normal(size=np.shape(y)) for y in outputs)
    exact = ref.vjp(function, inputs, weights if isinstance(output, tuple) else weights[0], **options)

    def loss(name, value):
        y = function(**{**inputs, name: value}, **options)
        return sum(
            np.sum(w * part) for w, part in zip(weights, y if isinstance(y, tuple) else (y,), strict=True)
        )

    assert exact
    for key, gradient in exact.items():
        direction = rng.normal(size=gradient.shape)
        start, h = inputs[key].astype(np.longdouble), 1e-5
        slope = (loss(key, start + h * direction) - loss(key, start - h * direction)) / (2 * h)
        np.testing.assert_allclose(np.sum(gradient * direction), float(slope), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", FORWARDS)
def test_forward_is_right_to_the_last_digits_of_float64(name):
    function, inputs, options = FORWARDS[name]
    wide = {key: v.astype(np.longdouble) if v.dtype == np.float64 else v for key, v in inputs.items()}
    outputs, wides = function(**inputs, **options), function(**wide, **options)
    if not isinstance(outputs, tuple):
        outputs, wides = (outputs,), (wides,)
    for y, y_wide in zip(outputs, wides, strict=True):
        assert y.dtype == np.float64
        np.testing.assert_allclose(y, y_wide.astype(np.float64), rtol=0, atol=1e-13 * np.abs(y_wide).max())


def assert_same_gradients(complex_step, closed_form):
    assert complex_step.keys() <= closed_form.keys()
    for key, gradient in complex_step.items():
        np.testing.assert_allclose(
            gradient, closed_form[key], rtol=0, atol=1e-12 * max(1, np.abs(gradient).max())
        )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("convention", ["paper", "released"])
def test_scb_closed_form(shape, convention):
    x, mixture, ids, g = problem(shape)
    inputs = {"x": x, "ids": ids, "mean": mixture["mean"], "spread": mixture["var"]}
    closed = ref.scb_closed_form(**inputs, eps=EPS, grad_output=g, convention=convention)
    assert_same_gradients(ref.vjp(ref.scb, inputs, g, eps=EPS, convention=convention), closed)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_eq15_and_eq7_closed_forms(shape, posterior):
    x, mixture, _, g = problem(shape)
    inputs, options = {"x": x, **mixture}, {"eps": EPS, "posterior": posterior}
    closed = ref.eq15_closed_form(**inputs, **options, grad_output=g)
    assert_same_gradients(ref.vjp(ref.ucb_parameters, inputs, g, **options), closed)

    def of_logits(logits):
        return ref.ucb_parameters(x, ref.softmax(logits), mixture["mean"], mixture["var"], **options)

    assert_same_gradients(ref.vjp(of_logits, {"logits": np.log(mixture["prior"])}, g), closed)
    closed = ref.eq7_closed_form(**inputs, **options, grad_output=g)
    assert_same_gradients(ref.vjp(ref.ucb_batch, inputs, g, **options), closed)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_constant_responsibilities(posterior):
    x, mixture, _, g = problem()
    inputs, options = {"x": x, **mixture}, {"eps": EPS, "posterior": posterior}
    gradients = ref.vjp(ref.mixture_norm_parameters, inputs, g, **options)
    tau = ref.responsibilities(**inputs, density_eps=0.0, posterior=posterior)
    fixed = ref.vjp(lambda x: ref.mixture_norm(x, tau, mixture["prior"], EPS), {"x": x}, g)
    np.testing.assert_array_equal(gradients["x"], fixed["x"])
    assert not any(gradients[key].any() for key in mixture)
    closed = ref.eq7_closed_form(**inputs, **options, grad_output=g, differentiate_tau=False)
    assert_same_gradients(fixed, closed)
    moving = ref.vjp(ref.mixture_norm_parameters, inputs, g, **options, differentiate_tau=True)
    assert np.abs(moving["x"] - fixed["x"]).max() > 1e-3


def test_batch_norm_by_hand():
    x = np.array([[1.0, 10.0], [3.0, 10.0]])  # channel 0: mean 2, variance 1; channel 1 is constant
    np.testing.assert_allclose(ref.batch_norm(x, 3.0), [[-0.5, 0.0], [0.5, 0.0]], rtol=1e-15)


def test_scb_by_hand():
    x = np.array([[[2.0, 4.0]], [[2.0, 4.0]]])
    mean, var = np.array([[0.0], [4.0]]), np.array([[3.0], [0.0]])
    y = ref.scb(x, np.array([0, 1]), mean, var, eps=1.0)
    np.testing.assert_allclose(y, [[[1.0, 2.0]], [[-2.0, 0.0]]], rtol=1e-15)
    released = ref.scb(x, np.array([0, 1]), mean, np.log([[3.0], [1.0]]), eps=1.0, convention="released")
    np.testing.assert_allclose(released, [[[0.5, 1.0]], [[-1.0, 0.0]]], rtol=1e-15)


def test_mixture_by_hand():
    # Two components of equal prior at -1 and 1 with variance 1: tau_2(x) = 1 / (1 + exp(-2x)).
    x = np.array([[-0.5], [0.0], [0.5]])
    prior, mean, var = np.array([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.ones((2, 1))
    tau = ref.responsibilities(x, prior, mean, var, 0.0, "per_channel")
    second = 1 / (1 + np.exp(-2 * x[:, 0]))
    np.testing.assert_allclose(tau[:, 1, 0], second, rtol=1e-14)
    expected = np.sqrt(2) * ((1 - second) * (x[:, 0] + 1) + second * (x[:, 0] - 1))
    np.testing.assert_allclose(
        ref.ucb_parameters(x, prior, mean, var, 0.0)[:, 0], expected, rtol=1e-13, atol=1e-15
    )


def test_moments_and_moving_average_by_hand():
    x = np.array([[0.0], [2.0], [8.0]])
    tau = np.array([[0.75, 0.25], [0.25, 0.75], [0.0, 1.0]])
    mass, mean, var = ref.weighted_moments(x, tau)
    np.testing.assert_allclose(mass, [[1.0], [2.0]], rtol=1e-15)
    np.testing.assert_allclose(mean, [[0.5], [4.75]], rtol=1e-15)
    np.testing.assert_allclose(var, [[0.75], [(0.25 * 4.75**2 + 0.75 * 2.75**2 + 3.25**2) / 2]], rtol=1e-15)
    # Components 1000 apart: responsibilities are exactly 0 or 1.
    x, far = np.array([[-1.0], [1.0], [1000.0], [1004.0]]), np.array([[0.0], [1000.0]])
    new = ref.moving_average(x, np.array([0.4, 0.6]), far, np.full((2, 1), 3.0), momentum=0.75, eps=EPS)
    for value, expected in zip(new, ([0.425, 0.575], [[0.0], [1000.5]], [[2.5], [3.25]]), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-14)


def test_moving_average_leaves_a_component_without_mass():
    x = np.array([[-1.0], [1.0]])
    prior, mean, var = np.array([0.5, 0.5]), np.array([[0.0], [1e4]]), np.ones((2, 1))
    new_prior, new_mean, new_var = ref.moving_average(x, prior, mean, var, momentum=0.9, eps=EPS)
    assert (new_mean[1, 0], new_var[1, 0]) == (1e4, 1.0)
    np.testing.assert_allclose(new_prior, [0.55, 0.45], rtol=1e-14)
    assert np.isfinite(ref.ucb_batch(x, prior, mean, var, EPS)).all()


def test_printed_moving_average_by_hand():
    # Responsibilities are exactly 0 or 1: moments (0, 1) and (1002, 4), those of the batch 501 and 251002.
    x, far = np.array([[-1.0], [1.0], [1000.0], [1004.0]]), np.array([[0.0], [1000.0]])
    new = ref.moving_average_printed(x, np.array([0.4, 0.6]), far, np.full((2, 1), 3.0), 0.75, eps=0.0)
    spread = np.var([-1, 1, 1000, 1004])
    expected = ([0.425, 0.575], [[501 / 4], [750 - 501 / 8]], [[2.25 + spread / 4], [2.25 + spread / 16]])
    for value, right in zip(new, expected, strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-13)


def test_cluster_statistics_by_hand():
    x, ids = np.array([[1.0], [10.0], [3.0], [30.0]]), np.array([0, 1, 0, 1])
    np.testing.assert_allclose(ref.cluster_batch_norm(x, ids, 0.0), [[-1], [-1], [1], [1]], rtol=1e-15)
    gamma, beta = np.array([[2.0], [3.0]]), np.array([[0.0], [1.0]])
    y = ref.cluster_batch_norm(x, ids, 0.0, gamma, beta)
    np.testing.assert_allclose(y, [[-2], [-2], [2], [4]], rtol=1e-15)
    x = np.array([[1.0], [1.0], [3.0], [3.0]])
    y = ref.conditional_batch_norm(x, ids, gamma, beta, 0.0)
    np.testing.assert_allclose(y, [[-2], [-2], [2], [4]], rtol=1e-15)


def test_mode_norm_by_hand():
    # Gates that depend on the bias only, 1/4 and 3/4 everywhere: both modes see the whole batch.
    x, *_ = problem((4, 3, 5))
    weight, bias = np.zeros((2, 3)), np.log([0.25, 0.75])
    np.testing.assert_allclose(ref.mode_gates(x, weight, bias), np.tile([0.25, 0.75], (4, 1)), rtol=1e-15)
    np.testing.assert_allclose(
        ref.mode_norm(x, weight, bias, EPS), ref.batch_norm(x, EPS), rtol=1e-12, atol=1e-14
    )
    # One channel whose mean over positions is 2: logits 0 and 2 * log(3) / 2.
    gates = ref.mode_gates(np.array([[[1.0, 3.0]]]), np.array([[0.0], [np.log(3) / 2]]), np.zeros(2))
    np.testing.assert_allclose(gates, [[0.25, 0.75]], rtol=1e-15)
    # Hard gates by the sign of the mean over positions: each sign is a cluster with its own moments.
    x = np.array([[[1.0, 3.0]], [[-10.0, -30.0]]])
    y = ref.mode_norm(x, np.array([[500.0], [-500.0]]), np.zeros(2), 0.0, np.array([2.0]), np.array([1.0]))
    np.testing.assert_allclose(y, [[[-1.0, 3.0]], [[3.0, -1.0]]], rtol=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_one_component_is_batch_norm(shape, posterior):
    x, mixture, _, g = problem(shape, K=1)
    inputs, options = {"x": x, **mixture}, {"eps": EPS, "posterior": posterior}
    expected = ref.batch_norm(x, EPS)
    slope = ref.vjp(ref.batch_norm, {"x": x}, g, eps=EPS)["x"]
    for layer in (ref.ucb_batch, ref.mixture_norm_parameters):
        np.testing.assert_allclose(layer(**inputs, **options), expected, rtol=0, atol=1e-13)
        gradients = ref.vjp(layer, inputs, g, **options)
        np.testing.assert_allclose(gradients["x"], slope, rtol=0, atol=1e-12)
        assert max(np.abs(gradients[key]).max() for key in ("mean", "var")) < 1e-12
    affine = ref.scb(x, np.zeros(shape[0], int), mixture["mean"], mixture["var"], EPS)
    np.testing.assert_allclose(ref.ucb_parameters(**inputs, **options), affine, rtol=1e-13)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_identical_components_give_root_k_times_one(posterior):
    x, mixture, ids, _ = problem(K=1)
    K = 4
    same = {
        "prior": np.full(K, 1 / K),
        "mean": mixture["mean"].repeat(K, 0),
        "var": mixture["var"].repeat(K, 0),
    }
    y = ref.ucb_batch(x, **same, eps=EPS, posterior=posterior)
    np.testing.assert_allclose(y, np.sqrt(K) * ref.batch_norm(x, EPS), rtol=1e-12, atol=1e-13)
    affine = ref.scb(x, ids, mixture["mean"], mixture["var"], EPS)
    y = ref.ucb_parameters(x, **same, eps=EPS, posterior=posterior)
    np.testing.assert_allclose(y, np.sqrt(K) * affine, rtol=1e-12)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_order_of_components_does_not_matter(posterior):
    x, mixture, _, _ = problem()
    order = np.array([2, 0, 1])
    permuted = {name: value[order] for name, value in mixture.items()}
    options = {"eps": EPS, "posterior": posterior}
    for layer in (ref.ucb_batch, ref.ucb_parameters, ref.mixture_norm_parameters):
        np.testing.assert_allclose(
            layer(x, **permuted, **options), layer(x, **mixture, **options), rtol=1e-12, atol=1e-14
        )
    new = ref.moving_average(x, **mixture, **options, momentum=0.9)
    for value, moved in zip(new, ref.moving_average(x, **permuted, **options, momentum=0.9), strict=True):
        np.testing.assert_allclose(moved, value[order], rtol=1e-13)


@pytest.mark.parametrize("convention", ["paper", "released"])
@pytest.mark.parametrize("posterior", ["position", "sample"])
def test_unknown_cluster_of_separated_components(convention, posterior):
    rng = np.random.default_rng(5)
    ids, mean, spread = (
        np.array([0, 1, 2, 1]),
        100.0 * np.arange(3)[:, None] * np.ones(2),
        np.full((3, 2), 0.5),
    )
    x = mean[ids][:, :, None] + rng.normal(size=(4, 2, 6))
    known = ref.scb(x, ids, mean, spread, EPS, convention)
    for scale, factor in (("paper", np.sqrt(3)), ("consistent", 1.0)):
        options = {"convention": convention, "scale": scale, "posterior": posterior}
        unknown = ref.scb_unknown(x, mean, spread, EPS, **options)
        np.testing.assert_allclose(unknown, factor * known, rtol=1e-13)
        mixed = ref.scb(x, np.array([0, -1, 2, -1]), mean, spread, EPS, **options)
        np.testing.assert_array_equal(mixed[[0, 2]], known[[0, 2]])
        np.testing.assert_allclose(mixed[[1, 3]], unknown[[1, 3]], rtol=1e-14)


def test_unknown_cluster_is_eq15_with_equal_priors():
    x, mixture, _, _ = problem()
    for posterior in POSTERIORS:
        expected = ref.ucb_parameters(
            x, np.full(3, 1 / 3), mixture["mean"], mixture["var"], EPS, posterior=posterior
        )
        y = ref.scb_unknown(x, mixture["mean"], mixture["var"], EPS, posterior=posterior)
        np.testing.assert_allclose(y, expected, rtol=1e-13)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_posteriors_are_those_of_the_definition(posterior):
    x, mixture, _, _ = problem((3, 2, 2))
    total = (mixture["var"] + EPS)[None, :, :, None]
    density = np.exp(-0.5 * (x[:, None] - mixture["mean"][None, :, :, None]) ** 2 / total) / np.sqrt(
        2 * np.pi * total
    )
    axes = {"per_channel": (), "joint": (2,), "sample": (2, 3)}[posterior]
    density = density.prod(axis=axes) if axes else density
    joint = density * mixture["prior"].reshape(1, -1, *[1] * (density.ndim - 2))
    tau = ref.responsibilities(x, **mixture, density_eps=EPS, posterior=posterior)
    np.testing.assert_allclose(tau, joint / joint.sum(axis=1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_far_inputs_keep_posteriors_that_sum_to_one(posterior):
    x, mixture, _, _ = problem()
    tau = ref.responsibilities(1e4 * x, **mixture, density_eps=EPS, posterior=posterior)
    np.testing.assert_allclose(tau.sum(axis=1), 1.0, rtol=1e-14)
    assert np.isfinite(ref.ucb_batch(1e4 * x, **mixture, eps=EPS, posterior=posterior)).all()


def test_running_moments_equal_to_those_of_the_batch_give_the_training_form():
    x, mixture, _, _ = problem()
    for posterior in POSTERIORS:
        tau = ref.responsibilities(x, **mixture, density_eps=EPS, posterior=posterior)
        _, m, v = ref.weighted_moments(x, tau)
        np.testing.assert_allclose(
            ref.ucb_running(x, **mixture, running_mean=m, running_var=v, eps=EPS, posterior=posterior),
            ref.ucb_batch(x, **mixture, eps=EPS, posterior=posterior),
            rtol=1e-12,
            atol=1e-14,
        )


def test_responsibilities_of_coarser_units_are_broadcast():
    x, mixture, _, _ = problem((3, 2, 4))
    coarse = ref.responsibilities(x, **mixture, density_eps=EPS, posterior="sample")
    full = np.broadcast_to(coarse[:, :, None, None], (3, 3, 2, 4))
    prior = mixture["prior"]
    for tau in (full, full[:, :, 0]):
        np.testing.assert_array_equal(
            ref.mixture_norm(x, tau, prior, EPS), ref.mixture_norm(x, coarse, prior, EPS)
        )


@pytest.mark.parametrize("convention", ["paper", "released"])
def test_scb_base_is_scb_with_summed_weights(convention):
    x, mixture, ids, _ = problem()
    bias = np.array([0.1, 0.2, 0.3])
    y = ref.scb_base(x, np.eye(3)[ids], mixture["mean"], bias, mixture["var"], bias, EPS, convention)
    expected = ref.scb(x, ids, mixture["mean"] + bias, mixture["var"] + bias, EPS, convention)
    np.testing.assert_allclose(y, expected, rtol=1e-14)
    for positive, function in (("exp", np.exp), ("softplus", ref.softplus)):
        y = ref.scb_base(
            x, np.eye(3)[ids], mixture["mean"], bias, mixture["var"], bias, EPS, positive=positive
        )
        expected = ref.scb(x, ids, mixture["mean"] + bias, function(mixture["var"] + bias), EPS)
        np.testing.assert_allclose(y, expected, rtol=1e-14)


def test_softplus_and_softmax():
    raw = np.array([-800.0, -1.0, 0.0, 1.0, 800.0])
    np.testing.assert_allclose(ref.softplus(raw), np.logaddexp(0, raw), rtol=1e-14, atol=0)
    slope = ref.vjp(ref.softplus, {"raw": raw[1:]}, np.ones(4))["raw"]
    np.testing.assert_allclose(slope, 1 / (1 + np.exp(-raw[1:])), rtol=1e-14)
    np.testing.assert_allclose(ref.softmax(np.log([[1.0, 3.0]])), [[0.25, 0.75]], rtol=1e-15)
