"""Random flips, rotations, shifts, shears, zooms and crops of whole batches, in one resampling.

Drawing and applying are separate: the parameters of an epoch are drawn at once on the CPU, so
that they don't depend on the device, the batch size or how many batches were seen before.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
        shift: Largest shift as a share of height and width; each image's are uniform in [-shift, shift].
        shear: Largest angle of shear in degrees, uniform likewise.
        fill: What lies outside the border after a resampling: ``reflect`` (d c b a | a b c d), or
            ``nearest`` (a a a a | a b c d).
        crop: Pixels of black that are put around an image before a part of its size is cut out at random.
    """

    flip: bool = False
    rotation: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    fill: Literal["reflect", "nearest"] = "reflect"
    crop: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rotation <= 180:
            raise CbnormError(f"rotation={self.rotation} is impossible: choose 0 to 180 degrees")
        if not 0 <= self.zoom < 1:
            raise CbnormError(f"zoom={self.zoom} is impossible: choose at least 0 and less than 1")
        if not 0 <= self.shift < 1:
            raise CbnormError(f"shift={self.shift} is impossible: choose at least 0 and less than 1")
        if not 0 <= self.shear < 90:
            raise CbnormError(f"shear={self.shear} is impossible: choose at least 0 and less than 90 degrees")
        if self.crop < 0:
            raise CbnormError(f"crop={self.crop} is impossible: choose a number of pixels, 0 for none")


class Parameters(NamedTuple):
    """What happens to each of N images; None: nothing.

    Attributes:
        flip: bool (N,): mirrored horizontally.
        angle: float32 (N,): radians, clockwise.
        zoom: float32 (N, 2): factors of height and width by which the part of the image that is
            seen grows: above 1 the content shrinks, as in Keras.
        shift: float32 (N, 2): by which share of height and width the part that is seen moves.
        shear: float32 (N,): radians.
        crop: int64 (N, 2): by how many rows and columns the part that is cut out lies off the centre.
    """

    flip: torch.Tensor | None
    angle: torch.Tensor | None
    zoom: torch.Tensor | None
    shift: torch.Tensor | None = None
    shear: torch.Tensor | None = None
    crop: torch.Tensor | None = None

    def part(self, start: int, stop: int) -> "Parameters":
        """Return the parameters of images ``start`` to ``stop``."""
        return Parameters(*(None if value is None else value[start:stop] for value in self))

    def to(self, device: torch.device | str) -> "Parameters":
        """Return the parameters on a device."""
        return Parameters(*(None if value is None else value.to(device) for value in self))


def draw(n: int, generator: torch.Generator, spec: Augmentation) -> Parameters:
    """Draw the parameters of ``n`` images.

    The generator advances by the same amount whatever is switched on, so that two rows that
    differ only in the rotation mirror the same images; what is drawn for flip, rotation and zoom comes
    first.

    Args:
        n: Number of images.
        generator: A CPU generator.
        spec: What to draw.

    >>> draw(3, torch.Generator().manual_seed(0), Augmentation(flip=True)).angle is None
    True
    """
    flip, angle, height, width = torch.rand(4, n, generator=generator)
    shift_y, shift_x, shear, crop_y, crop_x = torch.rand(5, n, generator=generator)
    offsets = torch.stack([crop_y, crop_x], dim=1) * (2 * spec.crop + 1)
    return Parameters(
        flip=flip < 0.5 if spec.flip else None,
        angle=(2 * angle - 1) * math.radians(spec.rotation) if spec.rotation else None,
        zoom=1 + (2 * torch.stack([height, width], dim=1) - 1) * spec.zoom if spec.zoom else None,
        shift=(2 * torch.stack([shift_y, shift_x], dim=1) - 1) * spec.shift if spec.shift else None,
        shear=(2 * shear - 1) * math.radians(spec.shear) if spec.shear else None,
        crop=offsets.long() - spec.crop if spec.crop else None,
    )


def apply(images: torch.Tensor, params: Parameters, fill: str = "reflect") -> torch.Tensor:
    """Flip, rotate about the centre, shift, shear and zoom as one bilinear resampling; then crop.

    Flip, rotation and zoom have the meaning of the Keras layers in the authors' code for CIFAR, which
    interpolates twice where this interpolates once; with shift and shear they are those of Keras'
    ``ImageDataGenerator``, which mirrors last: since every range is symmetric, its images have the same law.

    Args:
        images: float (N, C, H, W), black being 0.
        params: Of the same N images, on the same device.
        fill: See :class:`Augmentation`.

    Returns:
        New images of the same shape; the given ones when there is nothing to do.
    """
    return cropped(_moved(images, params, fill), params.crop)


