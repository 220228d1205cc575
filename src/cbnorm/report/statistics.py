"""Differences between rows over seeds: estimates, p-values, correction, power. Pure functions on arrays.

Values have the shape (..., rows, seeds): leading axes are independent tables, which the calibration of the
policy (:mod:`cbnorm.report.calibration`) uses; a comparison is a vector of one weight per row.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

Array = NDArray[np.float64]
_ROUNDING = 1e-12


class Estimate(NamedTuple):
    """A weighted difference of row means.

    Attributes:
        difference: The estimate, shape (...).
        error: Its standard error; 0 where no value varies.
        freedom: Degrees of freedom of the error.
    """

    difference: Array
    error: Array
    freedom: Array


def summary(values: ArrayLike) -> tuple[float, float | None, int]:
    """Mean, sample standard deviation (None below two values) and number of values.

    >>> summary([1.0, 2.0, 3.0])
    (2.0, 1.0, 3)
    """
    values = np.asarray(values, dtype=float)
    sd = float(values.std(ddof=1)) if values.size > 1 else None
    return float(values.mean()), sd, values.size


def welch(values: ArrayLike, weights: ArrayLike) -> Estimate:
    """The difference of rows as independent samples of unequal variance (Welch, Satterthwaite).

    Args:
        values: Shape (..., rows, seeds), two seeds at least.
        weights: Shape (rows,), such as (1, -1).
    """
    values, weights = np.asarray(values, dtype=float), np.asarray(weights, dtype=float)
    seeds = values.shape[-1]
    parts = weights**2 * _variance(values) / seeds
    variance = parts.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(variance > 0, variance**2 / (parts**2).sum(-1) * (seeds - 1), seeds - 1)
    return Estimate(values.mean(-1) @ weights, np.sqrt(variance), freedom)


def paired(values: ArrayLike, weights: ArrayLike) -> Estimate:
    """The difference taken seed by seed, for rows that share what a seed decides; arguments as of `welch`."""
    values = np.asarray(values, dtype=float)
    per_seed = np.einsum("...rs,r->...s", values, np.asarray(weights, dtype=float))
    seeds = per_seed.shape[-1]
    largest = np.abs(values).max(axis=(-2, -1))
    error = np.sqrt(_variance(per_seed, largest) / seeds)
    return Estimate(per_seed.mean(-1), error, np.full(error.shape, float(seeds - 1)))


def correlation(values: ArrayLike) -> Array:
    """Mean correlation over seeds between the rows of (..., rows, seeds); 0 for fewer than two rows.

    It is computed from standardised rows, so that no row with a large spread decides alone.
    """
    values = np.asarray(values, dtype=float)
    rows, seeds = values.shape[-2:]
    if rows < 2:
        return np.zeros(values.shape[:-2])
    centred = values - values.mean(-1, keepdims=True)
    sd = np.sqrt(_variance(values))[..., None]
    standard = np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 0)
    total = (standard.sum(-2) ** 2).sum(-1) / (seeds - 1)
    # Rows that don't vary tell nothing.
    alive = (sd > 0).sum((-2, -1))
    return np.where(alive > 1, (total - alive) / np.maximum(alive * (alive - 1), 1), 0.0)


def _variance(values: Array, largest: ArrayLike | None = None) -> Array:
    """Sample variance over the last axis; 0 where it is but the rounding of equal values."""
    found = values.var(axis=-1, ddof=1)
    size = np.abs(values).max(axis=-1) if largest is None else np.asarray(largest)
    return np.where(found > (_ROUNDING * size) ** 2, found, 0.0)


def worth_pairing(seeds: int) -> float:
    """The correlation above which pairing pays for the degrees of freedom that it costs.

    >>> round(worth_pairing(5), 2), round(worth_pairing(10), 2)
    (0.31, 0.14)
    """
    independent, pairs = stats.t.ppf(0.975, [2 * seeds - 2, seeds - 1])
    return float(1 - (independent / pairs) ** 2)


def estimate(
    values: ArrayLike, weights: ArrayLike, bystanders: ArrayLike
) -> tuple[Estimate, NDArray[np.bool_]]:
    """Welch's estimate, or the paired one where rows that take no part in the comparison say that it pays.

    The compared rows themselves have no say: choosing the smaller of two errors by looking at both would
    give too many findings. Under an effect of the seed that rows share, bystanders tell nothing about the
    difference, so that either estimate stays valid after the choice.

    Args:
        values: Shape (..., rows, seeds).
        weights: Shape (rows,).
        bystanders: Shape (..., others, seeds): rows of the same block and seeds without a weight.

    Returns:
        The estimate, and where it is the paired one.
    """
    pairs = correlation(bystanders) > worth_pairing(np.shape(values)[-1])
    two, one = welch(values, weights), paired(values, weights)
    return Estimate(*(np.where(pairs, a, b) for a, b in zip(one, two, strict=True))), pairs


def p_above(found: Estimate, bound: float) -> Array:
    """One-sided p-value against "the difference is at most `bound`"; 1 where nothing varies."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stats.t.sf((found.difference - bound) / found.error, found.freedom)
    return np.where(found.error > 0, p, 1.0)


