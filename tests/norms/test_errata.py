"""One test for each error listed in docs/errata.md: what is printed fails, what is meant holds."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cbnorm.norms import MixtureNorm, SCBNorm, SCBNormBase, UCBNorm
from cbnorm.report.ledger import read_paper

EPS = 1e-5


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    return 7 + 3 * torch.randn(64, 2, 5, generator=generator, dtype=torch.float64)


def scb_problem():
    generator = torch.Generator().manual_seed(1)
    x, g = torch.randn(2, 5, 1, generator=generator, dtype=torch.float64)
    mean, variance = torch.tensor([[0.5], [-0.3]]).double(), torch.tensor([[0.8], [1.7]]).double()
    return x, g, torch.tensor([0, 1, 0, 0, 1]), mean, variance


def test_set_of_positions_is_the_whole_batch(data):
    """Below eq. 9, above eq. 10: with the set B_i as printed, K = 1 would be instance normalization."""
    y = UCBNorm(2, 1).double()(data)
    torch.testing.assert_close(
        y, F.batch_norm(data, None, None, training=True, eps=EPS), rtol=1e-5, atol=1e-5
    )
    assert (y - F.instance_norm(data, eps=EPS)).abs().max() > 0.1


def test_eq_8_is_a_weighted_sum(data):
    """The weights of eq. 9 already sum to one: the mean of weighted values is too small by their number."""
    values = data[:, 0].flatten()
    weights = torch.full_like(values, 1 / len(values))
    assert (weights * values).sum().item() == pytest.approx(values.mean().item())
    assert (weights * values).mean().item() == pytest.approx(values.mean().item() / len(values))


def test_eq_11_needs_the_sum_over_the_cluster_and_a_minus_sign(reference):
    x, g, ids, mean, variance = scb_problem()
    mean, variance = mean.requires_grad_(), variance.requires_grad_()
    y = (x - mean[ids]) / (variance[ids] + EPS).sqrt()
    by_mean, by_variance = torch.autograd.grad(y, (mean, variance), g)
    mended = reference.scb_closed_form(
        x.numpy(), ids.numpy(), mean.detach().numpy(), variance.detach().numpy(), EPS, g.numpy()
    )
    np.testing.assert_allclose(mended["mean"], by_mean, rtol=1e-12)
    np.testing.assert_allclose(mended["spread"], by_variance, rtol=1e-12)
    width = variance.detach()[ids] + EPS
    printed = g * (mean.detach()[ids] + x) / (2 * width**1.5)
    summed = torch.zeros_like(by_variance).index_add_(0, ids, printed)
    assert not torch.allclose(summed, by_variance, rtol=0.1)


def test_eq_13_as_printed_sums_to_one_over_k():
    density = np.array([0.2, 0.5, 0.3])
    printed = density / (3 * density.sum())
    assert printed.sum() == pytest.approx(1 / 3)
    assert (density / density.sum()).sum() == pytest.approx(1)


def test_eq_12_is_root_k_times_eq_10():
    """An input whose cluster is certain, but not told, comes out sqrt(K) times larger than when told."""
    layers = {scale: SCBNorm(1, 3, scale=scale) for scale in ("paper", "consistent")}
    for layer in layers.values():
        layer.mean.data = torch.tensor([[-50.0], [0.0], [50.0]])
    x, ids = torch.tensor([[-49.0], [0.5], [52.0]]), torch.tensor([0, 1, 2])
    told = layers["paper"](x, ids)
    torch.testing.assert_close(layers["paper"](x), 3**0.5 * told)
    torch.testing.assert_close(layers["consistent"](x), told)


def test_eq_13_and_15_need_eps():
    """A component that shrinks onto its points divides by zero."""
    x, mean, variance = np.array([[1.0], [2.0]]), np.array([[1.0]]), np.array([[0.0]])
    with np.errstate(all="ignore"):
        printed = (x - mean) / np.sqrt(variance)
    assert not np.isfinite(printed).any()
    assert np.isfinite((x - mean) / np.sqrt(variance + EPS)).all()


@pytest.mark.parametrize("posterior", ["per_channel", "joint"])
def test_eq_14_mended_is_the_gradient(reference, data, posterior):
    """Product rule, softmax and the sum over the batch, which eq. 14 leaves out, make it exact."""
    layer = UCBNorm(2, 3, eval_stats="params", posterior=posterior).double().eval()
    x = (data[:6] / 4).requires_grad_()
    g = torch.ones_like(x)
    layer(x).backward(g)
    log_prior, mean, variance = (tensor.detach() for tensor in layer.mixture(torch.float64))
    mixture = [tensor.numpy() for tensor in (log_prior.exp(), mean, variance)]
    mended = reference.eq15_closed_form(x.detach().numpy(), *mixture, EPS, g.numpy(), posterior)
    np.testing.assert_allclose(x.grad, mended["x"], atol=1e-10)
    np.testing.assert_allclose(layer.mean.grad, mended["mean"], atol=1e-10)
    np.testing.assert_allclose(layer.prior_logits.grad, mended["logits"], atol=1e-10)


def test_training_and_inference_are_different_functions_as_printed(data):
    """Eq. 7/8 normalize by the batch, eq. 15 by parameters that nothing ties to it."""
    layer = UCBNorm(2, 3, eval_stats="params").double()
    training = layer(data)
    printed = layer.eval()(data)
    assert training.mean().abs() < 0.1
    assert printed.mean() > 3
    layer.eval_stats = "running"
    for _ in range(100):
        layer.train()(data)
    torch.testing.assert_close(layer.eval()(data), training, rtol=1e-2, atol=1e-2)


def test_algorithm_2_tracks_moments_that_are_always_zero_and_one(reference, data):
    """Lines 13 and 14 average the normalized activations; the data's own moments are what is needed."""
    for shift in (0.0, 100.0):
        x = data.numpy() + shift
        prior, mean, variance = np.ones(1), np.zeros((1, 2)), np.ones((1, 2))
        printed_mean, printed_variance = np.full((1, 2), 5.0), np.full((1, 2), 5.0)
        for _ in range(200):
            normalized = reference.batch_norm(x, EPS)
            printed_mean = 0.9 * printed_mean + 0.1 * normalized.mean(axis=(0, 2))
            printed_variance = 0.9 * printed_variance + 0.1 * normalized.var(axis=(0, 2))
            prior, mean, variance = reference.moving_average(x, prior, mean, variance, 0.9, EPS)
        np.testing.assert_allclose(printed_mean, 0, atol=1e-6)
        np.testing.assert_allclose(printed_variance, 1, atol=1e-4)
        np.testing.assert_allclose(mean[0], x.mean(axis=(0, 2)), rtol=1e-6)
        np.testing.assert_allclose(variance[0], x.var(axis=(0, 2)), rtol=1e-5)


