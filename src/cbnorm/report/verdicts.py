"""What the runs say about the claims of a table, by the rules of docs/statistics.md."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cbnorm.report.blocks import Block, Collection
from cbnorm.report.comparison import Pairing, reached
from cbnorm.report.costs import cost_verdict, count_verdict
from cbnorm.report.evidence import Evidence
from cbnorm.report.ledger import Claim, names, read_claims
from cbnorm.report.pending import Pending, difference, look, tested
from cbnorm.report.policy import ALPHA, LEAST_SEEDS, POWER, look_that_finds
from cbnorm.report.samples import Sample, sample
from cbnorm.report.statistics import Array, detectable, interval, spread

#: The verdict on a claim whose rows have no run at all.
NOT_RUN = "not run"
#: Verdicts that decide, and then those that don't, in the order in which they are counted.
DECIDED = ("supported", "refuted", "equivalent", "different")
WORDS = (*DECIDED, "inconclusive", "no verdict yet", NOT_RUN, "not testable")
_SILENT = {NOT_RUN, "not testable"}
_COMPARED, _COMPOSED = {"difference", "equivalence", "speed"}, {"all", "any"}


@dataclass(frozen=True)
class Verdict:
    """What is known about one claim at one budget under one protocol.

    Attributes:
        claim: The claim.
        budget: The budget; empty where no run bears on the claim.
        protocol: The protocol; likewise.
        verdict: ``supported``, ``refuted``, ``equivalent``, ``different``, ``inconclusive``, ``no verdict
            yet``, ``not run`` (but it could be) or ``not testable``.
        remark: What has to be known beside it.
        seeds: Seeds that all compared rows share.
        used: How many of them the verdict rests on.
        difference: Estimated difference, positive where the claim holds; with its 95 % interval, which is not
            corrected for other claims.
        supports: P-value in favour of the claim, corrected for the family.
        refutes: P-value against it, likewise.
        method: How the difference was tested.
        pairing: Why seeds were compared in pairs or not, and what the other way says.
        detectable: The true difference that so many seeds find with 80 % chance.
        needed: Seeds of the planned look that finds the published gap with 80 % chance (below budget full:
            five margins), or that shows the equality of equal rows; 0 if none does.
        runs: The runs that it rests on.
        times: Of a claim of cost: the least and the most that the one layer takes of the other's time, over
            the medians of all measurements.
    """

    claim: Claim
    budget: str = ""
    protocol: str = ""
    verdict: str = "not testable"
    remark: str = ""
    seeds: int = 0
    used: int = 0
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    supports: float | None = None
    refutes: float | None = None
    method: str = ""
    pairing: Pairing | None = None
    detectable: float | None = None
    needed: int | None = None
    runs: tuple[str, ...] = ()
    times: tuple[float, float] | None = None

    @property
    def untouched(self) -> bool:
        """Whether no run of any of its rows is there, so that there is nothing to say but that."""
        return self.verdict == NOT_RUN and not self.remark

    @property
    def told(self) -> str:
        """The verdict with the budget that it is about, where that is not the paper's."""
        silent = self.budget in {"", "full"} or self.verdict in {*_SILENT, "no verdict yet"}
        return self.verdict if silent else f"{self.verdict} at budget {self.budget} only"


def judge(found: Collection, evidence: Evidence) -> list[Verdict]:
    """Verdicts on every claim of a table, for every budget and protocol with runs, and once without."""
    claims = read_claims(found.experiment)
    places: dict[tuple[str, str], list[Block]] = defaultdict(list)
    for block in found.blocks:
        if not block.customised and block.filled:
            places[block.budget, block.protocol].append(block)
    told = [v for place, blocks in places.items() for v in _judge_place(claims, blocks, evidence, *place)]
    met = {verdict.claim.id for verdict in told}
    return told + [_without_runs(claim) for claim in claims if claim.id not in met]


def _without_runs(claim: Claim) -> Verdict:
    if claim.kind in {"cost", "count"} and not claim.testable:
        return Verdict(claim, **(cost_verdict(claim) if claim.kind == "cost" else count_verdict(claim)))
    return Verdict(claim, remark=claim.testable) if claim.testable else Verdict(claim, verdict=NOT_RUN)


def _judge_place(
    claims: Sequence[Claim], blocks: Sequence[Block], evidence: Evidence, budget: str, protocol: str
) -> Iterator[Verdict]:
    pending = {claim.id: _pending(claim, blocks, evidence, budget) for claim in claims}
    families: dict[str, list[Pending]] = defaultdict(list)
    for entry in pending.values():
        if entry.claim.kind in _COMPOSED and not entry.reason:
            entry.compose([pending[name] for name in names(entry.claim.a)])
        if entry.claim.family and not entry.claim.testable:
            families[entry.claim.family].append(entry)
    for family in families.values():
        look(family, evidence)
    for entry in pending.values():
        entry.settle()
    for entry in pending.values():
        if entry.sample or entry.parts or entry.reason not in {"", NOT_RUN}:
            size = len(families.get(entry.claim.family, [entry]))
            yield _verdict(entry, (budget, protocol), size, evidence)


