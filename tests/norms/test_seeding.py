"""The mixture that UCB-Norm may take from its first batch of training."""

import copy
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from torch import distributed

from cbnorm.norms import MixtureNorm, UCBNorm
from cbnorm.norms.learned import softplus_inverse
from cbnorm.norms.seeding import fit_scalars

C = 3
POSTERIORS = pytest.mark.parametrize("posterior", ["per_channel", "joint"])
UPDATES = pytest.mark.parametrize("update", ["weight", "moving_average", "moving_average_printed"])


def clouds(seed, n=600):
    """Vectors (n, C) around -6, 0 and 6."""
    generator = torch.Generator().manual_seed(seed)
    return 6.0 * torch.randint(-1, 2, (n, 1), generator=generator) + torch.randn(n, C, generator=generator)


def make(posterior, update="weight", **options):
    # momentum 0: what is held after a batch is what it was seeded with.
    options = {"init": "first_batch", "momentum": 0.0} | options
    return UCBNorm(C, 3, posterior=posterior, update=update, **options)


def held(layer):
    log_prior, mean, variance = layer.mixture(torch.float32)
    return log_prior.detach().exp(), mean.detach(), variance.detach()


@UPDATES
def test_the_joint_form_starts_from_the_mixture_of_mixture_normalization(update):
    layer, mn = make("joint", update, seed=4), MixtureNorm(C, 3, seed=4, momentum=0.0)
    layer(clouds(0))
    mn(clouds(0))
    for got, expected in zip(
        held(layer), (mn.mixture_weights, mn.mixture_means, mn.mixture_variances), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(layer.running_mean, mn.mixture_means)
    assert torch.equal(layer.running_var, mn.mixture_variances)


@UPDATES
def test_the_form_per_channel_finds_the_components_of_every_channel(update):
    layer, scale = make("per_channel", update), torch.tensor([1.0, 10.0, 0.1])
    layer(clouds(0, 3000) * scale + scale)
    prior, mean, variance = held(layer)
    torch.testing.assert_close(prior, torch.full((3,), 1 / 3), rtol=0, atol=0.04)
    torch.testing.assert_close(
        mean / scale - 1, torch.tensor([-6.0, 0.0, 6.0])[:, None].expand(3, C), rtol=0, atol=0.2
    )
    torch.testing.assert_close(variance / scale**2, torch.ones(3, C), rtol=0.2, atol=0)
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, variance)


def test_em_per_channel_raises_the_likelihood():
    data = clouds(0)[:, :1].double()

    def likelihood(steps):
        prior, mean, variance = fit_scalars(data, 3, steps=steps)
        density = torch.distributions.Normal(mean[:, 0], variance[:, 0].sqrt()).log_prob(data)
        return (density + prior.log()).logsumexp(dim=1).mean().item()

    found = [likelihood(steps) for steps in range(5)]
    assert found == sorted(found)
    assert found[-1] > found[0] + 0.05


def test_components_part_even_where_most_values_are_equal():
    """After a ReLU two of three quantiles can be zero; two components that start alike stay alike."""
    data = (torch.randn(2000, 4, generator=torch.Generator().manual_seed(0)) - 0.5).relu()
    prior, mean, _ = fit_scalars(data, 3)
    assert (data == 0).float().mean() > 2 / 3
    assert (mean.diff(dim=0) > 0.1).all()
    assert prior[0].item() == pytest.approx((data == 0).float().mean().item(), abs=0.05)


@POSTERIORS
@UPDATES
def test_only_the_first_batch_of_training_seeds(posterior, update):
    layer, spread = make(posterior, update), make(posterior, update, init="spread")
    for batch in (layer.eval()(clouds(1)), layer.train()(clouds(1)[:0])):
        assert torch.isfinite(batch).all()
    assert all(map(torch.equal, held(layer), held(spread)))
    first, twin = layer(clouds(0)), make(posterior, update)
    after = copy.deepcopy(held(layer))
    assert not torch.equal(after[1], spread.mixture(torch.float32)[1])
    layer(clouds(1))
    assert all(torch.allclose(*pair) for pair in zip(after[1:], held(layer)[1:], strict=True))
    assert torch.equal(twin(clouds(0)), first), "the same seed and batch give the same"


