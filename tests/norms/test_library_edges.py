"""What users run into outside of our own networks: odd batches, odd places, other people's code."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cbnorm.norms import (
    BatchNorm,
    ClusterBatchNorm,
    ConditionalBatchNorm,
    MixtureNorm,
    ModeNorm,
    SCBNorm,
    SCBNormBase,
    UCBNorm,
    convert_norm,
    create_norm,
    native,
)

MOVING = ("moving_average", "moving_average_printed")


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("update", MOVING)
@pytest.mark.parametrize("posterior", ["per_channel", "joint"])
def test_a_compiled_step_has_the_gradients_of_the_mixture_before_it(
    update: str, posterior: str, x: Tensor
) -> None:
    layer = UCBNorm(3, 3, update=update, posterior=posterior, momentum=0.9, seed=0)
    layer(x)
    twin, found = copy.deepcopy(layer), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
        for own in (layer, compiled):
            leaf = x.flip(0).clone().requires_grad_()
            (own(leaf) * x).sum().backward()
            found.append(leaf.grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(twin.running_mean, layer.running_mean)


@pytest.mark.parametrize("posterior", ["per_channel", "joint"])
@pytest.mark.parametrize("update", ["weight", *MOVING])
def test_averages_follow_the_batch_whatever_normalizes_it(update: str, posterior: str, x: Tensor) -> None:
    layers = [
        UCBNorm(3, 3, update=update, posterior=posterior, train_stats=by, eval_stats="running", seed=0)
        for by in ("batch", "params")
    ]
    outputs = [layer(3 + 2 * x) for layer in layers]
    assert not torch.allclose(*outputs)
    for (name, one), (_, other) in zip(*(layer.named_buffers() for layer in layers), strict=True):
        torch.testing.assert_close(other, one, msg=name)
    assert not torch.allclose(layers[1].running_mean, UCBNorm(3, 3, posterior=posterior, seed=0).running_mean)


@pytest.mark.parametrize(
    "layer",
    [MixtureNorm(3, 3), MixtureNorm(3, 3, refit_every=1), *(UCBNorm(3, 3, update=u) for u in MOVING)],
)
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_one_value_that_is_not_finite_spoils_no_later_batch(
    layer: nn.Module, value: float, x: Tensor
) -> None:
    layer = copy.deepcopy(layer)
    layer(x)
    bad = x.clone()
    bad[0, 1, 0, 0] = value
    assert not layer(bad).isfinite().all()
    assert layer(x).isfinite().all()
    assert all(state.isfinite().all() for state in layer.buffers())


@pytest.mark.parametrize("layer", [MixtureNorm(3, 3, seed=0), UCBNorm(3, 3, init="first_batch")])
def test_borrowed_buffers_don_t_pass_for_seeded_ones(layer: nn.Module, x: Tensor) -> None:
    layer = copy.deepcopy(layer)
    untouched = copy.deepcopy(layer)
    borrowed = {key: value.clone() for key, value in layer.state_dict().items()}
    torch.func.functional_call(layer, borrowed, (x,))
    assert int(layer.seeded) == 0
    torch.testing.assert_close(layer(x), untouched(x))
    assert int(layer.seeded) == 1


@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (5, 3, 2, 4, 4), (5, 3, 7)])
def test_vmap_over_images(shape: tuple[int, ...]) -> None:
    layer, batch = SCBNorm(3, 2, seed=0), torch.randn(shape)
    each = torch.vmap(lambda image: layer(image[None])[0])(batch)
    torch.testing.assert_close(each, layer(batch))


def test_channels_last_stays_under_torch_func(x: Tensor) -> None:
    layer, last = UCBNorm(3, 2).eval(), x.contiguous(memory_format=torch.channels_last)
    orders = []

    def loss(batch: Tensor) -> Tensor:
        y = layer(batch)
        orders.append(y.is_contiguous(memory_format=torch.channels_last))
        return y.square().sum()

    torch.func.grad(loss)(last)
    assert orders == [True]


@pytest.mark.parametrize(
    "layer",
    [
        ModeNorm(3),
        SCBNorm(3, 2),
        SCBNormBase(3, 2),
        ConditionalBatchNorm(3, 2),
        UCBNorm(3, 2),
        MixtureNorm(3, 2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_images_without_positions_ruin_no_parameter(layer: nn.Module) -> None:
    layer = copy.deepcopy(layer)
    layer(torch.randn(2, 3, 0, 4, requires_grad=True)).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("channel_dim", [1, -1])
def test_batch_normalization_counts_a_recomputed_batch_once(reentrant: bool, channel_dim: int) -> None:
    x = torch.randn(5, 4, 4, requires_grad=True)
    layer, twin = BatchNorm(4, channel_dim=channel_dim), BatchNorm(4, channel_dim=channel_dim)
    weights = torch.randn(5, 4, 4)
    (checkpoint(layer, x, use_reentrant=reentrant) * weights).sum().backward()
    grad, x.grad = x.grad, None
    (twin(x) * weights).sum().backward()
    torch.testing.assert_close(grad, x.grad)
    torch.testing.assert_close(layer.state_dict(), twin.state_dict())
    assert layer(torch.randn(0, 4, 4)).shape == (0, 4, 4)
    torch.testing.assert_close(layer.state_dict(), twin.state_dict())


def test_kernels_need_no_home(monkeypatch: pytest.MonkeyPatch, x: Tensor) -> None:
    def nobody() -> None:
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "CBNORM_CACHE_DIR", "CBNORM_NATIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.home", nobody)
    assert native.library.__wrapped__() is None


class Activated(nn.BatchNorm2d):
    """Batch normalization and then some, as packages of image models have it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class Renamed(nn.BatchNorm2d):
    """Batch normalization under a name of its own."""


