"""Every operation of RandAugment against Pillow and torchvision, image by image."""

import cbnorm._torchvision  # noqa: F401, I001  (before torchvision)

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from cbnorm.data import randaugment
from cbnorm.data.randaugment import GREY, LARGEST, OPERATIONS, Draws, RandAugment, apply, draw
from cbnorm.errors import CbnormError

PLACE = torch.tensor([[0.25, 0.75]])
SIGNED = {
    name
    for name in OPERATIONS
    if name.startswith(("shear", "translate")) or name in {"color", "contrast", "brightness"}
}


def picture(seed=0, height=32, width=32):
    """A smooth picture with noise, so that histograms have shape and edges are soft."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 32
    waves = [np.sin(6 * (x * random.normal() + y * random.normal()) + random.normal()) for _ in range(3)]
    values = 120 + 70 * np.stack(waves) + random.normal(0, 8, (3, height, width))
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))[None]


def pillow(image):
    return Image.fromarray(image[0].permute(1, 2, 0).numpy())


def tensor(image):
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None]


def run(name, image, size):
    return OPERATIONS[name](image, torch.tensor([size]), PLACE)


def by_pillow(name, image, size):
    factor = 1 + LARGEST["enhance"] * size
    threshold = 256 * (1 - abs(size))
    return {
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
        "solarize": lambda: ImageOps.solarize(image, threshold),
        "color": lambda: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
    }[name]()


@pytest.mark.parametrize("size", [0.5, -0.5, 0.2])
@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("autocontrast", 1),  # products close to a whole number are cut off on either side of it
        ("equalize", 0),
        ("invert", 0),
        ("solarize", 0),
        ("color", 1),
        ("contrast", 1),
        ("brightness", 1),
    ],
)
def test_colours_agree_with_pillow(name, off, size):
    for seed in range(5):
        image = picture(seed)
        ours, theirs = run(name, image, size), tensor(by_pillow(name, pillow(image), size))
        assert (ours.int() - theirs.int()).abs().max() <= off
        # Pillow rounds grey values, which torchvision and we cut off.
        assert (ours != theirs).float().mean() <= {"color": 0.5, "contrast": 0.5}.get(name, 0.02)
        assert name in {"autocontrast", "equalize"} or not torch.equal(ours, image)


@pytest.mark.parametrize("size", [0.5, -0.5, 0.9])
def test_colours_agree_with_torchvision(size):
    factor = 1 + LARGEST["enhance"] * size
    threshold = 256 * (1 - abs(size))
    for seed in range(5):
        image = picture(seed)
        for name, theirs in {
            "autocontrast": vision.autocontrast(image),
            "equalize": vision.equalize(image),
            "invert": vision.invert(image),
            "solarize": vision.solarize(image, threshold),
            "color": vision.adjust_saturation(image, factor),
            "contrast": vision.adjust_contrast(image, factor),
            "brightness": vision.adjust_brightness(image, factor),
        }.items():
            # Products may lie on either side of a whole number.
            assert (run(name, image, size).int() - theirs.int()).abs().max() <= 1, name


@pytest.mark.parametrize("size", [0.5, -0.5, 1.0])
@pytest.mark.parametrize("shape", [(32, 32), (16, 24)])
def test_shears_and_shifts_agree_with_torchvision(size, shape):
    image = picture(1, *shape)
    slope = math.degrees(math.atan(LARGEST["shear"] * size))
    right, down = (int(LARGEST["translate"] * size * side) for side in (shape[1], shape[0]))
    for name, shift, shear in (
        ("shear_x", [0, 0], [slope, 0]),
        ("shear_y", [0, 0], [0, slope]),
        ("translate_x", [right, 0], [0, 0]),
        ("translate_y", [0, down], [0, 0]),
    ):
        theirs, share = (
            vision.affine(
                what,
                0.0,
                shift,
                1.0,
                [float(angle) for angle in shear],
                interpolation=InterpolationMode.BILINEAR,
                fill=[fill] * 3,
                center=[0.0, 0.0],
            )
            for what, fill in ((image.float(), float(GREY)), (torch.ones(1, 3, *shape), 0.0))
        )
        ours = run(name, image, size)
        inside, outside = share > 1 - 1e-6, share == 0
        assert inside.float().mean() > 0.4
        assert (ours - theirs)[inside].abs().max() <= 0.51, name
        # On the border itself torchvision mixes grey in another proportion.
        assert (ours[outside] == GREY).float().mean() > 0.9, name
        if name.startswith("translate"):
            assert torch.equal(ours, theirs.round().to(torch.uint8)), name


@pytest.mark.parametrize("size", [0.5, -0.4])
def test_a_shear_is_pillows_inside(size):
    image = picture(2)
    slope = LARGEST["shear"] * size
    data = (1, slope, 0, 0, 1, 0)
    theirs = tensor(
        pillow(image).transform((32, 32), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    )
    origin = torch.arange(32)[None] + 0.5 + slope * (torch.arange(32)[:, None] + 0.5)
    inside = ((origin > 1) & (origin < 31)).expand(3, 32, 32)
    assert inside.float().mean() > 0.8
    assert (run("shear_x", image, size).int() - theirs.int())[0][inside].abs().max() <= 1


def test_values_added_to_the_dark_half():
    image = picture(3)
    values = image.int()
    expected = torch.where(values < 128, (values + 55).clamp(max=255), values)
    assert torch.equal(run("solarize_add", image, 0.5).int(), expected)
    assert torch.equal(run("solarize_add", image, -0.5).int(), expected)


def test_a_hole_has_the_size_and_the_place_that_were_drawn():
    changed = run("cutout", torch.zeros(1, 3, 32, 32, dtype=torch.uint8), 0.5)
    expected = torch.zeros(32, 32, dtype=torch.uint8)
    expected[4:12, 20:28] = GREY  # 8 pixels about row 8 and column 24
    assert torch.equal(changed, expected.expand(1, 3, 32, 32))
    corner = OPERATIONS["cutout"](
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.tensor([0.5]), torch.zeros(1, 2)
    )
    assert (corner > 0).sum() == 3 * 4 * 4


@pytest.mark.parametrize("name", sorted(SIGNED | {"solarize", "solarize_add", "cutout"}))
def test_strength_zero_changes_nothing(name):
    image = picture(4)
    assert torch.equal(run(name, image, 0.0), image)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_direction_matters_where_there_is_one(name):
    image = picture(5)
    assert torch.equal(run(name, image, 0.5), run(name, image, -0.5)) == (name not in SIGNED)


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("name", ["autocontrast", "equalize", "color", "contrast"])
def test_an_image_of_one_value_stays(name, value):
    image = torch.full((1, 3, 8, 8), value, dtype=torch.uint8)
    assert (run(name, image, 0.5).int() - value).abs().max() <= (1 if name in {"color", "contrast"} else 0)


def test_a_batch_is_its_images_one_by_one():
    images = torch.cat([picture(seed) for seed in range(40)])
    draws = draw(40, torch.Generator().manual_seed(0), RandAugment(3))
    together = apply(images, draws, 0.5)
    for i in range(40):
        alone = images[i : i + 1]
        for layer in range(3):
            operation = list(OPERATIONS.values())[draws.operation[layer, i]]
            alone = operation(alone, draws.sign[layer, i : i + 1] * 0.5, draws.place[layer, i : i + 1])
        assert torch.equal(together[i : i + 1], alone)
    halves = [apply(images[a:b], draws.part(a, b), 0.5) for a, b in ((0, 15), (15, 40))]
    assert torch.equal(torch.cat(halves), together)


def test_given_images_are_left_alone():
    images = torch.cat([picture(seed) for seed in range(20)])
    before = images.clone()
    changed = apply(images, draw(20, torch.Generator().manual_seed(1), RandAugment()), 0.5)
    assert torch.equal(images, before)
    assert not torch.equal(changed, images)
    assert torch.equal(apply(images, draw(20, torch.Generator(), RandAugment(0)), 0.5), images)


def test_draws_are_uniform_and_the_same_for_every_strength():
    draws = draw(20_000, torch.Generator().manual_seed(0), RandAugment(2))
    again = draw(20_000, torch.Generator().manual_seed(0), RandAugment(2, 0.9))
    assert all(torch.equal(a, b) for a, b in zip(draws, again, strict=True))
    shares = draws.operation.flatten().bincount(minlength=len(OPERATIONS)) / 40_000
    assert (shares - 1 / len(OPERATIONS)).abs().max() < 0.006
    assert draws.sign.mean().abs() < 0.02
    assert draws.sign.abs().eq(1).all()
    assert draws.place.mean().item() == pytest.approx(0.5, abs=0.01)
    assert isinstance(draws, Draws)


@pytest.mark.parametrize("wrong", [{"layers": -1}, {"strength": 1.1}, {"strength": -0.1}])
def test_impossible_choices_are_refused(wrong):
    with pytest.raises(CbnormError, match="is impossible: choose"):
        RandAugment(**wrong)


def test_there_is_one_name_for_each_operation():
    assert len(OPERATIONS) == 13
    assert all(getattr(randaugment, name) is operation for name, operation in OPERATIONS.items())