@pytest.mark.parametrize("posterior", ["per_channel", "joint"])
def test_algorithm_2_as_printed_does_not_follow_the_data(posterior):
    """Data at 50 and at 5000 leave the same behind, so that eq. 15 cannot centre them."""
    noise = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0)).double()
    tracked, outputs = {}, {}
    for update in ("moving_average", "moving_average_printed"):
        for place in (50.0, 5000.0):
            layer = UCBNorm(2, 1, update=update, posterior=posterior, momentum=0.2).double()
            for _ in range(100):
                layer(place + noise)
            tracked[update, place] = torch.cat([layer.running_mean[0], layer.running_var[0]])
            outputs[update, place] = layer.eval()(place + noise).mean().item()
    for place in (50.0, 5000.0):
        printed = tracked["moving_average_printed", place]
        torch.testing.assert_close(printed, printed.new_tensor([0, 0, 1, 1]), rtol=0, atol=1e-3)
        assert outputs["moving_average_printed", place] == pytest.approx(place, rel=1e-2)
        assert outputs["moving_average", place] == pytest.approx(0, abs=1e-3)


def test_algorithm_2_as_printed_turns_two_components_round():
    """Each sees the batch from its own place: the one at -20 is tracked above zero, that at 10 below."""
    noise = torch.randn(4000, generator=torch.Generator().manual_seed(0)).double()
    x = torch.tensor([-20.0, 10.0]).double()[torch.arange(4000) % 2] + 2 * noise
    layer = UCBNorm(1, 2, update="moving_average_printed", momentum=1.0).double()
    layer(x[:, None])
    mean, variance = layer.running_mean[:, 0], layer.running_var[:, 0]
    torch.testing.assert_close(mean, mean.new_tensor([15 / 2, -15 / 2]), rtol=0.05, atol=0)
    torch.testing.assert_close(variance, mean.new_full((2,), (15 / 2) ** 2 + 1), rtol=0.1, atol=0)


