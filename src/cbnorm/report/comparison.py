"""The test of one comparison, on the seeds of a look."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cbnorm.report.bootstrap import standard_error
from cbnorm.report.endpoints import PRIMARY_METRIC, PRIMARY_PERCENT
from cbnorm.report.evidence import Evidence
from cbnorm.report.ledger import Claim
from cbnorm.report.policy import BOOTSTRAP_SEEDS, REACHED_FASTER, REACHED_OTHERS, directions
from cbnorm.report.samples import Sample
from cbnorm.report.statistics import (
    Array,
    Estimate,
    correlation,
    estimate,
    paired,
    welch,
    worth_pairing,
)


class Pairing(NamedTuple):
    """What decided whether seeds are compared in pairs, and what either way says.

    Attributes:
        others: How many rows take no part and have all of the seeds.
        correlation: How much these correlate over seeds, on average.
        limit: The correlation above which seeds are compared in pairs.
        paired: P-values by t for the claim and against it, in pairs, before correction.
        apart: Likewise without pairs.
    """

    others: int
    correlation: float
    limit: float
    paired: tuple[float, float]
    apart: tuple[float, float]


@dataclass(frozen=True)
class Test:
    """One comparison, tested: the estimate, both p-values before correction, and how it was done.

    `pairing` is missing where no row could tell about pairs.
    """

    found: Estimate
    supports: float
    refutes: float
    method: str
    pairing: Pairing | None = None


def test(taken: Sample, count: int, evidence: Evidence) -> Test:
    """Test a comparison on its first so many seeds.

    Args:
        taken: The values.
        count: How many seeds.
        evidence: Where predictions lie, for the bootstrap.
    """
    values, bystanders = taken.take(count), taken.bystanders(count)
    found, pairs = estimate(values, taken.weights, bystanders)
    method = "t, in pairs" if pairs else "t, Welch"
    if count >= BOOTSTRAP_SEEDS and taken.claim.kind != "speed" and taken.claim.metric == PRIMARY_METRIC:
        correct = _predictions(taken, count, evidence)
        if correct:
            error = standard_error(correct, list(taken.weights), together=bool(pairs))
            found = Estimate(found.difference, np.asarray(error), found.freedom)
            method = method.replace("t,", "bootstrap over seeds and images,")
        else:
            method += ", predictions missing"
    for_it, against = _p_values(found, taken.claim)
    if taken.claim.kind == "speed" and _seldom(values, taken.weights):
        against = 1.0
    return Test(found, for_it, against, method, _pairing(taken, values, bystanders))


def _p_values(found: Estimate, claim: Claim) -> tuple[float, float]:
    equivalence = claim.kind == "equivalence"
    for_it, against = directions(found, claim.least, claim.at_least, equivalence=equivalence)
    return float(for_it), float(against)


def _pairing(taken: Sample, values: Array, bystanders: Array) -> Pairing | None:
    others, seeds = bystanders.shape
    if others < 2:
        return None
    return Pairing(
        others,
        float(correlation(bystanders)),
        worth_pairing(seeds),
        _p_values(paired(values, taken.weights), taken.claim),
        _p_values(welch(values, taken.weights), taken.claim),
    )


def _seldom(values: Array, weights: Array) -> bool:
    """Whether too few runs get there for a refutation: nearly equal values make the error look too small."""
    shares = reached(values) / values.shape[-1]
    return bool((shares < np.where(weights < 0, REACHED_FASTER, REACHED_OTHERS)).any())


def reached(values: Array) -> NDArray[np.int_]:
    """How many runs of each row (rows, seeds) of a claim about speed got there before the budget's end."""
    return (values < PRIMARY_PERCENT).sum(axis=-1)


def _predictions(taken: Sample, count: int, evidence: Evidence) -> list[np.ndarray]:
    """Per row which test images every seed got right; nothing if any of it is missing."""
    rows = []
    for cell in taken.cells:
        found = [
            evidence.correct(run, cell.epoch, cell.reading, cell.condition)
            for run in cell.pick_runs(taken.seeds[:count])
        ]
        present = [flags for flags in found if flags is not None]
        if len(present) < count or len({flags.size for flags in present}) > 1:
            return []
        rows.append(np.stack(present))
    return rows if len({row.shape[1] for row in rows}) == 1 else []
