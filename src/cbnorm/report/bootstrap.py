"""Bootstrap over seeds and test images at once, for rows with many seeds and stored predictions."""

from collections.abc import Sequence

import numpy as np

from cbnorm.report.statistics import Array

DRAWS = 1000
_CHUNK = 200


def draw_differences(
    correct: Sequence[np.ndarray],
    weights: Sequence[float],
    *,
    together: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> Array:
    """Differences in per cent that other seeds and other test images of the same kind would have given.

    Images are drawn with replacement for all rows together, because all rows are tested on the same images.
    Deviations due to seeds are stretched by sqrt(n / (n - 1)), since resampled ones have the variance of the
    sample divided by n, not by n - 1. Resampling both ways counts the noise of single predictions three
    times instead of once (Owen, The pigeonhole bootstrap, 2007), so that the spread is a little too wide.

    Args:
        correct: Per row an array (seeds, images), 1 where the prediction is right.
        weights: One weight per row.
        together: Draw the same seeds for all rows, as a comparison in pairs does.
        draws: How many differences.
        seed: Of the draws; the same seed gives the same differences.

    Returns:
        Shape (draws,).
    """
    generator = np.random.default_rng(seed)
    images = correct[0].shape[1]
    found = []
    for start in range(0, draws, _CHUNK):
        count = min(_CHUNK, draws - start)
        drawn = [_seed_weights(generator, count, len(row)) for row in correct[: 1 if together else None]]
        drawn = drawn * len(correct) if together else drawn
        per_image = np.zeros((count, images))
        for row, weight, chosen in zip(correct, weights, drawn, strict=True):
            per_image += weight * (chosen @ row.astype(float))
        times = generator.multinomial(images, np.full(images, 1 / images), size=count)
        found.append(np.einsum("di,di->d", per_image, times) * (100 / images))
    return np.concatenate(found)


def _seed_weights(generator: np.random.Generator, count: int, seeds: int) -> Array:
    drawn = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
    return (drawn - 1 / seeds) * np.sqrt(seeds / (seeds - 1)) + 1 / seeds


def standard_error(
    correct: Sequence[np.ndarray], weights: Sequence[float], *, together: bool = False
) -> float:
    """Bootstrap standard error of a difference in per cent; arguments as of :func:`draw_differences`."""
    return float(draw_differences(correct, weights, together=together).std(ddof=1))
