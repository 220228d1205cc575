"""What holds for every network: how it is called, where its norm layers stand, layouts and precisions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from cbnorm.models import MODELS, DenseNet, Discriminator, Generator, ShallowCNN
from cbnorm.norms import create_norm


class Network(NamedTuple):
    """A small form of a network."""

    make: Callable[..., nn.Module]
    size: int
    features: int
    last_place: int
    paper: list[int]


def network(name: str, size: int, features: int, last_place: int, paper: list[int], **options) -> Network:
    def make(norm, placement, **more) -> nn.Module:
        return MODELS[name](5, norm, placement, **options | more, image_size=size)

    return Network(make, size, features, last_place, paper)


NETWORKS = {
    "densenet": network("densenet", 16, 27, 9, [0], depth=10),
    "densenet-plain": network("densenet", 16, 60, 6, [0], depth=7, variant="plain"),
    "vit": network("vit", 32, 1024, 17, [0]),
    "oxford_cnn": network("oxford_cnn", 128, 256, 3, [3]),
    "wrn": network("wrn", 16, 128, 25, [0]),
}
NORMS = {
    "bn": {},
    "none": {},
    "mn": {"num_components": 2},
    "scb": {"num_clusters": 2},
    "scb_base": {"num_clusters": 2},
    "ucb": {"num_components": 2},
    "cluster_bn": {"num_clusters": 2},
}


class Recorder(nn.Module):
    """Notes with how many channels and which ids it is called."""

    takes_clusters = True

    def __init__(self, features: int, calls: list["Recorder"]) -> None:
        super().__init__()
        self.features, self.calls = features, calls

    def forward(self, x: Tensor, clusters: Tensor | None = None) -> Tensor:
        assert x.shape[1] == self.features
        self.calls.append(self)
        self.clusters = clusters
        return x


def images_of(network: Network, count: int = 2) -> Tensor:
    return torch.randn(count, 3, network.size, network.size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def net(request) -> Network:
    return request.param


def test_features_are_what_the_last_linear_layer_sees(net: Network) -> None:
    model = net.make(nn.BatchNorm2d, []).eval()
    features = model.features(images_of(net))
    assert features.shape == (2, net.features)
    torch.testing.assert_close(model(images_of(net)), model.linear(features))


def test_places_are_numbered_in_the_order_of_the_forward_pass_and_ids_reach_them_all(net: Network) -> None:
    made, calls, ids = [], [], torch.tensor([0, 1])
    model = net.make(
        lambda features: made.append(Recorder(features, calls)) or made[-1], range(net.last_place + 1)
    )
    model(images_of(net), ids)
    assert made[0].features == 3
    assert len(made) == net.last_place + 1
    assert [id(layer) for layer in calls] == [id(layer) for layer in made]
    assert all(layer.clusters is ids for layer in made)


def test_only_the_places_asked_for_are_replaced(net: Network) -> None:
    calls: list[Recorder] = []
    model = net.make(lambda features: Recorder(features, calls), [2])
    model(images_of(net))
    assert len(calls) == 1
    assert sum(isinstance(module, Recorder) for module in model.modules()) == 1
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)
    own = net.last_place - (net.paper == [3])  # the place on OxfordCNN's hidden layer is empty by default
    assert sum(isinstance(module, kinds) for module in model.modules()) == own - 1


def test_a_place_that_does_not_exist_is_refused(net: Network) -> None:
    with pytest.raises(
        ValueError, match=rf"\[{net.last_place + 1}\] names .* they are 0 to {net.last_place}"
    ):
        net.make(nn.BatchNorm2d, [0, net.last_place + 1])


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (DenseNet, {"variant": "BC"}, "variant must be one of bc, plain, not 'BC'"),
        (DenseNet, {"init": "xavier"}, "init must be one of he, glorot"),
        (DenseNet, {"bookkeeping": "x"}, "bookkeeping must be one of"),
        (ShallowCNN, {"head": "flaten"}, "head must be one of pool, flatten"),
        (ShallowCNN, {"head": "flatten", "image_size": 24}, "needs images of 32x32 or larger, not 24"),
    ],
)
def test_misspelt_options_are_refused(make: type[nn.Module], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(10, nn.BatchNorm2d, **options)


def test_a_misspelt_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="activation must be one of leaky_relu, relu"):
        Generator(nn.BatchNorm2d, activation="lrelu")


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_reach_every_parameter_with_every_norm(net: Network, norm: str) -> None:
    torch.manual_seed(0)
    model = net.make(lambda features: create_norm(norm, features, **NORMS[norm]), net.paper)
    logits = model(images_of(net, 4), torch.tensor([0, 1, 1, 0]))
    assert logits.shape == (4, 5)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_clusters_change_logits(net: Network) -> None:
    torch.manual_seed(0)
    model = net.make(
        lambda features: create_norm("scb", features, num_clusters=2, convention="released"), net.paper
    ).eval()
    image = images_of(net, 1).expand(3, -1, -1, -1)
    logits = model(image, torch.tensor([0, 1, 1]))
    assert not torch.allclose(logits[0], logits[1], atol=1e-6)
    torch.testing.assert_close(logits[1], logits[2])


def test_a_norm_keeps_its_own_start(net: Network) -> None:
    def sevens(features: int) -> nn.Module:
        layer = nn.Sequential(nn.Conv2d(features, features, 1), nn.Linear(features, features))
        return layer.requires_grad_(False).apply(
            lambda module: [parameter.fill_(7) for parameter in module.parameters()]
        )

    model = net.make(sevens, range(net.last_place + 1))
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    assert len(frozen) == 4 * (net.last_place + 1)
    assert all((parameter == 7).all() for parameter in frozen)


@pytest.mark.parametrize("norm", ["scb", "scb_base", "ucb", "mn"])
def test_networks_with_one_seed_share_their_start_whatever_the_norm(net: Network, norm: str) -> None:
    def start(name: str) -> dict[str, Tensor]:
        torch.manual_seed(3)
        return net.make(lambda features: create_norm(name, features, **NORMS[name]), net.paper).state_dict()

    plain, other = start("none"), start(norm)
    assert all(torch.equal(value, other[key]) for key, value in plain.items())


def test_channels_last_gives_the_same_logits(net: Network) -> None:
    torch.manual_seed(0)
    model = net.make(nn.BatchNorm2d, [0]).eval()
    expected = model(images_of(net))
    model = model.to(memory_format=torch.channels_last)
    found = model(images_of(net).contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_autocast_stays_near_float32(net: Network) -> None:
    torch.manual_seed(0)
    model = net.make(lambda features: create_norm("scb", features, num_clusters=2), net.paper).eval()
    ids = torch.tensor([0, 1])
    expected = model(images_of(net), ids)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(images_of(net), ids)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_dcgan_with_channels_last_and_bfloat16(part: str) -> None:
    torch.manual_seed(0)
    model = (Generator(nn.BatchNorm2d) if part == "generator" else Discriminator()).eval()
    x = torch.randn(2, 128) if part == "generator" else torch.randn(2, 3, 32, 32)
    expected = model(x)
    model = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert (model(x).float() - expected).norm() < 0.05 * expected.norm()
