"""Where a verdict comes from: the claim, the values behind it, and the command that gets the runs."""

from collections.abc import Iterator, Sequence

from cbnorm.config.choices import experiments
from cbnorm.errors import CbnormError
from cbnorm.report.blocks import Collection, TableRow
from cbnorm.report.claim_tables import table
from cbnorm.report.collect import collect
from cbnorm.report.comparison import Pairing
from cbnorm.report.endpoints import PRIMARY_PERCENT
from cbnorm.report.evidence import Evidence
from cbnorm.report.explain import row_summary
from cbnorm.report.ledger import Claim, ledgers, names, read_claims
from cbnorm.report.places import find_place
from cbnorm.report.repeat import command
from cbnorm.report.verdicts import judge
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
            lines += [f"  {line}" for line in _per_row(claim, found, verdict.budget, verdict.protocol)]
    rows = [row for row in _rows(claim) if runnable]
    if rows and not claim.testable:
        key = find_place(experiment, claim.dataset, rows[0]).key
        wanted = command(experiment, key, rows, range(claim.seeds), filters, evidence)
        lines += ["", f"runs for a verdict: {wanted}"]
    return "\n".join(lines)


def _rows(claim: Claim) -> Sequence[str]:
    """The rows that a claim needs; for a composed one, those of its parts."""
    if claim.kind in {"all", "any"}:
        if not claim.dataset:
            return []
        parts = [known[1] for name in names(claim.a) if (known := find_claim(name))]
        return list(dict.fromkeys(row for part in parts for row in part.weights))
    return claim.rows


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


def _per_row(claim: Claim, found: Collection, budget: str, protocol: str) -> Iterator[str]:
    for block in found.blocks:
        if claim.dataset not in block.datasets or (block.budget, block.protocol) != (budget, protocol):
            continue
        for label in _rows(claim):
            row = block.row(label, claim.dataset)
            yield f"{label}: {_seeds(row)}" if row else f"{label}: no runs"


def _seeds(row: TableRow) -> str:
    cell = row.cell(PRIMARY_PERCENT)
    if cell is None or not cell.values:
        return "no runs"
    digits, values = digits_of(cell.metric, cell.mean), zip(cell.seeds, cell.values, strict=True)
    each = ", ".join(f"{seed}: {value:.{digits}f}" for seed, value in values)
    return f"{row_summary(cell)} (seed: {cell.metric} {each})"
