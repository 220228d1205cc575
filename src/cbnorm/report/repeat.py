"""The command that trains rows of a table, or finds them trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cbnorm.errors import CbnormError
from cbnorm.report.evidence import Evidence
from cbnorm.report.publish import RECORDS
from cbnorm.runs.plan import row_configs

#: In the order in which they are suggested; the smallest one is for data sets that are too small for others.
_BUDGETS = ("small", "smoke", "full")


def command(
    experiment: str,
    dataset: str,
    rows: Sequence[str],
    seeds: Sequence[int] | range,
    place: Mapping[str, str],
    evidence: Evidence | None = None,
) -> str:
    """The command that trains rows, or finds them trained.

    Args:
        experiment: The table.
        dataset: Key of the data set.
        rows: Labels.
        seeds: Which.
        place: ``protocol`` and ``budget``; ``sound`` and the first one that the data set has images for are
            named where they are missing.
        evidence: Where runs were looked for, if that is where they are to be trained.
    """
    protocol = place.get("protocol", "sound")
    budget = place.get("budget") or _budget(experiment, dataset, protocol, rows)
    named = ",".join(rows)
    quoted = f"'rows={named}'" if " " in named else f"rows={named}"
    words = [f"dataset={dataset}", f"protocol={protocol}", f"budget={budget}", quoted]
    words += [f"seeds={_ranges(sorted(set(seeds)))}", *(_store(evidence) if evidence else [])]
    return f"cbnorm reproduce {experiment} {' '.join(words)}"


def _budget(experiment: str, dataset: str, protocol: str, rows: Sequence[str]) -> str:
    for budget in _BUDGETS:
        try:
            row_configs(experiment, [f"dataset={dataset}", f"protocol={protocol}", f"budget={budget}"], rows)
        except CbnormError:
            continue
        return budget
    return _BUDGETS[0]


def _store(evidence: Evidence) -> list[str]:
    """The store's own word, unless it is the usual one, or several, or one of published records."""
    folders = [store.root for store in evidence.stores]
    told = len(folders) == 1 and folders[0] != Path("runs") and folders[0].name != RECORDS
    return [f"store={folders[0]}"] if told else []


def _ranges(seeds: Sequence[int]) -> str:
    """Seeds as ``cbnorm reproduce`` reads them.

    >>> _ranges([0, 1, 2, 5])
    '0..2,5'
    """
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ",".join(f"{part[0]}..{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
