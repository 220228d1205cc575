"""The test of one comparison, on the seeds of a look."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cbnorm.report.bootstrap import standard_error
from cbnorm.report.endpoints import PRIMARY_METRIC, PRIMARY_PERCENT
from cbnorm.report.evidence import Evidence
from cbnorm.report.policy import BOOTSTRAP_SEEDS, REACHED_FASTER, REACHED_OTHERS, directions
from cbnorm.report.samples import Sample
from cbnorm.report.statistics import Array, Estimate, estimate


@dataclass(frozen=True)
class Test:
    """One comparison, tested: the estimate, both p-values before correction, and how it was done."""

    found: Estimate
    supports: float
    refutes: float
    method: str


def test(taken: Sample, count: int, evidence: Evidence) -> Test:
    """Test a comparison on its first so many seeds.

    Args:
        taken: The values.
        count: How many seeds.
        evidence: Where predictions lie, for the bootstrap.
    """
    values = taken.take(count)
    found, pairs = estimate(values, taken.weights, taken.bystanders(count))
    method = "t, in pairs" if pairs else "t, Welch"
    if count >= BOOTSTRAP_SEEDS and taken.claim.kind != "speed" and taken.claim.metric == PRIMARY_METRIC:
        correct = _predictions(taken, count, evidence)
        if correct:
            error = standard_error(correct, list(taken.weights), together=bool(pairs))
            found = Estimate(found.difference, np.asarray(error), found.freedom)
            method = method.replace("t,", "bootstrap over seeds and images,")
        else:
            method += ", predictions missing"
    claim = taken.claim
    for_it, against = directions(found, claim.least, claim.at_least, equivalence=claim.kind == "equivalence")
    if claim.kind == "speed" and _seldom(values, taken.weights):
        against = np.ones_like(against)
    return Test(found, float(for_it), float(against), method)


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
