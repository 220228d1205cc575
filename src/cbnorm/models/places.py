"""Where norm layers stand in a network, by number."""

from collections.abc import Callable, Collection

from torch import nn

#: Makes a normalization layer for a number of channels.
NormFactory = Callable[[int], nn.Module]
_PLACE = "norm_place"


class Places:
    """Hands out the norm layers of a network in the order of its forward pass.

    Place 0 is the image: an extra layer, absent unless asked for. Places 1, 2, … are the norm layers that the
    network has, in the order in which data passes them, and then extra places where the paper puts a layer.

    Args:
        norm: Makes the layer at the places in `placement`.
        placement: Which places get it.
        default: Makes the layer at all others.

    Example:
        >>> places = Places(nn.InstanceNorm2d, [0, 2], nn.BatchNorm2d)
        >>> [type(layer).__name__ for layer in (places.image(), places.next(8), places.next(8))]
        ['InstanceNorm2d', 'BatchNorm2d', 'InstanceNorm2d']
        >>> places.check()
        >>> Places(nn.InstanceNorm2d, [3], nn.BatchNorm2d).check()
        Traceback (most recent call last):
        ValueError: placement [3] names no norm layer of this network: it has none
    """

    def __init__(self, norm: NormFactory, placement: Collection[int], default: NormFactory) -> None:
        self.norm, self.default = norm, default
        self.placement = set(placement)
        self.names: list[int] = []

    def image(self, channels: int = 3) -> nn.Module:
        """The layer on the image: the norm, or nothing."""
        return self._layer(0, channels, nn.Identity)

    def next(self, features: int, default: Callable[..., nn.Module] | None = None) -> nn.Module:
        """The next norm layer; `default` in place of the network's usual one."""
        place = max(self.names, default=0) + 1
        return self._layer(place, features, self.default if default is None else default)

    def _layer(self, place: int, features: int, default: Callable[..., nn.Module]) -> nn.Module:
        self.names.append(place)
        layer = self.norm(features) if place in self.placement else default(features)
        # Not by its type: what stands at a place may be nothing, or a layer of another package.
        vars(layer)[_PLACE] = place
        return layer

    def check(self) -> None:
        """See to it that every place that was asked for exists.

        Raises:
            ValueError: One doesn't.
        """
        if unknown := sorted(self.placement.difference(self.names)):
            there = f"they are {min(self.names)} to {max(self.names)}" if self.names else "it has none"
            raise ValueError(f"placement {unknown} names no norm layer of this network: {there}")


def layers_by_place(network: nn.Module) -> dict[int, nn.Module]:
    """The modules at the places of a network, whatever they are; none of a network without places."""
    return {place: module for module in network.modules() if (place := vars(module).get(_PLACE)) is not None}


def layer_at(network: nn.Module, place: int) -> nn.Module:
    """The module at a place of a network, whatever it is.

    Raises:
        ValueError: The network has no such place.
    """
    if (found := layers_by_place(network).get(place)) is None:
        raise ValueError(f"this network has no place {place}")
    return found
