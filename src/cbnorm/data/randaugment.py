"""RandAugment (Cubuk et al., 2020) of whole batches of 8-bit images: the strong views of AdaMatch.

Drawing and applying are separate, as in :mod:`cbnorm.data.augment`. What is done to an image is decided on
the CPU, so that nothing has to be asked of the device.
"""

import cbnorm._torchvision  # noqa: F401, I001  (before torchvision)

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from cbnorm.errors import CbnormError

#: What is behind the border of a moved image, and in a hole.
GREY = 128

#: At strength 1: share of a side, slope, distance of a factor from 1, values added, share of a side.
LARGEST = {"translate": 0.45, "shear": 0.3, "enhance": 0.9, "solarize_add": 110.0, "cutout": 0.5}


@dataclass(frozen=True)
class RandAugment:
    """How strong views are made.

    Attributes:
        layers: Operations one after the other, each drawn anew for every image.
        strength: In [0, 1], the share of the largest change; the Keras example's "5 of 10" is 0.5.
    """

    layers: int = 2
    strength: float = 0.5

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise CbnormError(f"layers={self.layers} is impossible: choose 0 or more operations")
        if not 0 <= self.strength <= 1:
            raise CbnormError(f"strength={self.strength} is impossible: choose 0 to 1")


class Draws(NamedTuple):
    """What happens to each of N images in each of L layers, on the CPU.

    Attributes:
        operation: int64 (L, N): a place in :data:`OPERATIONS`.
        sign: float32 (L, N): 1 or -1, the direction of what has one.
        place: float32 (L, N, 2): row and column of a hole's centre, as shares of height and width.
    """

    operation: Tensor
    sign: Tensor
    place: Tensor

    def part(self, start: int, stop: int) -> "Draws":
        """Return the draws of images ``start`` to ``stop``."""
        return Draws(*(value[:, start:stop] for value in self))


def draw(n: int, generator: torch.Generator, spec: RandAugment) -> Draws:
    """Draw what happens to ``n`` images.

    Args:
        n: Number of images.
        generator: A CPU generator.
        spec: How many layers.
    """
    operation, sign, row, column = torch.rand(4, spec.layers, n, generator=generator)
    return Draws(
        (operation * len(OPERATIONS)).long(),
        torch.where(sign < 0.5, -1.0, 1.0),
        torch.stack([row, column], dim=-1),
    )


def apply(images: Tensor, draws: Draws, strength: float) -> Tensor:
    """Return strong views.

    Args:
        images: uint8 (N, 3, H, W).
        draws: Of the same N images.
        strength: See :class:`RandAugment`.

    Returns:
        New images, uint8 (N, 3, H, W).
    """
    images = images.clone()
    for chosen, sign, place in zip(*draws, strict=True):
        for number, operation in enumerate(OPERATIONS.values()):
            which = (chosen == number).nonzero()[:, 0]
            if len(which):
                size = sign[which].to(images.device) * strength
                where = place[which].to(images.device)
                which = which.to(images.device)
                images[which] = operation(images[which], size, where)
    return images


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _whole(values: Tensor) -> Tensor:
    """Cut off what lies behind the point, as Pillow and torchvision do."""
    return values.clamp(0, 255).to(torch.uint8)


def _blend(images: Tensor, other: Tensor, size: Tensor) -> Tensor:
    factor = 1 + _per_image(size) * LARGEST["enhance"]
    return _whole(other + factor * (images.float() - other))


def grey_values(images: Tensor) -> Tensor:
    """Luma of uint8 (N, 3, H, W), whole numbers as float32 (N, 1, H, W)."""
    weights = torch.tensor([0.2989, 0.587, 0.114], device=images.device)
    return torch.einsum("nchw,c->nhw", images.float(), weights).floor()[:, None]


def autocontrast(images: Tensor, _size: Tensor, _place: Tensor) -> Tensor:
    """Spread every channel's values over 0 to 255; a channel of one value stays."""
    pixels = images.float()
    low, high = (bound(pixels, dim=(2, 3), keepdim=True) for bound in (torch.amin, torch.amax))
    flat = high == low
    scale = torch.where(flat, 1.0, 255 / (high - low).clamp_min(1))
    return _whole((pixels - torch.where(flat, 0.0, low)) * scale)


def equalize(images: Tensor, _size: Tensor, _place: Tensor) -> Tensor:
    """Make every channel's histogram as flat as its values allow."""
    done: Tensor = vision.equalize(images)
    return done


