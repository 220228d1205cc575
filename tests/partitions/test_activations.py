"""Clusters of what a trained network sees: mixtures of activation vectors, and features of whole images."""

import io

import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor, nn

from cbnorm.mixtures import Mixture, log_responsibilities
from cbnorm.models import ShallowCNN
from cbnorm.norms import create_norm
from cbnorm.partitions import Activations, Cache, Partition, fit_partition
from cbnorm.partitions.activations import norm_layers
from cbnorm.partitions.partition import most_responsible


class Net(nn.Module):
    """Two convolutions with normalization; what enters the second layer is known."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), create_norm("bn", 5)])
        self.second = nn.Conv2d(4, 5, 2, stride=2)
        self.passed = 0

    def forward(self, images: Tensor) -> Tensor:
        x = self.norms[1](self.second(self.norms[0](self.first(images)).relu()))
        self.passed += 1
        return x


@pytest.fixture
def network() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def activations(network: Net, layer: int = 2) -> Activations:
    return Activations(network, layer, (3, 8, 8), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "0123456789ab")


def test_maps_are_what_enters_the_layer(network, grouped) -> None:
    images = grouped[0][:7]
    inputs = (images / 255 - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.25, 0.3])[
        :, None, None
    ]
    with torch.no_grad():
        first = network.first(inputs)
        second = network.second(network.norms[0](first).relu())
    assert activations(network, 1).maps(images).shape == (7, 4, 64)
    torch.testing.assert_close(activations(network, 1).maps(images), first.flatten(2))
    torch.testing.assert_close(activations(network).maps(images), second.flatten(2))
    torch.testing.assert_close(activations(network)(images), second.mean((2, 3)).double())
    assert activations(network).dimensions == 5
    assert network.passed == 0


def test_layers_are_numbered_by_place_where_a_network_has_places() -> None:
    """As for ``model.placement``, whatever stands at other places, and in whatever order they were made."""
    for default in ("none", "bn"):
        network = ShallowCNN(10, lambda width, kind=default: create_norm(kind, width), [1, 2]).eval()
        third = Activations(network, 3, (3, 32, 32), (0.5,) * 3, (0.2,) * 3, "0123456789ab")
        assert third._place is network.norms[2]
        assert list(norm_layers(network)) == ([3, 4] if default == "none" else [1, 2, 3, 4])
    with pytest.raises(ValueError, match="layer 0 is none of"):
        activations(Net().eval(), 0)


@pytest.mark.parametrize(
    ("layer", "over_tokens"), [(nn.LayerNorm(6), False), (create_norm("bn", 6), True)], ids=["ln", "bn"]
)
def test_tokens_are_positions(layer: nn.Module, over_tokens: bool) -> None:
    """A network may hand a layer its tokens as (N, T, C), or as channels of a sequence, (N, C, T)."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.norm = nn.Conv2d(3, 6, (4, 2), stride=(4, 2)), layer

        def forward(self, images: Tensor) -> Tensor:
            sequence = self.patches(images).flatten(2)
            return self.norm(sequence if over_tokens else sequence.transpose(1, 2))

    seen = activations(Tokens().eval(), 1)
    assert seen.dimensions == 6
    assert seen.maps(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape == (2, 6, 8)


def test_layers_of_other_packages_count(network) -> None:
    layer = nn.Identity()
    vars(layer)["norm_name"] = "theirs"
    network.norms[0] = layer
    assert activations(network, 1).dimensions == 4


def test_a_run_trained_again_is_fitted_again(network, grouped, tmp_path) -> None:
    """Its id is that of its config: another machine, or again=true, leaves other weights under it."""
    cache, found = Cache(tmp_path), []
    for bias in (0.0, 5.0, 0.0):
        network.first.bias.data.fill_(bias)
        fit = fit_partition(
            "mn_components", grouped[0], clusters=2, seed=0, network=activations(network, 1), cache=cache
        )
        found.append(fit.mixture.means)
    assert not torch.allclose(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_the_network_is_left_as_it_was(network, grouped) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    activations(network).maps(grouped[0])
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    network(torch.zeros(1, 3, 8, 8))
    assert network.passed == 1


@pytest.mark.parametrize("layer", [0, 3])
def test_layers_that_are_not_there_are_refused(network, layer: int) -> None:
    with pytest.raises(ValueError, match="none of the network's 2 normalization layers"):
        activations(network, layer)


def test_images_of_another_shape_are_refused(network) -> None:
    with pytest.raises(ValueError, match="fitted on images of shape"):
        activations(network).maps(torch.zeros(1, 3, 6, 6, dtype=torch.uint8))


def test_an_image_belongs_to_the_component_with_the_largest_mean_responsibility() -> None:
    generator = torch.Generator().manual_seed(0)
    mixture = Mixture(
        torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64),
        torch.randn(3, 4, generator=generator, dtype=torch.float64),
        torch.rand(3, 4, generator=generator, dtype=torch.float64) + 0.2,
    )
    maps = torch.randn(50, 4, 9, generator=generator)
    expected = [int(log_responsibilities(image.T.double(), mixture).exp().mean(0).argmax()) for image in maps]
    assert most_responsible(maps, mixture).tolist() == expected
    votes = [int(log_responsibilities(image.T.double(), mixture).argmax(1).mode().values) for image in maps]
    assert votes != expected


def test_components_of_activations_recover_groups(network, grouped) -> None:
    """Images whose positions all show one of three colours."""
    colours = torch.tensor([[200, 20, 20], [20, 200, 20], [20, 20, 200]])
    noise = torch.randn(300, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 8
    groups = grouped[1]
    images = (colours[groups][:, :, None, None] + noise).clamp(0, 255).to(torch.uint8)
    source = activations(network)
    partition = fit_partition("mn_components", images, clusters=3, seed=0, network=source)
    ids = partition.predict(images, split="train")
    assert adjusted_rand_score(groups, ids) > 0.98
    assert partition.summary() | {"run": "0123456789ab", "layer": 2} == partition.summary()
    assert partition.summary()["feature_dimensions"] == 5
    pieces = torch.cat([partition.predict(images[i : i + 7], split="train") for i in range(0, 300, 7)])
    assert torch.equal(pieces, ids)
    for method in ("kmeans", "gmm"):
        pooled = fit_partition(
            method, images, clusters=3, seed=0, features="activations", network=source
        ).predict(images, split="train")
        assert adjusted_rand_score(groups, pooled) > 0.98


def test_the_fit_takes_as_many_vectors_of_every_image(network, grouped, monkeypatch) -> None:
    taken = []
    from cbnorm.partitions import fit

    plain = fit.fit_mixture
    monkeypatch.setattr(
        fit, "fit_mixture", lambda points, *a, **k: taken.append(points) or plain(points, *a, **k)
    )
    monkeypatch.setattr(fit, "VECTORS", 1000)
    images = grouped[0][:100]
    fit_partition("mn_components", images, clusters=2, seed=0, network=activations(network))
    (points,) = taken
    assert points.shape == (1000, 5)
    maps = activations(network).maps(images)
    for image in (0, 99):
        own = {tuple(vector) for vector in maps[image].T.tolist()}
        drawn = [tuple(vector) for vector in points[10 * image : 10 * image + 10].tolist()]
        assert set(drawn) <= own
        assert len(set(drawn)) == 10


def test_a_state_comes_back_with_its_network_only(network, grouped) -> None:
    source = activations(network)
    partition = fit_partition("mn_components", grouped[0], clusters=2, seed=0, network=source)
    buffer = io.BytesIO()
    torch.save(partition.state(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    loaded = Partition.from_state(state, source)
    assert torch.equal(loaded.predict(grouped[0], split="test"), partition.predict(grouped[0], split="test"))
    for wrong in (None, activations(network, 1)):
        with pytest.raises(ValueError, match="clusters layer 2 of run 0123456789ab"):
            Partition.from_state(state, wrong)


def test_activations_without_a_network_are_refused(grouped) -> None:
    for method, features in (("mn_components", None), ("gmm", "activations")):
        with pytest.raises(ValueError, match="trained network"):
            fit_partition(method, grouped[0], clusters=2, seed=0, features=features)
    with pytest.raises(ValueError, match="not of features 'raw'"):
        fit_partition("mn_components", grouped[0], clusters=2, seed=0, features="raw")
