"""Features that images are compared by, each under its own name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbnorm._torchvision  # noqa: F401  (before torchvision)

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.data import weights
from cbnorm.errors import CbnormError

_CHUNK = 250
#: Height and width at which MobileNetV2 sees the images: three times CIFAR's. At 224, where it was trained,
#: it would cost five times as much and see nothing more of 32x32 pixels.
MOBILENET_SIDE = 96
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Extractor:
    """What turns images into features.

    Attributes:
        name: Part of the name of every number that follows from the features.
        dimension: D.
        what: In words, for a record.
        chunk: Maps uint8 images (N, 3, H, W) on the device to float32 features (N, D).
        device: Where it computes.
    """

    name: str
    dimension: int
    what: str
    chunk: Callable[[Tensor], Tensor]
    device: torch.device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features of images, a few hundred at a time.

        Args:
            images: uint8 (N, 3, H, W), H and W multiples of 8.

        Returns:
            float32 (N, D), on the extractor's device.

        Raises:
            TypeError: Other images.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise TypeError(
                f"images must be uint8 (N, 3, H, W), not {images.dtype} of shape {tuple(images.shape)}"
            )
        return torch.cat([self.chunk(part.to(self.device)).float() for part in images.split(_CHUNK)])


def pixels(device: torch.device | str = "cpu") -> Extractor:
    """Means of an 8x8 grid of cells in three colours: 192 numbers from 0 to 1.

    They need no network and no download, and tell colours and coarse shapes, nothing of what is seen.
    """

    def chunk(images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images.float() / 255, 8).flatten(1)

    what = "means of 8x8 cells in three colours"
    return Extractor("pixels", 3 * 8 * 8, what, chunk, torch.device(device))


def mobilenet_v2(device: torch.device | str = "cpu", path: Path | None = None) -> Extractor:
    """What MobileNetV2 (Sandler et al., 2018), trained on ImageNet, gives its classifier: 1280 numbers.

    Images are enlarged to 96x96 bilinearly and standardised as in the training of the network; the last
    features are averaged over all positions.

    Args:
        device: Where to compute.
        path: The weights; None: those of the data folder, fetched when they are missing.

    Raises:
        CbnormError: The weights can't be had, or the file holds others.
    """
    from torchvision import models

    path = path or weights.ensure(weights.MOBILENET)
    network = models.mobilenet_v2()
    _load(network, path)
    network = network.features.eval().requires_grad_(requires_grad=False)
    network = network.to(device, memory_format=torch.channels_last)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in _IMAGENET)

    def chunk(images: Tensor) -> Tensor:
        large = F.interpolate(
            images.float() / 255, size=MOBILENET_SIDE, mode="bilinear", align_corners=False, antialias=True
        )
        large = ((large - mean) / std).contiguous(memory_format=torch.channels_last)
        features: Tensor = network(large)
        return features.mean((2, 3))

    side = f"{MOBILENET_SIDE}x{MOBILENET_SIDE}"
    what = f"MobileNetV2 ({path.name}) before its classifier, images enlarged to {side}"
    return Extractor("mobilenet_v2", 1280, what, chunk, torch.device(device))


#: Makes an extractor for a device.
EXTRACTORS: dict[str, Callable[[torch.device | str], Extractor]] = {
    "pixels": pixels,
    "mobilenet_v2": mobilenet_v2,
}


def _load(network: nn.Module, path: Path) -> None:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except Exception as error:  # the archive's and the unpickler's errors have no common base
        raise CbnormError(f"{path} does not hold the weights that are wanted: delete it") from error