def test_what_is_normalized_first_is_normalized_by_the_seeded_mixture():
    """Every cloud belongs to its own component from the first batch on, so the outputs' mean square is K."""
    for posterior in ("per_channel", "joint"):
        assert make(posterior)(clouds(0)).square().mean().item() == pytest.approx(3, rel=0.1)


@POSTERIORS
def test_a_resumed_layer_is_not_seeded_again(posterior):
    layer, resumed = make(posterior), make(posterior, seed=99)
    layer(clouds(0))
    resumed.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert torch.equal(resumed(clouds(1)), layer(clouds(1)))
    fresh = make(posterior).state_dict()
    resumed.load_state_dict(fresh)
    resumed(clouds(0))
    assert bool(resumed.seeded), "a state from before the first batch is seeded by the next"
    assert not torch.equal(resumed.mean, fresh["mean"])


def test_layers_that_are_not_seeded_keep_their_state():
    assert "seeded" not in UCBNorm(C, 3).state_dict()
    assert make("joint").state_dict().keys() - UCBNorm(C, 3).state_dict().keys() == {"seeded"}


@POSTERIORS
def test_seeding_from_values_that_are_not_finite_is_refused(posterior):
    with pytest.raises(ValueError, match="UCBNorm cannot seed its mixture: the first batch is not finite"):
        make(posterior)(clouds(0) / 0.0)


@POSTERIORS
def test_training_goes_on_from_the_seeded_values(posterior):
    layer = make(posterior)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    for seed in range(3):
        optimizer.zero_grad()
        layer(clouds(seed)).pow(3).mean().backward()
        optimizer.step()
    assert not torch.equal(layer.mean, layer.running_mean)
    torch.testing.assert_close(layer.mean, layer.running_mean, rtol=0, atol=0.01)


def test_softplus_is_inverted():
    value = torch.tensor([1e-3, 0.5, 1.0, 30.0, 1e6])
    torch.testing.assert_close(
        torch.nn.functional.softplus(softplus_inverse(value)), value, rtol=1e-5, atol=0
    )


def test_processes_take_the_same_mixture(tmp_path):
    """Each sees another batch; parameters that differed between processes would stay different."""
    meeting = {"init_method": f"file://{tmp_path}/store", "world_size": 2, "timeout": timedelta(seconds=120)}
    code = (
        "import torch, torch.distributed as dist\n"
        "from datetime import timedelta\n"
        "from cbnorm.norms import UCBNorm\n"
        f"dist.init_process_group('gloo', rank=1, **{meeting!r})\n"
        "layer = UCBNorm(2, 3, init='first_batch')\n"
        "layer(torch.randn(64, 2) + 10)\n"
        f"torch.save(layer.state_dict(), '{tmp_path}/other')\n"
        "dist.destroy_process_group()\n"
    ).replace("datetime.timedelta", "timedelta")
    other = subprocess.Popen([sys.executable, "-c", code])
    distributed.init_process_group("gloo", rank=0, **meeting)
    try:
        layer, alone = UCBNorm(2, 3, init="first_batch"), UCBNorm(2, 3, init="first_batch")
        x = torch.randn(64, 2)
        layer(x)
        assert other.wait(timeout=120) == 0
    finally:
        distributed.destroy_process_group()
    alone(x)
    theirs = torch.load(tmp_path / "other")
    for name in ("mean", "raw_variance", "prior_logits"):
        assert torch.equal(theirs[name], layer.state_dict()[name])
        assert torch.equal(theirs[name], alone.state_dict()[name])
