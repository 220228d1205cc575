"""Where a verdict comes from: the claim, the values behind it, and the command that gets the runs."""

import statistics
from collections.abc import Iterator, Sequence

from cbnorm.config.choices import experiments
from cbnorm.errors import CbnormError
from cbnorm.report.blocks import Block, Collection
from cbnorm.report.claim_tables import table
from cbnorm.report.collect import collect
from cbnorm.report.comparison import Pairing
from cbnorm.report.endpoints import PRIMARY_PERCENT
from cbnorm.report.evidence import SHAPES, Evidence
from cbnorm.report.explain import summary_of
from cbnorm.report.ledger import Claim, ledgers, names, read_claims
from cbnorm.report.places import find_place
from cbnorm.report.repeat import command
from cbnorm.report.samples import sample
from cbnorm.report.verdicts import Verdict, judge
from cbnorm.report.words import digits_of
from cbnorm.spelling import guess


def find_claim(word: str) -> tuple[str, Claim] | None:
    """The experiment and claim of an id; None if no claim has it."""
    found = ((name, claim) for name in ledgers() for claim in read_claims(name) if claim.id == word.lower())
    return next(found, None)


def claim_ids() -> list[str]:
    """The ids of all claims."""
    return [claim.id for name in ledgers() for claim in read_claims(name)]


def explain_claim(word: str, evidence: Evidence, filters: dict[str, str]) -> str:
    """Everything behind one claim.

    Raises:
        CbnormError: No claim has that id; tells the nearest.
    """
    known = find_claim(word)
    if known is None and word in experiments():
        raise CbnormError(
            f"{word} is a table: name a cell of it, as in cbnorm explain table5 CIFAR-10 UCB-Norm-1 100"
        )
    if known is None:
        known_ones = f"tables are {', '.join(experiments())}; claims are in docs/claims.md"
        meant = guess(word, [*claim_ids(), *experiments()])
        raise CbnormError(f"no table and no claim is called '{word}': {meant or known_ones}")
    experiment, claim = known
    runnable = experiment in experiments()
    found = collect(experiment, evidence.records, filters=filters) if runnable else Collection(experiment)
    told = [verdict for verdict in judge(found, evidence) if verdict.claim.id == claim.id]
    lines = [
        f"{claim.id} ({experiment}, {claim.where}): {claim.what}",
        f"kind: {claim.kind}, margin {claim.least:g}",
    ]
    lines.append(f"compares: {claim.a or 'nothing that runs measure'} with {claim.b or 'each other'}")
    if claim.gap is not None:
        lines.append(f"published: {claim.gap:+g}")
    lines += ["", *table(told)]
    for verdict in told:
        if verdict.budget:
            lines += [
                "",
                f"budget {verdict.budget}, protocol {verdict.protocol}: {verdict.method or 'not tested'}",
            ]
            lines += [f"  {line}" for line in _pairing(verdict.pairing)]
            lines += [f"  {line}" for line in _per_row(verdict, found, evidence)]
    rows = [row for row in _rows(claim) if runnable]
    if rows and not claim.testable:
        key = find_place(experiment, claim.dataset, rows[0]).key
        wanted = command(experiment, key, rows, range(claim.seeds), filters, evidence)
        lines += ["", f"runs for a verdict: {wanted}"]
    return "\n".join(lines)


def _parts(claim: Claim) -> Sequence[Claim]:
    """The claims that a composed one is made of; any other is its own only part."""
    if claim.kind not in {"all", "any"}:
        return [claim]
    return [known[1] for name in names(claim.a) if (known := find_claim(name))]


def _rows(claim: Claim) -> Sequence[str]:
    """The rows that a claim needs; for a composed one, those of its parts."""
    if claim.kind not in {"all", "any"}:
        return claim.rows
    if not claim.dataset:
        return []
    return list(dict.fromkeys(row for part in _parts(claim) for row in part.weights))


def _pairing(pairing: Pairing | None) -> Iterator[str]:
    """Why seeds are compared in pairs or not, and how much hangs on it."""
    if pairing is None:
        return
    yield (
        f"pairs: the {pairing.others} other rows with these seeds correlate by {pairing.correlation:z.2f} "
        f"(in pairs above {pairing.limit:.2f})"
    )
    ways = {"in pairs": pairing.paired, "without pairs": pairing.apart}
    told = (f"{way} {supports:.4f} for, {refutes:.4f} against" for way, (supports, refutes) in ways.items())
    yield f"p by t before correction: {'; '.join(told)}"


def _per_row(told: Verdict, found: Collection, evidence: Evidence) -> Iterator[str]:
    place, count = (told.budget, told.protocol), told.used or told.seeds
    lines: dict[str, None] = {}
    for part in _parts(told.claim):
        for block in found.blocks:
            if part.dataset in block.datasets and (block.budget, block.protocol) == place:
                # Parts of a composed claim share rows, of which the same would be told.
                lines |= dict.fromkeys(_values(part, block, evidence, count))
    return iter(lines)


def _values(claim: Claim, block: Block, evidence: Evidence, count: int) -> Iterator[str]:
    """The values that are compared, row by row; before the rows share a seed, those that there are.

    Of a claim that is not tested at this budget, all that could be compared.
    """
    taken = sample(claim, block, evidence)
    if isinstance(taken, str) or not taken.seeds:
        yield from [taken] if isinstance(taken, str) and claim.goal else _so_far(claim, block)
        return
    what = f"% of the epochs until reaching {claim.goal}" if claim.goal else _measure(claim, block)
    seeds = taken.seeds[: count or None]
    for label, values in zip(taken.labels, taken.take(len(seeds)), strict=True):
        yield f"{label}: {_told(claim.metric, what, seeds, values.tolist())}"


def _so_far(claim: Claim, block: Block) -> Iterator[str]:
    """What runs of rows recorded that share no seed with the others yet."""
    percent = block.endpoint.percent(claim.moment)
    for label in claim.weights:
        row = block.row(label, claim.dataset)
        cell = row.cell(percent, metric=claim.metric) if row and percent is not None else None
        known = cell is not None and cell.values
        told = _told(claim.metric, _measure(claim, block), cell.seeds, cell.values) if cell and known else ""
        yield f"{label}: {told or 'no runs'}"


def _measure(claim: Claim, block: Block) -> str:
    percent = block.endpoint.percent(claim.moment)
    of = "median " if claim.metric in SHAPES else ""
    return of + claim.metric + (f" at {percent} %" if percent != PRIMARY_PERCENT else "")


def _told(metric: str, what: str, seeds: Sequence[int], values: Sequence[float]) -> str:
    digits = digits_of(metric, statistics.fmean(values))
    each = ", ".join(f"{seed}: {value:.{digits}f}" for seed, value in zip(seeds, values, strict=True))
    return f"{summary_of(values, digits)} (seed: {what} {each})"