def _moved(images: torch.Tensor, params: Parameters, fill: str) -> torch.Tensor:
    if params.angle is None and params.zoom is None and params.shift is None and params.shear is None:
        if params.flip is None:
            return images
        return torch.where(params.flip[:, None, None, None], images.flip(-1), images)
    height, width = images.shape[-2:]
    grid = _grid(sampling_matrices(params, height, width), height, width)
    if params.shift is not None:
        grid = grid + sampling_offsets(params, height, width)[:, None, None, :]
    outside = "reflection" if fill == "reflect" else "border"
    return F.grid_sample(images, grid.to(images), mode="bilinear", padding_mode=outside, align_corners=False)


def cropped(images: torch.Tensor, offsets: torch.Tensor | None) -> torch.Tensor:
    """Cut a part of the images' own size out of images on black.

    Args:
        images: (N, C, H, W).
        offsets: int64 (N, 2): rows and columns off the centre; None: the images themselves.
    """
    if offsets is None:
        return images
    parts = images
    for axis, side in ((2, images.shape[2]), (3, images.shape[3])):
        places = torch.arange(side, device=images.device) + offsets[:, axis - 2, None]
        inside = (places >= 0) & (places < side)
        shape = (len(images), 1, -1, 1) if axis == 2 else (len(images), 1, 1, -1)
        index = places.clamp(0, side - 1).view(shape).expand(parts.shape)
        parts = parts.gather(axis, index) * inside.view(shape)
    return parts


def sampling_matrices(params: Parameters, height: int, width: int) -> torch.Tensor:
    """Return the matrices that lead from a place in the result to its origin in the image.

    In pixels from the centre (x to the right, y down) the origin of p is F R (S Z p + t): zoomed, sheared,
    shifted, turned back, mirrored; :func:`sampling_offsets` has F R t. Each row is then scaled to the
    coordinates of :func:`torch.nn.functional.grid_sample`, in which every side has length 2.

    Args:
        params: Of N images, at least one of angle, zoom, shift, shear.
        height: Of the images.
        width: Of the images.

    Returns:
        float32 (N, 2, 2).
    """
    mirror, cos, sin = _turned(params)
    ones = torch.ones_like(cos)
    zoom_y, zoom_x = params.zoom.unbind(1) if params.zoom is not None else (ones, ones)
    if params.shear is not None:
        # S moves y by -sin(s) x and narrows x to cos(s) x; R S is written out.
        narrow, slope = params.shear.cos(), params.shear.sin()
        x_to_x, x_to_y = cos * narrow - sin * slope, -sin * narrow - cos * slope
    else:
        x_to_x, x_to_y = cos, -sin
    to_x = torch.stack([mirror * x_to_x * zoom_x, mirror * sin * zoom_y * (height / width)], dim=1)
    to_y = torch.stack([x_to_y * zoom_x * (width / height), cos * zoom_y], dim=1)
    return torch.stack([to_x, to_y], dim=1)


def sampling_offsets(params: Parameters, height: int, width: int) -> torch.Tensor:
    """Return where the centre of the result comes from, in the coordinates of ``grid_sample``.

    Args:
        params: Of N images, with a shift.
        height: Of the images.
        width: Of the images.

    Returns:
        float32 (N, 2): x and y.
    """
    if params.shift is None:
        raise ValueError("no shift: the centre stays where it is")
    mirror, cos, sin = _turned(params)
    y, x = params.shift[:, 0] * height, params.shift[:, 1] * width
    to_x, to_y = mirror * (cos * x + sin * y), cos * y - sin * x
    return torch.stack([to_x * (2 / width), to_y * (2 / height)], dim=1)


def _turned(params: Parameters) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return -1 where an image is mirrored, else 1, and cosine and sine of its angle."""
    drawn = (params.angle, params.zoom, params.shift, params.shear)
    given = next((values for values in drawn if values is not None), None)
    if given is None:
        raise ValueError("nothing that moves pixels was drawn: there is nothing to resample")
    ones = torch.ones(len(given), device=given.device)
    angle = params.angle if params.angle is not None else 0 * ones
    mirror = 1 - 2 * params.flip.float() if params.flip is not None else ones
    return mirror, angle.cos(), angle.sin()


def _grid(matrices: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the origin of every pixel, (N, H, W, 2).

    A sum of a row and a column: several times faster than ``affine_grid``'s batched product.
    """
    x, y = ((2 * torch.arange(side, device=matrices.device) + 1) / side - 1 for side in (width, height))
    along_x, along_y = matrices[:, :, 0, None] * x, matrices[:, :, 1, None] * y
    return (along_x[:, :, None, :] + along_y[:, :, :, None]).permute(0, 2, 3, 1)
