"""The rules by which differences become verdicts, fixed before looking. docs/statistics.md says why."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cbnorm.report.statistics import Array, Estimate, holm, p_above, p_below, power

#: Chance per family of claims and direction that any verdict is false, all looks together.
ALPHA = 0.05
#: With which chance a true difference shall be found where numbers of seeds are worked out.
POWER = 0.8
#: Below this many seeds per row there are values, and no verdict.
LEAST_SEEDS = 3
#: From this many seeds per row on, the bootstrap over seeds and images takes the place of t.
BOOTSTRAP_SEEDS = 20
#: Shares of the runs that must reach the goal before a claim about speed is refuted: of the rows said to be
#: faster, and of the others, of which about half get to the mean of their own. From resampled histories.
REACHED_FASTER, REACHED_OTHERS = 0.75, 0.5
#: Looks after the first, each with twice the seeds.
LOOKS = 4
#: Standard deviation of a row over seeds, in points of accuracy, that the planned numbers of seeds assume.
ASSUMED_SD = 0.5


def looks(planned: int) -> Iterator[tuple[int, int, float]]:
    """Number, seeds per row and level of every look at claims planned for so many seeds.

    The level is spent by halves (alpha spending after Lan and DeMets, at fixed looks, added up by
    Bonferroni's inequality), so that all looks together keep to :data:`ALPHA` whenever one stops.

    >>> list(looks(5))[:2]
    [(1, 5, 0.025), (2, 10, 0.0125)]
    """
    for look in range(LOOKS):
        yield look + 1, planned * 2**look, ALPHA / 2 ** (look + 1)


def look_that_finds(
    gap: float, sd: float, planned: int, size: int, *, rows: float = 2.0, wanted: float = POWER
) -> int:
    """Seeds of the first planned look that finds a true difference; 0 if none does.

    Args:
        gap: The difference, less what is claimed to be exceeded.
        sd: Standard deviation of the difference of one seed of each row.
        planned: Seeds of the first look.
        size: Claims of the family.
        rows: As of :func:`cbnorm.report.statistics.power`.
        wanted: With which chance.
    """
    if gap <= 0:
        return 0
    enough = (
        seeds for _, seeds, level in looks(planned) if power(gap, sd, seeds, level / size, rows) >= wanted
    )
    return next(enough, 0)


def directions(found: Estimate, margin: float, at_least: float, *, equivalence: bool) -> tuple[Array, Array]:
    """P-values in favour of a claim and against it, before correction.

    Args:
        found: The estimated difference; the claim says that it is positive, or almost zero.
        margin: What counts as a difference.
        at_least: The claimed size, where the claim names one; else 0.
        equivalence: The claim is that the difference lies within the margin (two one-sided tests).
    """
    if equivalence:
        inside = np.maximum(p_above(found, -margin), p_below(found, margin))
        outside = 2 * np.minimum(p_above(found, margin), p_below(found, -margin))
        return inside, np.minimum(outside, 1.0)
    return p_above(found, at_least), p_below(found, at_least + margin)


def all_of(supports: Sequence[Array], refutes: Sequence[Array]) -> tuple[Array, Array]:
    """P-values of "every part holds": supported by the worst part, refuted by any (Bonferroni)."""
    return np.max(supports, axis=0), np.minimum(np.min(refutes, axis=0) * len(refutes), 1.0)


def any_of(supports: Sequence[Array], refutes: Sequence[Array]) -> tuple[Array, Array]:
    """P-values of "some part holds": supported by any part (Bonferroni), refuted by all."""
    return np.minimum(np.min(supports, axis=0) * len(supports), 1.0), np.max(refutes, axis=0)


def decide(supports: ArrayLike, refutes: ArrayLike, level: float) -> tuple[NDArray[np.bool_], ...]:
    """Which claims of a family (last axis) are supported, and which refuted, at the level of a look.

    Holm's correction runs over the whole family of the ledger, in each direction; claims that can't be
    tested yet take part with p = 1. A difference between 0 and its margin can be shown to be both: it is
    then supported, and small.
    """
    supported = holm(supports) <= level
    return supported, (holm(refutes) <= level) & ~supported
