"""Every claim of the paper with what the published records say about it."""

from collections.abc import Iterable

from cbnorm.report.claim_tables import tally
from cbnorm.report.ledger import Claim, read_claims
from cbnorm.report.summary import Collected
from cbnorm.report.verdicts import Verdict

_INTRO = """# Claims

Every comparison that the paper (arXiv 2403.16798v2) states, and some beside: what it implies, what the id
lists that its authors released suggest, and what the UAN paper (2409.04757) says of its DenseNets. They are
in our words, with what the records under `results/records` and the timings under `results/bench` say about
them by [the rules](statistics.md). Rows, gaps, margins and numbers of seeds are those of
`experiments/*/claims.csv`; [what was known](statistics.md#what-was-changed-when) when lines were added is
told. `cbnorm explain ID store=results/records` shows the runs behind a line. This page is made by `make
published`; a test compares the two.

*Published* is the difference between the paper's own numbers. All differences, and margins, are in points of
accuracy; of test error, loss and distances in their own units; of speed in per cent of the budget's epochs.
They are positive where they agree with the claim. Runs on a part of Tiny ImageNet, on MNIST to USPS and on a
sample of the pets are of other data than what is claimed: here they decide nothing.

"""


def page(entries: Iterable[Collected]) -> str:
    """The whole of docs/claims.md, from all experiments, collected and judged."""
    judged = [entry for entry in entries if entry.verdicts]
    every = [told for entry in judged for told in entry.verdicts]
    return (
        _INTRO + f"In all, {tally(every)} {_origins(every)}\n" + "".join(_section(entry) for entry in judged)
    )


def _origins(verdicts: list[Verdict]) -> str:
    """Who says so: claims counted by what column ``where`` names."""
    places = {told.claim.id: told.claim.where for told in verdicts}.values()
    implied, lists, other = (
        sum(sign in where for where in places) for sign in ("implied", "released", "UAN paper")
    )
    stated = len(places) - implied - lists - other
    return (
        f"The paper states {stated} of them and implies {implied}, {lists} are suggested by the released id "
        f"lists, {other} are of the UAN paper."
    )


def _section(entry: Collected) -> str:
    name = entry.found.experiment
    lines = ["", f"## {name}", "", tally(entry.verdicts), ""]
    lines += ["| claim | where | what | published | margin | seeds | verdict |", "|---" * 7 + "|"]
    lines += [_row(claim, entry.verdicts) for claim in read_claims(name)]
    return "\n".join(lines) + "\n"


def _row(claim: Claim, verdicts: list[Verdict]) -> str:
    gap = "" if claim.gap is None else f"{claim.gap:+g}"
    counted = claim.family != ""
    told = "; ".join(_told(verdict) for verdict in verdicts if verdict.claim.id == claim.id)
    numbers = [gap, f"{claim.least:g}" if counted else "", str(claim.seeds) if counted else ""]
    return f"| `{claim.id}` | {claim.where} | {claim.what} | {' | '.join(numbers)} | {told} |"


def _told(verdict: Verdict) -> str:
    place = f"{verdict.budget}, {verdict.protocol}: " if verdict.budget else ""
    difference = "" if verdict.difference is None else f" ({verdict.difference:+.{verdict.claim.digits}f})"
    remark = f": {verdict.remark}" if verdict.remark else ""
    return f"{place}{verdict.told}{remark}{difference}"