def p_below(found: Estimate, bound: float) -> Array:
    """One-sided p-value against "the difference is at least `bound`"; 1 where nothing varies."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stats.t.cdf((found.difference - bound) / found.error, found.freedom)
    return np.where(found.error > 0, p, 1.0)


def interval(found: Estimate, level: float = 0.95) -> tuple[Array, Array]:
    """Two-sided t interval of a difference, not corrected for other comparisons."""
    half = stats.t.ppf((1 + level) / 2, found.freedom) * found.error
    return found.difference - half, found.difference + half


def mean_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Two-sided t interval of one mean over two or more seeds.

    >>> [round(bound, 2) for bound in mean_interval([1.0, 2.0, 3.0])]
    [-0.48, 4.48]
    """
    low, high = interval(paired(np.asarray(values, dtype=float)[None], [1.0]), level)
    return float(low), float(high)


def holm(p: ArrayLike) -> Array:
    """Holm's adjusted p-values along the last axis; hypotheses that can't be tested yet have p = 1.

    >>> [round(float(q), 3) for q in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    count = p.shape[-1]
    order = np.argsort(p, axis=-1, kind="stable")
    stepped = np.take_along_axis(p, order, -1) * np.arange(count, 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0)
    found = np.empty_like(adjusted)
    np.put_along_axis(found, order, adjusted, -1)
    return found


def power(gap: float, sd: float, seeds: int, alpha: float, rows: float = 2.0) -> float:
    """Chance that a one-sided test at level alpha finds a true difference.

    Args:
        gap: True difference.
        sd: Standard deviation of the difference of one seed of each row.
        seeds: Seeds per row.
        alpha: Level of the test; alpha over the number of comparisons under Holm's correction.
        rows: How many rows of equal weight and spread would have as well known an error
            (:func:`spread`); 2 for one row against another, 1 where seeds are compared in pairs.
    """
    if sd <= 0:
        return float(gap > 0)
    # Welch's degrees of freedom are estimated; these are what estimates of expected size give.
    each = seeds - 1
    freedom = each * (rows * each + 2) / (each + 2)
    shift = gap / (sd / np.sqrt(seeds))
    critical = special.stdtrit(freedom, 1 - alpha)
    missed = special.nctdtr(freedom, shift, critical)
    if not np.isfinite(missed):
        # Far out the exact series fails; the usual approximation by a normal distribution is closest there.
        scale = np.sqrt(1 + critical**2 / (2 * freedom))
        missed = special.ndtr((critical * (1 - 1 / (4 * freedom)) - shift) / scale)
    return float(1 - missed)


def spread(values: ArrayLike, weights: ArrayLike, *, pairs: bool) -> tuple[float, float]:
    """Standard deviation of a difference from one seed of each row, and the effective number of rows.

    The latter is by Satterthwaite: (sum of v)^2 / sum of v^2 over the rows' shares v of the variance.

    Args:
        values: Shape (rows, seeds), two seeds at least.
        weights: Shape (rows,).
        pairs: Whether seeds are compared one by one.
    """
    values, weights = np.asarray(values, dtype=float), np.asarray(weights, dtype=float)
    if pairs:
        return float((weights @ values).std(ddof=1)), 1.0
    parts = weights**2 * _variance(values)
    total = float(parts.sum())
    return total**0.5, total**2 / float((parts**2).sum()) if total else 2.0


def seeds_needed(
    gap: float, sd: float, alpha: float, *, wanted: float = 0.8, rows: float = 2.0, most: int = 10_000
) -> int | None:
    """Least number of seeds per row, from three up, with the wanted power; None when `most` are too few.

    >>> seeds_needed(1.0, 0.5 * 2**0.5, 0.05)
    5
    """
    if gap <= 0 or power(gap, sd, most, alpha, rows) < wanted:
        return None
    low, high = 2, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(gap, sd, middle, alpha, rows) >= wanted else (middle, high)
    return high


def detectable(sd: float, seeds: int, alpha: float, *, wanted: float = 0.8, rows: float = 2.0) -> float:
    """Smallest true difference that is found with the wanted power.

    >>> round(detectable(0.5 * 2**0.5, 5, 0.05), 2)
    0.88
    """
    if sd <= 0:
        return 0.0
    low, high = 0.0, sd
    while power(high, sd, seeds, alpha, rows) < wanted:
        high *= 2
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, sd, seeds, alpha, rows) >= wanted else (middle, high)
    return high
