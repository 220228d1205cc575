"""Random flips, rotations and zooms of whole batches, in one resampling.

Drawing and applying are separate: the parameters of an epoch are drawn at once on the CPU, so
that they don't depend on the device, the batch size or how many batches were seen before.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from cbnorm.errors import CbnormError


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied; the defaults change nothing.

    Attributes:
        flip: Mirror every other image horizontally, at random.
        rotation: Largest angle in degrees; each image's is uniform in [-rotation, rotation].
        zoom: Largest relative zoom; height and width are scaled independently, each by a factor
            uniform in [1 - zoom, 1 + zoom].
    """

    flip: bool = False
    rotation: float = 0.0
    zoom: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rotation <= 180:
            raise CbnormError(f"rotation={self.rotation} is impossible: choose 0 to 180 degrees")
        if not 0 <= self.zoom < 1:
            raise CbnormError(f"zoom={self.zoom} is impossible: choose at least 0 and less than 1")


class Parameters(NamedTuple):
    """What happens to each of N images; None: nothing.

    Attributes:
        flip: bool (N,): mirrored horizontally.
        angle: float32 (N,): radians, clockwise.
        zoom: float32 (N, 2): factors of height and width by which the part of the image that is
            seen grows: above 1 the content shrinks, as in Keras.
    """

    flip: torch.Tensor | None
    angle: torch.Tensor | None
    zoom: torch.Tensor | None

    def part(self, start: int, stop: int) -> "Parameters":
        """Return the parameters of images ``start`` to ``stop``."""
        return Parameters(*(None if value is None else value[start:stop] for value in self))

    def to(self, device: torch.device | str) -> "Parameters":
        """Return the parameters on a device."""
        return Parameters(*(None if value is None else value.to(device) for value in self))


def draw(n: int, generator: torch.Generator, spec: Augmentation) -> Parameters:
    """Draw the parameters of ``n`` images.

    The generator advances by the same amount whatever is switched on, so that two rows that
    differ only in the rotation mirror the same images.

    Args:
        n: Number of images.
        generator: A CPU generator.
        spec: What to draw.

    >>> draw(3, torch.Generator().manual_seed(0), Augmentation(flip=True)).angle is None
    True
    """
    flip, angle, height, width = torch.rand(4, n, generator=generator)
    return Parameters(
        flip=flip < 0.5 if spec.flip else None,
        angle=(2 * angle - 1) * math.radians(spec.rotation) if spec.rotation else None,
        zoom=1 + (2 * torch.stack([height, width], dim=1) - 1) * spec.zoom if spec.zoom else None,
    )


def apply(images: torch.Tensor, params: Parameters) -> torch.Tensor:
    """Flip, then rotate about the centre, then zoom, as one bilinear resampling.

    Outside its border an image is continued by reflection (d c b a | a b c d | d c b a). This is
    the meaning that Keras gives to the three layers of the authors' code, which interpolates
    twice where this interpolates once.

    Args:
        images: float (N, C, H, W).
        params: Of the same N images, on the same device.

    Returns:
        New images of the same shape; the given ones when there is nothing to do.
    """
    if params.angle is None and params.zoom is None:
        if params.flip is None:
            return images
        return torch.where(params.flip[:, None, None, None], images.flip(-1), images)
    grid = _grid(sampling_matrices(params, *images.shape[-2:]), *images.shape[-2:]).to(images)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def sampling_matrices(params: Parameters, height: int, width: int) -> torch.Tensor:
    """Return the matrices that lead from a place in the result to its origin in the image.

    In pixels from the centre (x to the right, y down) the origin of p is F R Z p: zoomed,
    turned back, mirrored. Each row is then scaled to the coordinates of
    :func:`torch.nn.functional.grid_sample`, in which every side has length 2.

    Args:
        params: Of N images, at least an angle or a zoom.
        height: Of the images.
        width: Of the images.

    Returns:
        float32 (N, 2, 2).
    """
    given = params.angle if params.angle is not None else params.zoom
    if given is None:
        raise ValueError("neither an angle nor a zoom: nothing to resample")
    ones = torch.ones(len(given), device=given.device)
    angle = params.angle if params.angle is not None else 0 * ones
    zoom_y, zoom_x = params.zoom.unbind(1) if params.zoom is not None else (ones, ones)
    mirror = 1 - 2 * params.flip.float() if params.flip is not None else ones
    cos, sin = angle.cos(), angle.sin()
    to_x = torch.stack([mirror * cos * zoom_x, mirror * sin * zoom_y * (height / width)], dim=1)
    to_y = torch.stack([-sin * zoom_x * (width / height), cos * zoom_y], dim=1)
    return torch.stack([to_x, to_y], dim=1)


def _grid(matrices: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the origin of every pixel, (N, H, W, 2).

    A sum of a row and a column: several times faster than ``affine_grid``'s batched product.
    """
    x, y = ((2 * torch.arange(side, device=matrices.device) + 1) / side - 1 for side in (width, height))
    along_x, along_y = matrices[:, :, 0, None] * x, matrices[:, :, 1, None] * y
    return (along_x[:, :, None, :] + along_y[:, :, :, None]).permute(0, 2, 3, 1)
