"""A place names the same module in every network, whatever stands there."""

import pytest
from torch import nn

from cbnorm.models import DenseNet, OxfordCNN, ShallowCNN
from cbnorm.models.places import layer_at


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda _: nn.Identity(), nn.InstanceNorm2d])
def test_a_place_is_found_whatever_stands_there(norm: type[nn.Module]) -> None:
    network = ShallowCNN(10, norm, placement=[1, 3])
    assert [layer_at(network, place) for place in (1, 2, 3, 4)] == list(network.norms)


def test_a_layer_on_the_image_moves_no_other_place() -> None:
    with_image, without = (
        DenseNet(10, nn.BatchNorm2d, placement=placement, depth=10) for placement in ([0, 2], [2])
    )
    names = [
        [name for name, module in network.named_modules() if module is layer_at(network, 2)]
        for network in (with_image, without)
    ]
    assert names[0] == names[1] != []


def test_an_extra_place_is_there_only_when_asked_for() -> None:
    assert isinstance(layer_at(OxfordCNN(3, nn.InstanceNorm1d, placement=[3]), 3), nn.InstanceNorm1d)
    with pytest.raises(ValueError, match="no place 9"):
        layer_at(ShallowCNN(10, nn.BatchNorm2d), 9)


def test_the_shallow_network_refuses_places_that_it_hasn_t() -> None:
    with pytest.raises(ValueError, match="names no norm layer"):
        ShallowCNN(10, nn.BatchNorm2d, placement=[5])
