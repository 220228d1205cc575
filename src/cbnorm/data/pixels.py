"""Resizing, channels and moments of uint8 images."""

import numpy as np
import torch
import torch.nn.functional as F

#: Images resized at a time.
CHUNK = 4096


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Resize to ``size`` x ``size``: bilinearly when larger, by area when smaller.

    Args:
        images: uint8 (N, C, H, W).
        size: The new height and width.

    Returns:
        uint8 (N, C, size, size), rounded to the nearest value; the images themselves when they
        have that size.
    """
    if images.shape[-2:] == (size, size):
        return images
    if images.shape[-2:] == (2 * size, 2 * size) and images.device.type == "cpu":
        return torch.cat([_halve(chunk) for chunk in images.split(CHUNK)])
    larger = size >= min(images.shape[-2:])
    mode = {"mode": "bilinear", "align_corners": False} if larger else {"mode": "area"}
    chunks = [F.interpolate(chunk.float(), (size, size), **mode) for chunk in images.split(CHUNK)]
    return torch.cat([chunk.round().to(torch.uint8) for chunk in chunks])


def _halve(images: torch.Tensor) -> torch.Tensor:
    """Return rounded means of 2x2 pixels, ties to even: what area does, six times as fast."""
    pixels = images.numpy()
    rows = pixels[..., ::2, :].astype(np.uint16) + pixels[..., 1::2, :]
    sums = rows[..., ::2] + rows[..., 1::2]
    return torch.from_numpy(((sums + 1 + ((sums >> 2) & 1)) >> 2).astype(np.uint8))


def three_channels(images: torch.Tensor) -> torch.Tensor:
    """Repeat the channel of grey images, uint8 (N, 1, H, W) to (N, 3, H, W)."""
    return images.expand(-1, 3, -1, -1).contiguous() if images.shape[1] == 1 else images


def channel_moments(images: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel's values, scaled to [0, 1].

    Counted by value, hence exact to float64 and independent of order, threads and device.

    Args:
        images: uint8 (N, C, H, W), not empty.

    Returns:
        C means and C standard deviations (with 1/n).

    >>> channel_moments(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
    ((0.5,), (0.5,))
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = torch.zeros(256, dtype=torch.float64)
        for chunk in images[:, channel].split(CHUNK):
            counts += torch.bincount(chunk.flatten(), minlength=256).cpu()
        frequencies = counts / counts.sum()
        mean = (frequencies * values).sum()
        means.append(mean.item())
        deviations.append((frequencies * (values - mean) ** 2).sum().sqrt().item())
    return tuple(means), tuple(deviations)