def invert(images: Tensor, _size: Tensor, _place: Tensor) -> Tensor:
    """The negative."""
    return 255 - images


def solarize(images: Tensor, size: Tensor, _place: Tensor) -> Tensor:
    """The negative of values from a threshold on: 256 at strength 0, 0 at strength 1."""
    threshold = _per_image(256 * (1 - size.abs()))
    return torch.where(images >= threshold, 255 - images, images)


def solarize_add(images: Tensor, size: Tensor, _place: Tensor) -> Tensor:
    """Add to values under 128."""
    brighter = _whole(images + _per_image(size.abs() * LARGEST["solarize_add"]).floor())
    return torch.where(images < GREY, brighter, images)


def color(images: Tensor, size: Tensor, _place: Tensor) -> Tensor:
    """More or less saturation."""
    return _blend(images, grey_values(images), size)


def contrast(images: Tensor, size: Tensor, _place: Tensor) -> Tensor:
    """Away from, or towards, the image's mean grey."""
    return _blend(images, grey_values(images).mean(dim=(1, 2, 3), keepdim=True), size)


def brightness(images: Tensor, size: Tensor, _place: Tensor) -> Tensor:
    """Brighter or darker."""
    return _blend(images, images.new_zeros((), dtype=torch.float32), size)


def shear_x(images: Tensor, size: Tensor, _place: Tensor) -> Tensor:
    """Rows are shifted in proportion to their distance from the upper border."""
    return _moved(images, shear=(size * LARGEST["shear"], torch.zeros_like(size)))


def shear_y(images: Tensor, size: Tensor, _place: Tensor) -> Tensor:
    """Columns are shifted in proportion to their distance from the left border."""
    return _moved(images, shear=(torch.zeros_like(size), size * LARGEST["shear"]))


def translate_x(images: Tensor, size: Tensor, _place: Tensor) -> Tensor:
    """Shifted to the right or left by whole pixels."""
    pixels = (size * LARGEST["translate"] * images.shape[3]).trunc()
    return _moved(images, shift=(pixels, torch.zeros_like(size)))


def translate_y(images: Tensor, size: Tensor, _place: Tensor) -> Tensor:
    """Shifted down or up by whole pixels."""
    pixels = (size * LARGEST["translate"] * images.shape[2]).trunc()
    return _moved(images, shift=(torch.zeros_like(size), pixels))


def cutout(images: Tensor, size: Tensor, place: Tensor) -> Tensor:
    """A grey square hole anywhere; its part behind the border is lost."""
    height, width = images.shape[2:]
    half = size.abs() * LARGEST["cutout"] * min(height, width) / 2
    inside = []
    for length, centre in zip((height, width), place.unbind(1), strict=True):
        middles = torch.arange(length, device=images.device) + 0.5
        inside.append((middles - (centre * length)[:, None]).abs() < half[:, None])
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(hole, torch.full_like(images[:1, :1, :1, :1], GREY), images)


def _moved(
    images: Tensor, *, shear: tuple[Tensor, Tensor] | None = None, shift: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Shear about the upper left corner, or shift by pixels (x, y); bilinear, grey behind the border."""
    n, _, height, width = images.shape
    still = torch.zeros(n, device=images.device)
    (along_x, along_y), (right, down) = shear or (still, still), shift or (still, still)
    y, x = (torch.arange(length, device=images.device) + 0.5 for length in (height, width))
    from_x = x[None, None, :] + (along_x[:, None] * y)[:, :, None] - right[:, None, None]
    from_y = y[None, :, None] + (along_y[:, None] * x)[:, None, :] - down[:, None, None]
    grid = torch.stack(torch.broadcast_tensors(2 * from_x / width - 1, 2 * from_y / height - 1), dim=-1)
    moved = F.grid_sample(images.float() - GREY, grid, padding_mode="zeros", align_corners=False)
    return _whole((moved + GREY).round())


Operation = Callable[[Tensor, Tensor, Tensor], Tensor]

#: Those of the Keras example: images, signed strengths (N,) and places (N, 2) give images.
OPERATIONS: dict[str, Operation] = {
    operation.__name__: operation
    for operation in (
        autocontrast,
        equalize,
        invert,
        solarize,
        solarize_add,
        color,
        contrast,
        brightness,
        shear_x,
        shear_y,
        translate_x,
        translate_y,
        cutout,
    )
}
