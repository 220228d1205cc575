"""Augmentation against torchvision and SciPy image by image, and its identities."""

import cbnorm._torchvision  # noqa: F401, I001  (before torchvision)

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from cbnorm.data.augment import Augmentation, Parameters, apply, cropped, draw
from cbnorm.errors import CbnormError

PAPER = Augmentation(flip=True, rotation=7.2, zoom=0.2)
PETS = Augmentation(flip=True, rotation=30, zoom=0.1, shift=0.1, shear=0.1, fill="nearest")


def noise(n, height=32, width=32):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1))


def parameters(n, spec=PAPER, seed=0):
    return draw(n, torch.Generator().manual_seed(seed), spec)


def only(flip=None, angle=None, zoom=None):
    return Parameters(*(None if value is None else torch.tensor(value) for value in (flip, angle, zoom)))


def resampled(image, flip, angle, zoom):
    """Map one image (C, H, W) in float64 by SciPy, coordinates written out independently."""
    height, width = image.shape[1:]
    cos, sin = math.cos(angle), math.sin(angle)
    turn_back = np.array([[cos, -sin], [sin, cos]])  # acts on (y, x)
    mirror = np.diag([1.0, -1.0 if flip else 1.0])
    matrix = mirror @ turn_back @ np.diag(zoom)
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    planes = [
        ndimage.affine_transform(plane, matrix, offset=centre - matrix @ centre, order=1, mode="reflect")
        for plane in image.double().numpy()
    ]
    return torch.from_numpy(np.stack(planes))


@pytest.mark.parametrize(
    "spec", [PAPER, Augmentation(True, 180, 0.9), Augmentation(zoom=0.5), Augmentation(False, 45)]
)
@pytest.mark.parametrize("size", [(32, 32), (8, 8), (24, 17)])
def test_every_pixel_agrees_with_an_independent_resampling(spec, size):
    images, params = noise(20, *size), parameters(20, spec)
    ours = apply(images, params)
    for i in range(20):
        flip = params.flip is not None and bool(params.flip[i])
        angle = 0.0 if params.angle is None else params.angle[i].item()
        zoom = (1.0, 1.0) if params.zoom is None else params.zoom[i].tolist()
        torch.testing.assert_close(
            ours[i].double(), resampled(images[i], flip, angle, zoom), atol=5e-5, rtol=0
        )