def test_table_1_counts_of_parameters():
    """SCB 2Kd, UCB 2Kd + K as in the text; SCB-base is larger, not compact; MN stores K(2d + 1), not O(d)."""
    K, d = 3, 64

    def numbers(layer):
        return sum(parameter.numel() for parameter in layer.parameters())

    assert numbers(SCBNorm(d, K)) == 2 * K * d
    assert numbers(UCBNorm(d, K)) == 2 * K * d + K
    assert numbers(SCBNormBase(d, K)) == 2 * d * (K + 1) > 2 * K * d
    buffers = dict(MixtureNorm(d, K).named_buffers())
    stored = [buffers[name] for name in ("running_prior", "running_mean", "running_var")]
    assert sum(buffer.numel() for buffer in stored) == K * (2 * d + 1)


# Table V at 100 epochs, learning rates 0.001 and 0.005: BN, then SCB-base, SCB, UCB.
TABLE_V = {
    "CIFAR-10": ((86.90, 85.65), (87.11, 86.41), (87.57, 87.07), (87.97, 87.49)),
    "CIFAR-100": ((59.82, 56.29), (61.01, 57.60), (61.02, 57.68), (61.10, 60.29)),
    "Tiny ImageNet": ((37.17, 34.11), (40.08, 36.71), (40.29, 38.31), (39.71, 37.03)),
}


@pytest.mark.parametrize(
    ("dataset", "claimed", "actual"),
    [("CIFAR-10", 2, 0.99), ("CIFAR-100", 3, 1.73), ("Tiny ImageNet", 4, 3.05)],
)
def test_average_improvement_is_smaller_than_stated(dataset, claimed, actual):
    baseline, *layers = (np.array(row) for row in TABLE_V[dataset])
    gain = np.mean([row - baseline for row in layers])
    assert gain == pytest.approx(actual, abs=0.01)
    assert gain < claimed


def test_bold_in_table_5_is_not_the_maximum():
    """SCB-Norm-1 is set in bold for CIFAR-10 at 100 epochs; UCB-Norm-1 is larger."""
    _, _, scb, ucb = TABLE_V["CIFAR-10"]
    assert ucb[0] > scb[0]


def published(experiment, *keys):
    """Cells by what the keys name."""
    return {tuple(getattr(cell, key) for key in keys): cell.value for cell in read_paper(experiment)}


def test_cells_of_table_5_stand_still_and_fall():
    """As the best weights so far do, not those of the epoch that a column names."""
    cells = published("table5", "dataset", "row", "moment")
    assert {cells["Tiny ImageNet", "BN-1", moment] for moment in ("25", "50", "75", "100")} == {37.17}
    assert cells["CIFAR-10", "BN-1", "75"] < cells["CIFAR-10", "BN-1", "50"]


def test_recall_and_f1_of_table_8_are_none_of_predictions():
    """Averaged over equal classes, recall is the accuracy; and F1 is at most the mean of its parts."""
    cells = published("table8", "row", "moment", "metric")
    places = {(row, moment) for row, moment, _ in cells}
    assert len(places) == 6
    for place in places:
        accuracy, precision, recall, f1 = (
            cells[*place, metric] for metric in ("accuracy", "precision", "recall", "f1")
        )
        assert recall > accuracy + 15
        assert f1 > (precision + recall) / 2


def released_ucb(x, mean, variance, prior, eps=1e-3):
    """What the authors' package computes in training for (n, C): no centring, means of normalized weights."""
    density = np.exp(-((x[:, None] - mean) ** 2) / (2 * (variance + eps))) * prior[:, None]
    tau = density / (density.sum(axis=1, keepdims=True) + eps)
    hat = tau / (tau.sum(axis=0) + eps)
    expectation = (hat * x[:, None]).mean(axis=0)
    deviation = np.sqrt((hat * (hat * x[:, None]) ** 2).mean(axis=0) + eps)
    return (tau / np.sqrt(prior[:, None] + eps) * (x[:, None] - expectation) / deviation).sum(axis=1)


def test_the_released_layer_multiplies_instead_of_normalizing():
    """Its 'variance' is practically zero: a gain of sqrt(K / eps) near the means, and zero far from them."""
    x = np.random.default_rng(0).normal(size=(4096, 2))
    mean, variance, prior = (
        np.linspace(-1, 1, 3)[:, None] * np.ones((3, 2)),
        np.full((3, 2), 0.69),
        np.full(3, 1 / 3),
    )
    gain = np.median(released_ucb(x, mean, variance, prior) / x)
    assert gain == pytest.approx((3 / 1e-3) ** 0.5, rel=0.05)
    assert np.abs(released_ucb(x + 50, mean, variance, prior)).max() == 0
    ours = UCBNorm(2, 3)(torch.from_numpy(x + 50).float())
    assert ours.std().item() == pytest.approx(3**0.5, rel=0.5)
