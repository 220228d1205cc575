"""Samples in both modes, and their grids."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cbnorm.norms import create_norm
from cbnorm.tasks.sampling import as_bytes, grid_png, sample, sample_by_batch


def generator(norm: str = "bn", **options: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6 * 4), nn.Unflatten(1, (6, 2, 2)), create_norm(norm, 6, **options))


NORMS = {"bn": {}, "mn": {"num_components": 2}, "ucb": {"num_components": 2}, "mode": {"num_components": 2}}


@pytest.mark.parametrize(("norm", "options"), NORMS.items())
def test_samples_in_evaluation_mode_do_not_depend_on_their_batch(norm: str, options: dict[str, int]) -> None:
    made, vectors = generator(norm, **options), torch.randn(10, 4)
    made(vectors)
    together = sample(made, vectors, 10)
    assert torch.equal(sample(made, vectors, 3), together)
    assert torch.equal(sample(made, vectors.flip(0), 10).flip(0), together)
    assert made.training


@pytest.mark.parametrize(("norm", "options"), NORMS.items())
def test_samples_by_batch_are_those_of_training_and_leave_no_trace(
    norm: str, options: dict[str, int]
) -> None:
    made, vectors = generator(norm, **options), torch.randn(12, 4)
    made(vectors)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    found = sample_by_batch(made, vectors, 6)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert torch.equal(sample_by_batch(made, vectors.roll(6, 0), 6).roll(6, 0), found)
    assert not torch.equal(sample_by_batch(made, vectors, 12), found)
    with torch.no_grad():
        assert torch.equal(as_bytes(made(vectors[:6])), found[:6])


def test_what_is_not_a_number_becomes_grey() -> None:
    values = torch.tensor([float("nan"), float("inf"), -float("inf")])
    assert as_bytes(values).tolist() == [128, 255, 0]


def test_a_grid_holds_every_image_in_its_place() -> None:
    images = torch.randint(0, 256, (10, 3, 4, 5), dtype=torch.uint8)
    sheet = np.asarray(Image.open(io.BytesIO(grid_png(images, columns=4))))
    assert sheet.shape == (12, 20, 3)
    for number, image in enumerate(images):
        row, column = divmod(number, 4)
        cell = sheet[4 * row : 4 * row + 4, 5 * column : 5 * column + 5]
        assert np.array_equal(cell, image.permute(1, 2, 0))
    assert not sheet[8:, 10:].any()


def test_a_grid_of_64_takes_at_most_200_kb_whatever_it_shows() -> None:
    noise = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    assert len(grid_png(noise)) <= 200_000
