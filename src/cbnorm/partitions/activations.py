"""What enters a normalization layer of a trained network, as something to cluster images by."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cbnorm.models.places import layers_by_place
from cbnorm.norms.base import is_norm
from cbnorm.partitions.cache import fingerprint


class _ReachedError(Exception):
    """Ends a forward pass at the layer that is looked at: what follows is of no use."""


def norm_layers(network: nn.Module) -> dict[int, nn.Module]:
    """The normalization layers of a network by number: its places, as in ``model.placement``.

    Those of a network without places, of another package, are counted from 1 in order of registration.
    """
    found = layers_by_place(network) or dict(enumerate(filter(is_norm, network.modules()), 1))
    return {number: layer for number, layer in found.items() if is_norm(layer)}


@dataclass(frozen=True)
class Activations:
    """The input of a normalization layer of a network in evaluation mode, in float32.

    Called, it gives the mean of each channel over positions, as features of whole images do.

    Attributes:
        network: ``network(images)`` of normalized images, trained, in evaluation mode.
        layer: Which of its normalization layers, see :func:`norm_layers`.
        shape: Shape of an image, (C, H, W).
        mean: Of every channel of the images it was trained on, in [0, 1].
        std: Likewise.
        run: Id of the run that trained it.
    """

    network: nn.Module
    layer: int
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    run: str
    name: ClassVar[str] = "activations"
    _place: nn.Module = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = norm_layers(self.network)
        layer = found.get(self.layer)
        if layer is None:
            raise ValueError(f"layer {self.layer} is none of the network's {len(found)} normalization layers")
        object.__setattr__(self, "_place", layer)

    @property
    def dimensions(self) -> int:
        """Number of channels of the layer."""
        blank = torch.zeros(1, *self.shape, dtype=torch.uint8)
        return self.maps(blank).shape[1]

    @torch.no_grad()
    def maps(self, images: Tensor) -> Tensor:
        """Activation vectors of a few uint8 images (n, C, H, W): (n, channels, positions), float32."""
        if images.ndim != 4 or tuple(images.shape[1:]) != self.shape:
            raise ValueError(
                f"this partition was fitted on images of shape {self.shape}, not {tuple(images.shape[1:])}"
            )
        if not images.is_floating_point():
            images = images.float()
        mean, std = (torch.tensor(moment)[:, None, None] for moment in (self.mean, self.std))
        caught: list[Tensor] = []

        def catch(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            caught.append(inputs[0])
            raise _ReachedError

        device = next(self.network.parameters()).device
        handle = self._place.register_forward_pre_hook(catch)
        try:
            with torch.autocast(device.type, enabled=False):
                self.network(((images / 255 - mean) / std).to(device))
        except _ReachedError:
            pass
        finally:
            handle.remove()
        last = isinstance(self._place, nn.LayerNorm) or getattr(self._place, "channel_dim", 1) == -1
        return _by_channel(caught[0], last=last).cpu()

    def __call__(self, images: Tensor) -> Tensor:
        """Mean activations of a few images (n, C, H, W): (n, channels), float64."""
        return self.maps(images).double().mean(2)

    def state(self) -> dict[str, Any]:
        """Which activations these are; the network itself stays with its run."""
        return {"name": self.name, "run": self.run, "layer": self.layer}

    def computed_by(self) -> dict[str, Any]:
        """What else decides their bits: a run that was trained again has other weights under the same id."""
        weights = {name: fingerprint(value) for name, value in self.network.state_dict().items()}
        return {"weights": weights, "device": next(self.network.parameters()).device.type}


def _by_channel(inputs: Tensor, *, last: bool) -> Tensor:
    """(N, C), (N, C, ...) or, with channels last, (N, ..., C) as (N, channels, positions)."""
    if last:
        inputs = inputs.movedim(-1, 1)
    return inputs[:, :, None] if inputs.ndim == 2 else inputs.flatten(2)
