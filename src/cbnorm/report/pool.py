"""Records of many runs, found by row and by experiment, whatever the order in which they came."""

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from cbnorm.config.canonical import flatten
from cbnorm.report.endpoints import Record
from cbnorm.runs.identity import row_of
from cbnorm.runs.records import agree


class Records:
    """Records in the order of their ids, found by row, whatever the order in which they came.

    Args:
        records: Records of runs; two with one id and other numbers are in conflict, and neither is used.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        by_id: dict[str, Record] = {}
        self.conflicts: dict[str, str] = {}
        for record in records:
            known = by_id.setdefault(record["id"], record)
            if known is record:
                continue
            # What failed is trained again, whatever it would have given.
            failed = [one["status"] == "failed" for one in (known, record)]
            if not any(failed) and not _same(known, record):
                self.conflicts[record["id"]] = "in conflict: two records of this run have other numbers"
            if (failed[1], _rank(record)) < (failed[0], _rank(known)):
                by_id[record["id"]] = record
        self.all = [by_id[run] for run in sorted(by_id)]

    @cached_property
    def by_id(self) -> dict[str, Record]:
        """All records by id."""
        return {record["id"]: record for record in self.all}

    @cached_property
    def by_row(self) -> dict[str, list[Record]]:
        """The runs that ended with numbers, by the row that they belong to."""
        found: dict[str, list[Record]] = defaultdict(list)
        for record in self.all:
            if record["status"] in {"done", "diverged"} and record["id"] not in self.conflicts:
                found[row_of(record["identity"])].append(record)
        return found

    @cached_property
    def by_experiment(self) -> dict[str | None, list[Record]]:
        """Records by the experiment that they say they are of."""
        found: dict[str | None, list[Record]] = defaultdict(list)
        for record in self.all:
            found[record.get("experiment")].append(record)
        return found

    @cached_property
    def by_model(self) -> dict[tuple[str, str], list[Record]]:
        """Records by the names of their task and model."""
        found: dict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in self.all:
            found[record["config"]["task"]["name"], record["config"]["model"]["name"]].append(record)
        return found

    @cached_property
    def kinds(self) -> dict[str, set[tuple[str, Any]]]:
        """By data set, which norms were trained with ids of which kind and with or without gamma and beta."""
        found: dict[str, set[tuple[str, Any]]] = defaultdict(set)
        for record in self.all:
            values = record["identity"]["config"]
            norm = values.get("norm", {})
            for what in (values.get("partition", {}).get("name"), norm.get("affine"), None):
                found[record["config"]["dataset"]["name"]].add(
                    (str(norm.get("name")).rpartition(":")[2], what)
                )
        return found


def _same(one: Record, other: Record) -> bool:
    return one["status"] == other["status"] and agree(one.get("metrics"), other.get("metrics"))


def _rank(record: Record) -> tuple[int, str]:
    """Which of two records with the same numbers is shown: the richer one, and always the same."""
    metrics = flatten({"metrics": record.get("metrics") or {}})
    return -len(str(metrics)), repr(sorted(flatten(record).items(), key=lambda item: item[0]))