def _pending(claim: Claim, blocks: Sequence[Block], evidence: Evidence, budget: str) -> Pending:
    """A claim with its values, or with the reason why there can be none."""
    if claim.testable or claim.kind not in _COMPARED | _COMPOSED:
        # What no run can answer is told once, apart from budgets.
        return Pending(claim, reason=NOT_RUN)
    if claim.kind in _COMPOSED:
        return Pending(claim)
    own = [block for block in blocks if claim.dataset in block.datasets]
    if not own:
        parts = [block.dataset for block in blocks if block.dataset.startswith(f"{claim.dataset} (")]
        return Pending(claim, reason=f"wrong data: {parts[0]} is not all of it" if parts else NOT_RUN)
    if claim.at_least and budget != "full":
        return Pending(claim, reason="a size at the paper's budget is claimed")
    taken = sample(claim, own[0], evidence)
    return Pending(claim, reason=taken) if isinstance(taken, str) else Pending(claim, taken)


def _verdict(entry: Pending, place: tuple[str, str], size: int, evidence: Evidence) -> Verdict:
    """What is told of a claim after all looks, at a budget under a protocol."""
    claim = entry.claim
    if entry.reason:
        word = NOT_RUN if entry.reason.startswith(NOT_RUN) else "not testable"
        return Verdict(claim, *place, word, remark=entry.reason.removeprefix(f"{NOT_RUN}: "))
    told = Verdict(claim, *place, "no verdict yet", seeds=entry.available)
    if entry.seeds:
        told = replace(told, verdict=entry.verdict or "inconclusive", used=entry.seeds)
        told = replace(told, supports=entry.supports, refutes=entry.refutes, remark=_remark(entry))
    else:
        told = replace(told, remark=f"{entry.complete} of {claim.seeds} seeds so far", seeds=entry.complete)
    if not told.seeds:
        return told
    return _composed(told, entry) if entry.parts else _estimated(told, entry, size, evidence)


def _remark(entry: Pending) -> str:
    later = f"look {entry.look}" if entry.look > 1 else ""
    if entry.verdict == "supported" and entry.refutes <= ALPHA / 2**entry.look:
        return "; ".join(filter(None, [later, f"smaller than {entry.claim.at_least + entry.claim.least:g}"]))
    return later


def _composed(told: Verdict, entry: Pending) -> Verdict:
    """The part on which a composed claim hangs: the best of any, the worst of all."""
    count = told.used or told.seeds
    parts = [part for part in entry.parts if part.available >= count]
    differences = [difference(part, count) for part in parts]
    runs = dict.fromkeys(run for part in parts if part.sample for run in part.sample.runs(count))
    worst = min(differences) if entry.claim.kind == "all" else max(differences)
    return replace(told, difference=worst, runs=tuple(runs))


def _estimated(told: Verdict, entry: Pending, size: int, evidence: Evidence) -> Verdict:
    """The estimate beside the verdict; below three seeds, the plain difference and nothing else."""
    taken, count = entry.sample, told.used or told.seeds
    assert taken is not None  # noqa: S101 (tells the type checker)
    told = replace(told, difference=difference(entry, count), runs=taken.runs(count))
    if count < LEAST_SEEDS:
        return told
    shown = tested(entry, count, evidence)
    told = replace(told, method=shown.method, pairing=shown.pairing)
    if told.claim.kind == "speed":
        told = replace(told, remark="; ".join(filter(None, [told.remark, _arrivals(taken, count)])))
    if not shown.found.error:
        still = "no value varies: nothing to test"
        return replace(told, remark=f"{told.remark}; {still}".removeprefix("; "))
    low, high = interval(shown.found)
    told = replace(told, low=float(low), high=float(high))
    return _with_power(told, taken.take(count), taken.weights, entry.look, size)


def _arrivals(taken: Sample, count: int) -> str:
    """How many runs of each row got there."""
    arrived = zip(taken.labels, reached(taken.take(count)), strict=True)
    return "got there: " + ", ".join(f"{label} {runs} of {count}" for label, runs in arrived)


def _with_power(told: Verdict, values: Array, weights: Array, number: int, size: int) -> Verdict:
    """What so many seeds can find, and how many would find what is claimed."""
    claim = told.claim
    sd, rows = spread(values, weights, pairs="in pairs" in told.method)

    def needed(gap: float, wanted: float = POWER) -> int:
        return look_that_finds(gap, sd, claim.seeds, size, rows=rows, wanted=wanted)

    if claim.kind == "equivalence":
        # Equal rows are found to be when both one-sided tests succeed.
        return replace(told, needed=needed(claim.margin, (1 + POWER) / 2))
    found = claim.at_least + detectable(
        sd, told.used or told.seeds, ALPHA / 2 ** max(number, 1) / size, rows=rows
    )
    gap = claim.gap - claim.at_least if budget_is_full(told) and claim.gap else claim.planned
    return replace(told, detectable=found, needed=None if claim.kind == "speed" else needed(gap))


def apart_from_runs(verdict: Verdict) -> bool:
    """Whether a verdict was decided by timings or by counting, without any trained network."""
    return verdict.verdict in DECIDED and not verdict.budget


def budget_is_full(verdict: Verdict) -> bool:
    """Whether a verdict may be set beside the paper's numbers."""
    return verdict.budget == "full"


def speak(verdicts: Sequence[Verdict]) -> bool:
    """Whether any of the verdicts rests on a run or a measurement."""
    return any(told.budget or told.verdict not in _SILENT for told in verdicts)
