"""A claim on its way to a verdict: looks at growing numbers of seeds, corrected for its family."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cbnorm.report.comparison import Test, test
from cbnorm.report.evidence import Evidence
from cbnorm.report.ledger import Claim
from cbnorm.report.policy import all_of, any_of, decide, looks
from cbnorm.report.samples import Sample
from cbnorm.report.statistics import holm


@dataclass
class Pending:
    """A claim on its way to a verdict: its sample and what the looks so far said."""

    claim: Claim
    sample: Sample | None = None
    reason: str = ""
    parts: "list[Pending]" = field(default_factory=list)
    tests: dict[int, Test] = field(default_factory=dict)
    verdict: str = ""
    look: int = 0
    seeds: int = 0
    supports: float = 1.0
    refutes: float = 1.0

    def compose(self, parts: "list[Pending]") -> None:
        """Take the parts that the claim is made of, if any of them has values."""
        if any(part.sample for part in parts):
            self.parts = parts
        else:
            self.reason = parts[0].reason

    def settle(self) -> None:
        """After the looks: one part may have decided; if not, all are needed."""
        lacking = [part.reason for part in self.parts if part.reason]
        if lacking and not self.verdict:
            self.reason, self.parts = lacking[0], []

    @property
    def available(self) -> int:
        """Seeds that all rows share; for a composed claim, the most over its parts: one part may decide."""
        if self.parts:
            return max(part.available for part in self.parts)
        return len(self.sample.seeds) if self.sample else 0

    @property
    def complete(self) -> int:
        """Seeds that the rows of all parts share."""
        return min(part.available for part in self.parts) if self.parts else self.available


def look(family: Sequence[Pending], evidence: Evidence) -> None:
    """Look at a family as often as its seeds allow; the first look that decides a claim is its verdict."""
    planned = max(entry.claim.seeds for entry in family)
    for number, seeds, level in looks(planned):
        if not any(entry.available >= seeds for entry in family):
            return
        p = np.array([_p_values(entry, seeds, evidence) for entry in family])
        supported, refuted = decide(p[:, 0], p[:, 1], level)
        adjusted = np.stack([holm(p[:, 0]), holm(p[:, 1])], axis=-1).tolist()
        for entry, yes, no, both in zip(family, supported, refuted, adjusted, strict=True):
            word = _word(entry.claim, supported=bool(yes), refuted=bool(no))
            if not entry.verdict and (entry.complete >= seeds or (word and entry.available >= seeds)):
                entry.look, entry.seeds = number, seeds
                entry.supports, entry.refutes = both
                entry.verdict = word


def _word(claim: Claim, *, supported: bool, refuted: bool) -> str:
    if claim.kind == "equivalence":
        return "equivalent" if supported else "different" if refuted else ""
    return "supported" if supported else "refuted" if refuted else ""


def _p_values(entry: Pending, seeds: int, evidence: Evidence) -> tuple[float, float]:
    """P-values at a look, before correction; 1 where the seeds don't suffice yet."""
    if entry.available < seeds:
        return 1.0, 1.0
    if entry.parts:
        supports, refutes = zip(*(_p_values(part, seeds, evidence) for part in entry.parts), strict=True)
        combine = all_of if entry.claim.kind == "all" else any_of
        for_it, against = combine([np.array(p) for p in supports], [np.array(p) for p in refutes])
        return float(for_it), float(against)
    found = tested(entry, seeds, evidence)
    return found.supports, found.refutes


def tested(entry: Pending, seeds: int, evidence: Evidence) -> Test:
    """The test of a claim on its first so many seeds, made once."""
    assert entry.sample is not None  # noqa: S101 (tells the type checker)
    if seeds not in entry.tests:
        entry.tests[seeds] = test(entry.sample, seeds, evidence)
    return entry.tests[seeds]


def difference(entry: Pending, count: int) -> float:
    """The plain difference over the first so many seeds."""
    assert entry.sample is not None  # noqa: S101 (tells the type checker)
    return float(entry.sample.take(count).mean(-1) @ entry.sample.weights)
