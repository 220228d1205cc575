"""Forward and gradients of every layer against the NumPy reference, in float64 and float32."""

import pytest
import torch

from cbnorm.norms import (
    ClusterBatchNorm,
    ConditionalBatchNorm,
    MixtureNorm,
    ModeNorm,
    SCBNorm,
    SCBNormBase,
    UCBNorm,
)
from cbnorm.norms.learned import VARIANCE_FLOOR

K, C = 3, 4
SHAPES = [(6, C), (5, C, 3), (4, C, 2, 2)]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def array(tensor):
    return tensor.detach().double().clone().numpy()


@pytest.fixture
def compare(reference, draw, run):
    """Check a layer's output and gradients against a reference function of (x, **parameters)."""

    def _compare(layer, function, shape, dtype, clusters=None, **constants):
        x = draw(*shape, dtype=torch.float64).to(dtype)
        got = run(layer.to(dtype), x, clusters)
        parameters = {name: array(p) for name, p in layer.named_parameters()}
        inputs = {"x": array(x), **parameters}
        gradients = reference.vjp(function, inputs, array(got["cotangent"]), **constants)
        expected = {"y": function(**inputs, **constants), "x.grad": gradients.pop("x"), **gradients}
        for name, value in expected.items():
            worst = abs(array(got[name]) - value).max()
            limit = TOLERANCE[dtype] * max(abs(value).max(), 1e-3)
            assert worst <= limit, f"{name}: off by {worst:.2e}, allowed {limit:.2e}"

    return _compare


def randomise(layer, scale=0.7):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in (*layer.parameters(), *(b for n, b in layer.named_buffers() if n == "running_mean")):
            tensor.add_(scale * torch.randn(tensor.shape, generator=generator))
        for name, tensor in layer.named_buffers():
            if name == "running_var":
                tensor.mul_(0.5 + torch.rand(tensor.shape, generator=generator))
    return layer


def posterior_options(posterior):
    """Of the layer, for a posterior as the reference names it."""
    return {"posterior": "joint", "temper": True} if posterior == "tempered" else {"posterior": posterior}


POSTERIORS = pytest.mark.parametrize("posterior", ["per_channel", "joint", "tempered"])
both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
all_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@both_precisions
@all_shapes
@pytest.mark.parametrize("convention", ["paper", "released"])
@pytest.mark.parametrize(("scale", "unknown"), [("paper", "position"), ("consistent", "sample")])
def test_scb(compare, reference, shape, dtype, convention, scale, unknown):
    ids = torch.tensor([0, 2, -1, 1, -1, 2])[: shape[0]]
    layer = randomise(SCBNorm(C, K, convention=convention, scale=scale, unknown=unknown))

    def function(x, mean, raw_spread):
        spread = raw_spread if convention == "released" else reference.softplus(raw_spread) + VARIANCE_FLOOR
        return reference.scb(x, ids.numpy(), mean, spread, layer.eps, convention, scale, unknown)

    compare(layer, function, shape, dtype, ids)


@both_precisions
@pytest.mark.parametrize("convention", ["paper", "released"])
@pytest.mark.parametrize("soft", [False, True], ids=["ids", "weights"])
def test_scb_base(compare, reference, dtype, convention, soft):
    ids = torch.tensor([0, 2, 1, 1])
    layer = randomise(SCBNormBase(C, K, convention=convention))
    codes = torch.eye(K, dtype=torch.float64)[ids].numpy()
    if soft:
        ids = torch.randn(4, K, generator=torch.Generator().manual_seed(1)).softmax(dim=1)
        codes = ids.double().numpy()
    floor = 0.0 if convention == "released" else VARIANCE_FLOOR

    def function(x, mean_weight, mean_bias, spread_weight, spread_bias):
        tables = (mean_weight, mean_bias, spread_weight, spread_bias)
        return (
            reference.scb_base(x, codes, *tables, layer.eps + floor, convention, positive="softplus")
            if convention == "paper"
            else reference.scb_base(x, codes, *tables, layer.eps, convention)
        )

    compare(layer, function, (4, C, 2, 2), dtype, ids)


@both_precisions
@all_shapes
@POSTERIORS
@pytest.mark.parametrize("form", ["batch", "params", "running"])
def test_ucb_trained_by_backpropagation(compare, reference, shape, dtype, posterior, form):
    layer = randomise(UCBNorm(C, K, **posterior_options(posterior), eval_stats=form)).eval()
    running = array(layer.running_mean), array(layer.running_var)

    def function(x, mean, raw_variance, prior_logits):
        prior = reference.softmax(prior_logits)
        variance = reference.softplus(raw_variance) + VARIANCE_FLOOR
        if form == "batch":
            return reference.ucb_batch(x, prior, mean, variance, layer.eps, posterior)
        if form == "params":
            return reference.ucb_parameters(x, prior, mean, variance, layer.eps, posterior)
        return reference.ucb_running(x, prior, mean, variance, *running, layer.eps, posterior)

    compare(layer, function, shape, dtype)


