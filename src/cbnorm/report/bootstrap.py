"""Bootstrap over seeds and test images at once, for rows with many seeds and stored predictions."""

from collections.abc import Sequence

import numpy as np

from cbnorm.report.statistics import Array

DRAWS = 4000
_CHUNK = 200


def draw_differences(
    correct: Sequence[np.ndarray], weights: Sequence[float], *, draws: int = DRAWS, seed: int = 0
) -> Array:
    """Differences in per cent that other seeds and other test images of the same kind would have given.

    Seeds are drawn with replacement within each row, images with replacement for all rows together, because
    all rows are tested on the same images. Deviations due to seeds are stretched by sqrt(n / (n - 1)), since
    resampled ones have the variance of the sample divided by n, not by n - 1.

    Args:
        correct: Per row an array (seeds, images), 1 where the prediction is right.
        weights: One weight per row.
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
        per_image = np.zeros((count, images))
        for row, weight in zip(correct, weights, strict=True):
            per_image += weight * (_seed_weights(generator, count, len(row)) @ row.astype(float))
        chosen = generator.multinomial(images, np.full(images, 1 / images), size=count)
        found.append(np.einsum("di,di->d", per_image, chosen) * (100 / images))
    return np.concatenate(found)


def _seed_weights(generator: np.random.Generator, count: int, seeds: int) -> Array:
    drawn = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
    return (drawn - 1 / seeds) * np.sqrt(seeds / (seeds - 1)) + 1 / seeds


def p_above(drawn: Array, bound: float) -> float:
    """One-sided p-value against "the difference is at most `bound`"; never 0.

    >>> p_above(np.array([1.0, 2.0, 3.0]), 0.5)
    0.25
    """
    return float((1 + np.count_nonzero(drawn <= bound)) / (1 + drawn.size))


def p_below(drawn: Array, bound: float) -> float:
    """One-sided p-value against "the difference is at least `bound`"; never 0."""
    return float((1 + np.count_nonzero(drawn >= bound)) / (1 + drawn.size))