def test_rotation_and_zoom_agree_with_torchvision_inside():
    images, params = noise(16), parameters(16)
    factors = params.zoom[:, 0]
    ours = apply(images, params._replace(zoom=factors[:, None].expand(-1, 2)))
    for i in range(16):
        image = vision.horizontal_flip(images[i]) if params.flip[i] else images[i]
        degrees, scale = math.degrees(params.angle[i].item()), 1 / factors[i].item()
        theirs = vision.affine(
            image, degrees, [0, 0], scale, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR
        )
        # torchvision fills the outside with zeros: compare where none of them has a share.
        ones = vision.affine(
            torch.ones_like(image),
            degrees,
            [0, 0],
            scale,
            [0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        inside = ones > 1 - 1e-6
        assert inside.float().mean() > 0.4
        torch.testing.assert_close(ours[i][inside], theirs[inside], atol=2e-4, rtol=0)


def test_a_flip_alone_agrees_with_torchvision_exactly():
    images, params = noise(9), parameters(9, Augmentation(flip=True))
    assert 0 < params.flip.sum() < 9
    for ours, image, flip in zip(apply(images, params), images, params.flip, strict=True):
        assert torch.equal(ours, vision.horizontal_flip(image) if flip else image)


def test_a_flip_within_a_resampling_is_the_same_flip():
    images, params = noise(9), parameters(9, Augmentation(flip=True))
    resampled = apply(images, params._replace(angle=torch.zeros(9)))
    torch.testing.assert_close(resampled, apply(images, params), atol=1e-5, rtol=0)


def test_nothing_drawn_changes_nothing():
    images = noise(3)
    assert apply(images, parameters(3, Augmentation())) is images


def test_zero_angles_and_unit_zooms_change_nothing():
    images = noise(3)
    still = apply(images, only(flip=[False] * 3, angle=[0.0] * 3, zoom=[[1.0, 1.0]] * 3))
    torch.testing.assert_close(still, images, atol=1e-5, rtol=0)


def test_a_quarter_turn_goes_clockwise():
    image = noise(1)
    turned = apply(image, only(angle=[math.pi / 2]))
    torch.testing.assert_close(turned, image.rot90(-1, (2, 3)), atol=1e-5, rtol=0)


def test_a_zoom_above_one_shrinks_the_content():
    image = torch.zeros(1, 1, 32, 32)
    image[..., 8:24, 8:24] = 1
    lower = apply(image, only(zoom=[[1.5, 1.0]]))[0, 0]
    # The height of 16 becomes 16 / 1.5; the width stays.
    assert lower[:, 16].sum().item() == pytest.approx(16 / 1.5, abs=0.4)
    assert lower[16, :].sum().item() == pytest.approx(16, abs=1e-4)


@pytest.mark.parametrize("angle", [0.1, 3.0])
def test_constant_images_stay_constant(angle):
    image = torch.full((1, 3, 32, 32), 0.7)
    moved = apply(image, only(angle=[angle], zoom=[[1.9, 0.3]]))
    torch.testing.assert_close(moved, image, atol=1e-6, rtol=0)


@given(st.integers(0, 2**31), st.floats(0, 180), st.floats(0, 0.99), st.booleans())
def test_draws_keep_to_their_range_and_do_not_depend_on_each_other(seed, rotation, zoom, flip):
    spec = Augmentation(flip, rotation, zoom)
    params = parameters(20, spec, seed)
    if rotation:
        assert params.angle.abs().max() <= math.radians(rotation) * (1 + 1e-6)
    if zoom:
        assert ((params.zoom - 1).abs() <= zoom * (1 + 1e-6) + 1e-6).all()
        alone = parameters(20, Augmentation(zoom=zoom), seed)
        assert torch.equal(alone.zoom, params.zoom)
    if flip:
        assert torch.equal(params.flip, parameters(20, PAPER, seed).flip)


def test_draws_are_uniform():
    params = parameters(40_000)
    angles = params.angle / math.radians(7.2)
    for values in (angles, *((params.zoom - 1) / 0.2).unbind(1)):
        assert values.mean().abs() < 0.02
        assert values.var().item() == pytest.approx(1 / 3, abs=0.01)
    assert params.flip.float().mean().item() == pytest.approx(0.5, abs=0.015)
    heights, widths = params.zoom.unbind(1)
    assert (
        torch.corrcoef(torch.stack([angles, heights, widths, params.flip.float()]))
        .fill_diagonal_(0)
        .abs()
        .max()
        < 0.03
    )


def as_keras(image, params, place):
    """One image (C, H, W) as ImageDataGenerator makes it: matrices on (row, column, 1), then a mirror.

    A mirror that comes last needs the other sign of angle, shear and horizontal shift.
    """
    height, width = image.shape[1:]
    flip = bool(params.flip[place])
    sign = -1.0 if flip else 1.0
    angle, shear = (sign * values[place].item() for values in (params.angle, params.shear))
    down, right = params.shift[place].tolist()
    zoom_y, zoom_x = params.zoom[place].tolist()
    rotation = np.array(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )
    shift = np.array([[1, 0, down * height], [0, 1, sign * right * width], [0, 0, 1]])
    sheared = np.array([[1, -math.sin(shear), 0], [0, math.cos(shear), 0], [0, 0, 1]])
    whole = rotation @ shift @ sheared @ np.diag([zoom_y, zoom_x, 1.0])
    to_centre = np.array([[1, 0, (height - 1) / 2], [0, 1, (width - 1) / 2], [0, 0, 1]])
    whole = to_centre @ whole @ np.linalg.inv(to_centre)
    planes = [
        ndimage.affine_transform(plane, whole[:2, :2], offset=whole[:2, 2], order=1, mode="nearest")
        for plane in image.double().numpy()
    ]
    result = np.stack(planes)
    return torch.from_numpy(result[:, :, ::-1].copy() if flip else result)


@pytest.mark.parametrize("shear", [0.1, 40.0])
@pytest.mark.parametrize("size", [(32, 32), (24, 17)])
def test_shift_and_shear_are_those_of_keras_generator(shear, size):
    spec = Augmentation(True, 30, 0.1, 0.1, shear, "nearest")
    images, params = noise(20, *size), parameters(20, spec)
    ours = apply(images, params, spec.fill)
    for i in range(20):
        torch.testing.assert_close(ours[i].double(), as_keras(images[i], params, i), atol=5e-5, rtol=0)


def test_a_shift_of_whole_pixels_moves_rows_and_columns():
    image = noise(1)
    moved = apply(image, only()._replace(shift=torch.tensor([[0.25, -0.125]])), "nearest")
    torch.testing.assert_close(moved[..., :24, 4:], image[..., 8:, :28], atol=1e-5, rtol=0)
    # What comes from outside is the nearest pixel of the border.
    torch.testing.assert_close(moved[..., 24:, 4:], image[..., 31:, :28].expand(-1, -1, 8, -1))


def test_a_crop_is_one_of_torchvisions_on_black():
    spec = Augmentation(crop=4)
    images, params = noise(300, 12, 16), parameters(300, spec)
    ours = apply(images, params)
    for image, cut, (down, right) in zip(images, ours, params.crop.tolist(), strict=True):
        on_black = vision.pad(image, [4, 4, 4, 4])
        assert torch.equal(cut, vision.crop(on_black, 4 + down, 4 + right, 12, 16))
    # Nine places along each axis, all of them drawn.
    assert {len(params.crop[:, axis].unique()) for axis in (0, 1)} == {9}
    assert params.crop.abs().max() == 4


def test_a_crop_comes_after_the_resampling():
    spec = Augmentation(True, 7.2, 0.2, crop=4)
    images, params = noise(6), parameters(6, spec)
    whole = apply(images, params._replace(crop=None))
    assert torch.equal(apply(images, params), cropped(whole, params.crop))


def test_what_is_drawn_for_the_first_three_does_not_depend_on_the_others():
    params, alone = parameters(50, Augmentation(True, 30, 0.1, 0.1, 0.1, "nearest", 4)), parameters(50)
    assert torch.equal(params.flip, alone.flip)
    torch.testing.assert_close(params.angle / math.radians(30), alone.angle / math.radians(7.2))


def test_shifts_shears_and_crops_are_uniform():
    params = parameters(40_000, Augmentation(shift=0.1, shear=0.1, crop=4))
    for values in (*(params.shift / 0.1).unbind(1), params.shear / math.radians(0.1)):
        assert values.abs().max() <= 1 + 1e-5
        assert values.mean().abs() < 0.02
        assert values.var().item() == pytest.approx(1 / 3, abs=0.01)
    shares = torch.bincount(params.crop[:, 0] + 4).float() / 40_000
    torch.testing.assert_close(shares, torch.full((9,), 1 / 9), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rotation": -1},
        {"rotation": 181},
        {"zoom": 1},
        {"zoom": -0.1},
        {"shift": 1.0},
        {"shear": 90.0},
        {"crop": -1},
    ],
)
def test_impossible_ranges_are_refused(wrong):
    with pytest.raises(CbnormError, match="is impossible: choose"):
        Augmentation(**wrong)


def test_parts_are_parts():
    images, params = noise(10), parameters(10)
    halves = [apply(images[part], params.part(part.start, part.stop)) for part in (slice(0, 4), slice(4, 10))]
    torch.testing.assert_close(torch.cat(halves), apply(images, params), atol=0, rtol=0)