def test_only_what_is_batch_normalization_is_replaced() -> None:
    model = nn.Sequential(Renamed(8), Activated(8))
    with pytest.raises(ValueError, match="1 is a Activated, whose forward may do more"):
        convert_norm(model, "mode", where="all", num_components=2)
    assert isinstance(model[0], Renamed)
    assert list(convert_norm(model, "mode", num_components=2)) == ["0"]


def test_conversion_keeps_what_was_frozen_or_left_out() -> None:
    def converted(layer: nn.Module, name: str, **options: object) -> nn.Module:
        return convert_norm(nn.Sequential(layer), name, **options)["0"]

    assert not list(converted(nn.BatchNorm2d(8, affine=False), "bn").parameters())
    assert not list(converted(nn.BatchNorm2d(8, affine=False), "mn", num_components=2).parameters())
    assert converted(nn.BatchNorm2d(8, track_running_stats=False), "bn").running_mean is None
    frozen = nn.BatchNorm2d(8)
    frozen.weight.requires_grad_(False)
    new = converted(frozen, "mn", num_components=2)
    assert [new.weight.requires_grad, new.bias.requires_grad] == [False, True]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bn", {}),
        ("mn", {"num_components": 2}),
        ("ucb", {"num_components": 2}),
        ("mode", {"num_components": 2}),
        ("scb", {"num_clusters": 2}),
        ("cluster_bn", {"num_clusters": 2}),
        ("none", {}),
    ],
)
def test_conversion_keeps_the_place_of_the_channels(name: str, options: dict[str, int]) -> None:
    model = nn.Sequential(BatchNorm(4, channel_dim=-1, eps=0.25))
    new = convert_norm(model, name, **options)["0"]
    assert model(torch.randn(5, 7, 4)).shape == (5, 7, 4)
    assert name == "none" or (new.channel_dim, new.eps) == (-1, 0.25)


@pytest.mark.parametrize(
    ("layer", "name", "message"),
    [
        (nn.LazyBatchNorm2d(), "bn", "has seen no batch"),
        (BatchNorm(4, channel_dim=-1), "ln", "takes channels in dimension 1 only"),
    ],
)
def test_what_can_t_be_converted_is_refused(layer: nn.Module, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert_norm(nn.Sequential(layer), name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchNorm(0), "num_features must be an integer of at least 1"),
        (lambda: UCBNorm(3.0, 3), "num_features must be an integer of at least 1, not 3.0"),
        (lambda: UCBNorm("3", 3), "num_features must be an integer of at least 1, not '3'"),
        (lambda: UCBNorm(3, 3, eps="1e-5"), "eps must be positive and finite, not '1e-5'"),
        (lambda: UCBNorm(3, 3, eps=float("inf")), "eps must be positive and finite, not inf"),
        (lambda: MixtureNorm(3, 2, mixture=5), "mixture must be .weights, means, variances., not int"),
        (lambda: MixtureNorm(3, 2, mixture=(1, 2)), "mixture must be .weights, means, variances., not 2"),
        (lambda: BatchNorm(3, momentum=7), "momentum must lie in"),
        (lambda: BatchNorm(3, eps=0), "eps must be positive"),
        (lambda: UCBNorm(3, 2, momentum=None), "momentum must lie in"),
        (lambda: ClusterBatchNorm(3, 2, separate=True), "add affine=True"),
        (lambda: BatchNorm(3, momentum="0.1"), "momentum must lie in .0, 1., not '0.1'"),
        (lambda: MixtureNorm(3, 2, variance_floor=0), "variance_floor must be positive"),
        (lambda: MixtureNorm(3, 2, variance_floor=None), "variance_floor must be positive"),
        (lambda: MixtureNorm(3, 2, seed="a"), "seed must be an integer or None, not 'a'"),
        (lambda: UCBNorm(3, 2, posterior="joint", seed=1.5), "seed must be an integer or None, not 1.5"),
        (lambda: create_norm("in", 0), "num_features must be an integer of at least 1"),
        (lambda: create_norm("ln", 4, eps=-1), "eps must be positive"),
        (lambda: create_norm("gn", 10, num_groups=0), "num_groups must be an integer of at least 1"),
        (lambda: create_norm("BN", 3), "did you mean 'bn'"),
        (lambda: MixtureNorm(3, 2, em_steps=1.5), "em_steps must be an integer"),
        (lambda: MixtureNorm(3, 2, seed_steps=-1), "seed_steps must be an integer"),
        (lambda: MixtureNorm(1, 2, mixture=([1, 1], [[0.0], [float("nan")]], [[1], [1]])), "must be finite"),
    ],
)
def test_arguments_that_make_no_layer_are_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


def test_numbers_of_numpy_are_numbers() -> None:
    layer = UCBNorm(np.int64(3), np.int64(2), eps=np.float32(1e-3))
    assert (type(layer.num_features), type(layer.eps)) == (int, float)
    assert layer(torch.randn(4, 3)).shape == (4, 3)


def test_a_given_mixture_outlives_the_first_batch() -> None:
    layer = MixtureNorm(1, 3, refit_every=1)
    layer.set_mixture([1, 1, 1], [[-50.0], [0.0], [50.0]], torch.ones(3, 1))
    layer(torch.randn(8, 1, 4, 4))
    assert layer.mixture_means[[0, 2], 0].tolist() == [-50.0, 50.0]
    layer(torch.randn(8, 1, 4, 4))
    assert layer.mixture_means.abs().max() < 5
