"""Samples of a generator, and grids of them as images."""

import copy
import io

import torch
from PIL import Image
from torch import Tensor, nn


@torch.no_grad()
def sample(generator: nn.Module, vectors: Tensor, batch_size: int) -> Tensor:
    """Samples in evaluation mode; the generator's mode is put back.

    Args:
        generator: Images ``(N, 3, H, W)`` in [-1, 1] from latent vectors.
        vectors: Latent vectors ``(N, D)``.
        batch_size: How many at a time.

    Returns:
        uint8 ``(N, 3, H, W)`` on the CPU.
    """
    training = generator.training
    generator.eval()
    made = [as_bytes(generator(part)) for part in vectors.split(batch_size)]
    generator.train(training)
    return torch.cat(made)


@torch.no_grad()
def sample_by_batch(generator: nn.Module, vectors: Tensor, batch_size: int) -> Tensor:
    """Samples in training mode: every layer uses the statistics of its batch, as the authors' code does.

    A sample then depends on the others of its batch. The generator itself is not touched, and running
    statistics are put back after every batch, so that the order of batches doesn't matter.

    Args:
        generator: As for :func:`sample`.
        vectors: Latent vectors ``(N, D)``.
        batch_size: How many share their statistics; a last batch with fewer has statistics of fewer.
    """
    generator = copy.deepcopy(generator).train()
    state = {name: value.clone() for name, value in generator.state_dict().items()}
    made = []
    for part in vectors.split(batch_size):
        made.append(as_bytes(generator(part)))
        generator.load_state_dict(state)
    return torch.cat(made)


def as_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8 on the CPU; what is not a number becomes grey.

    >>> as_bytes(torch.tensor([-1.0, 0.0, 1.0, 2.0])).tolist()
    [0, 128, 255, 255]
    """
    levels = (images.float().nan_to_num(0.0) + 1) * 127.5
    return levels.clamp(0, 255).round().to(torch.uint8).cpu()


def grid_png(images: Tensor, columns: int = 8) -> bytes:
    """A grid of images as a PNG file, row by row; 64 images of 32x32 take less than 200 kB.

    Args:
        images: uint8 ``(N, 3, H, W)``.
        columns: Images in a row; missing ones are black.
    """
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    cells = images.new_zeros(rows * columns, channels, height, width)
    cells[:count] = images
    sheet = cells.view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    buffer = io.BytesIO()
    picture = Image.fromarray(sheet.reshape(rows * height, columns * width, channels).numpy())
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