@both_precisions
@POSTERIORS
def test_ucb_training_is_its_batch_form(compare, reference, dtype, posterior):
    layer = randomise(UCBNorm(C, K, **posterior_options(posterior))).train()

    def function(x, mean, raw_variance, prior_logits):
        prior, variance = reference.softmax(prior_logits), reference.softplus(raw_variance) + VARIANCE_FLOOR
        return reference.ucb_batch(x, prior, mean, variance, layer.eps, posterior)

    compare(layer, function, (4, C, 3), dtype)


@POSTERIORS
@pytest.mark.parametrize("update", ["moving_average", "moving_average_printed"])
def test_ucb_moving_average(reference, draw, posterior, update):
    layer = randomise(UCBNorm(C, K, update=update, **posterior_options(posterior))).double()
    mixture = array(layer.running_prior), array(layer.running_mean), array(layer.running_var)
    x = draw(5, C, 3, dtype=torch.float64)
    output = layer(x)
    expected = reference.ucb_batch(x.numpy(), *mixture, layer.eps, posterior)
    assert abs(array(output) - expected).max() < 1e-10
    learned = getattr(reference, update)
    updated = learned(x.numpy(), *mixture, 1 - layer.momentum, layer.eps, posterior)
    tracked = array(layer.running_prior), array(layer.running_mean), array(layer.running_var)
    for got, value in zip(tracked, updated, strict=True):
        assert abs(got - value).max() < 1e-10
    expected = reference.ucb_parameters(x.numpy(), *tracked, layer.eps, posterior)
    assert abs(array(layer.eval()(x)) - expected).max() < 1e-10


@both_precisions
@all_shapes
@pytest.mark.parametrize("differentiate_tau", [False, True])
def test_mixture_norm(compare, reference, given_mixture, shape, dtype, differentiate_tau):
    layer = MixtureNorm(C, K, mixture=given_mixture, affine=False, differentiate_tau=differentiate_tau)
    fixed = [array(t) for t in (layer.mixture_weights, layer.mixture_means, layer.mixture_variances)]

    def function(x):
        return reference.mixture_norm_parameters(x, *fixed, layer.eps, differentiate_tau=differentiate_tau)

    compare(layer, function, shape, dtype)


@both_precisions
@all_shapes
def test_mode_norm(compare, reference, shape, dtype):
    layer = randomise(ModeNorm(C, K))

    def function(x, gate_weight, gate_bias, weight, bias):
        return reference.mode_norm(x, gate_weight, gate_bias, layer.eps, weight, bias)

    compare(layer, function, shape, dtype)


@both_precisions
@all_shapes
def test_conditional_batch_norm(compare, reference, shape, dtype):
    layer, ids = randomise(ConditionalBatchNorm(C, K)), torch.tensor([0, 2, 0, 1, 2, 1])[: shape[0]]

    def function(x, weight, bias):
        return reference.conditional_batch_norm(x, ids.numpy(), weight, bias, layer.eps)

    compare(layer, function, shape, dtype, ids)


@both_precisions
@all_shapes
def test_cluster_batch_norm(compare, reference, shape, dtype):
    layer, ids = ClusterBatchNorm(C, K), torch.tensor([0, 2, 0, 2, 0, 2])[: shape[0]]

    def function(x):
        return reference.cluster_batch_norm(x, ids.numpy(), layer.eps)

    compare(layer, function, shape, dtype, ids)


def test_closed_forms_of_the_gradients(reference, draw, run):
    """The mended eq. 11 and 14: formulas that a reader can check by hand."""
    x, ids = draw(5, C, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])
    scb = randomise(SCBNorm(C, K, convention="released")).double()
    got = run(scb, x, ids)
    closed = reference.scb_closed_form(
        x.numpy(),
        ids.numpy(),
        array(scb.mean),
        array(scb.raw_spread),
        scb.eps,
        array(got["cotangent"]),
        "released",
    )
    for name, key in (("x.grad", "x"), ("mean", "mean"), ("raw_spread", "spread")):
        assert abs(array(got[name]) - closed[key]).max() < 1e-10, name

    for posterior in ("per_channel", "joint"):
        for form, formula in (("params", "eq15_closed_form"), ("batch", "eq7_closed_form")):
            layer = randomise(UCBNorm(C, K, posterior=posterior, eval_stats=form)).double().eval()
            got = run(layer, x)
            log_prior, mean, variance = layer.mixture(torch.float64)
            prior, mean, variance = array(log_prior.exp()), array(mean), array(variance)
            closed = getattr(reference, formula)(
                x.numpy(), prior, mean, variance, layer.eps, array(got["cotangent"]), posterior
            )
            sigmoid = torch.sigmoid(layer.raw_variance).detach().numpy()
            logits = prior * (closed["prior"] - (prior * closed["prior"]).sum())
            for name, value in (
                ("x.grad", closed["x"]),
                ("mean", closed["mean"]),
                ("raw_variance", closed["var"] * sigmoid),
                ("prior_logits", logits),
            ):
                assert abs(array(got[name]) - value).max() < 1e-10, (posterior, form, name)
