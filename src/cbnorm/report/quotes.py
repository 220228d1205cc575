"""Numbers quoted in pages that people write: links that say which number it is, filled in from the records.

``[70.04](evidence.md#table5-cifar-10-small-sound-bn-1)`` is the number that the row's table is about, at the
end of the budget. A title asks for another one of the row, in words parted by commas: ``best`` or ``last``
for the weights, ``75 %`` of the budget, a metric, ``seed 0`` or ``seeds 0..4`` alone. With ``claims.md`` it
is the difference that a claim is about: ``[+1.22](claims.md#table5 "c10-scb-1-bn small sound")``; with
``, p`` behind it, its corrected p-value on the side of the difference; with ``, p in pairs`` or ``, p without
pairs`` that of either way, by t and before correction; with ``, others`` and ``, correlation`` the rows that
decided between them. Of a claim of cost, how many times the other's time: ``[9.02 to 9.79](claims.md#cost
"cost-ucb")``.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cbnorm.errors import CbnormError
from cbnorm.report.blocks import Cell, TableRow
from cbnorm.report.claim_tables import interval_of
from cbnorm.report.evidence_page import address, heading
from cbnorm.report.summary import Collected
from cbnorm.report.verdicts import Verdict
from cbnorm.report.words import mean_sd
from cbnorm.runs.plan import parse_seeds

_LINK = re.compile(
    r"\[(?P<text>[^\][]*)\]"
    r"\((?P<path>(?:\.\./)*(?P<page>evidence|claims)\.md)#(?P<anchor>[^)\s]+)"
    r"(?P<title> \"(?P<asked>[^\"]*)\")?\)"
)


@dataclass(frozen=True)
class Quotes:
    """What can be quoted: rows by their address on the page of evidence, verdicts by claim and place."""

    rows: dict[str, TableRow]
    verdicts: dict[str, Verdict]

    @classmethod
    def of(cls, entries: Iterable[Collected]) -> "Quotes":
        """All that the records show."""
        entries = list(entries)
        blocks = [block for entry in entries for block in entry.found.blocks]
        rows = {address(heading(block, row)): row for block in blocks for row in block.rows if row.main}
        verdicts = [told for entry in entries for told in entry.verdicts]
        named = {f"{told.claim.id} {told.budget} {told.protocol}".strip(): told for told in verdicts}
        return cls(rows, named)

    def fill(self, text: str, page: str) -> str:
        """A page with its quotes brought up to date.

        Raises:
            CbnormError: A quote names no row, no claim, or a number that the row doesn't have.
        """
        return _LINK.sub(lambda match: self._filled(match, page), text)

    def _filled(self, match: re.Match[str], page: str) -> str:
        if match["page"] == "claims" and match["asked"] is None:
            return match[0]
        found = self._claim(match["asked"]) if match["page"] == "claims" else self._number(match)
        if not found:
            asked = f" {match['asked']}" if match["asked"] else ""
            raise CbnormError(
                f"{page} quotes {match['page']}.md#{match['anchor']}{asked}: there is no such number"
            )
        return f"[{found}]({match['path']}#{match['anchor']}{match['title'] or ''})"

    def _claim(self, asked: str) -> str:
        name, comma, wanted = asked.partition(", ")
        told = self.verdicts.get(name)
        if told is None:
            return ""
        if comma:
            return _behind(told).get(wanted, "")
        return _times(told.times) if told.times else interval_of(told)

    def _number(self, match: re.Match[str]) -> str:
        row = self.rows.get(match["anchor"])
        cell = _cell(row, (match["asked"] or "").split(", ")) if row else None
        return mean_sd(cell) if cell else ""


def _behind(told: Verdict) -> dict[str, str]:
    """What can be said of a verdict beside its difference; p-values on the side where the difference lies."""
    side = 0 if (told.difference or 0.0) > 0 else 1
    corrected, pairing = (told.supports, told.refutes)[side], told.pairing
    found = {} if corrected is None else {"p": f"{corrected:.3f}"}
    if pairing:
        found |= {"others": str(pairing.others), "correlation": f"{pairing.correlation:z.2f}"}
        ways = {"p in pairs": pairing.paired, "p without pairs": pairing.apart}
        # Before correction, by up to 36, a third digit would not do.
        found |= {name: f"{values[side]:.4f}" for name, values in ways.items()}
    return found


def _times(times: tuple[float, float]) -> str:
    """The least and the most.

    >>> _times((9.02, 9.79)), _times((0.021, 0.022))
    ('9.02 to 9.79', '0.02')
    """
    return " to ".join(dict.fromkeys(f"{value:.2f}" for value in times))


def _cell(row: TableRow, words: list[str]) -> Cell | None:
    """The cell that words ask for; where they say nothing, that which the table is about."""
    seeds = [word for word in words if word.startswith("seed")]
    found = _place(row, [word for word in words if word not in seeds])
    if found is None or not seeds:
        return found
    wanted = parse_seeds(seeds[0].rpartition(" ")[2])
    if len(seeds) > 1 or not set(wanted) <= set(found.seeds):
        return None
    values, runs = tuple(found.pick(wanted)), tuple(found.pick_runs(wanted))
    return replace(found, seeds=tuple(wanted), values=values, runs=runs)


def _place(row: TableRow, words: list[str]) -> Cell | None:
    usual = row.main[-1]
    metrics = {cell.metric for cell in row.cells}
    asked = dict.fromkeys(filter(None, words))
    kinds = {"best": "reading", "last": "reading"} | dict.fromkeys(metrics, "metric")
    wanted = {"reading": usual.reading, "metric": usual.metric, "share": f"{usual.percent} %"}
    wanted |= {kinds.get(word, "share"): word for word in asked}
    found = (c for c in row.cells if [c.reading, c.metric, f"{c.percent} %"] == list(wanted.values()))
    return next(found, None)
