"""Runs as published evidence: what is worth believing is copied, and the tables follow from the copies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cbnorm.config.choices import experiments
from cbnorm.errors import CbnormError
from cbnorm.report.endpoints import Record
from cbnorm.report.evidence import Evidence
from cbnorm.report.pool import Records
from cbnorm.report.summary import collect_all, gather
from cbnorm.runs.files import cannot_read, write_bytes
from cbnorm.runs.records import agree
from cbnorm.runs.store import Store

#: What is published of a run, the record last, so that a run is there whole or not at all.
_FILES = ("history.jsonl", "predictions.npz", "clusters.npz", "record.json")
_LARGEST = 2 * 2**20


#: Folder of published records within the folder of evidence.
RECORDS = "records"


@dataclass
class Published:
    """What became of the runs: ids, and for some a reason."""

    copied: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def publish(store: Store, to: Path, tables: Sequence[str] = (), *, force: bool = False) -> Published:
    """Copy the records of tables, with their small artifacts, to ``TO/records``.

    Nothing is ever removed; only the record of a run that failed gives way to one with numbers.

    Args:
        store: Where the runs live; it is only read.
        to: The folder of evidence.
        tables: Only the runs of these; all if there are none.
        force: Also records of uncommitted code, failed, incomplete and customised ones, and mixtures of
            versions of the numbers.

    Raises:
        CbnormError: There is nothing to publish, or what would lie there together has numbers of several
            versions.
    """
    if not store.root.is_dir():
        raise CbnormError(f"there is no store {store.root}: name one with store=FOLDER")
    if store.root.resolve() == (to / RECORDS).resolve():
        raise CbnormError(f"{store.root} is what is published already: name another store with store=FOLDER")
    found, damaged = store.survey()
    records = Records(found)
    there = {record["id"]: record for record in Store(to / RECORDS).survey()[0]}
    outcome = Published(refused={run: f"damaged: {reason}" for run, reason in damaged.items()})
    wanted: list[Record] = []
    reasons = _unfit(records, list(tables) or experiments())
    for record in records.all:
        if tables and record.get("experiment") not in tables:
            continue
        reason = _conflict(record, there) or _without_epochs(store, record["id"])
        reason = reason or ("" if force else reasons.get(record["id"]) or _dirty(record))
        if reason:
            outcome.refused[record["id"]] = reason
        elif record["id"] in there and not _gives_way(there[record["id"]], record):
            outcome.present.append(record["id"])
        else:
            wanted.append(record)
    if not wanted and not outcome.present and not outcome.refused:
        of = f" of {', '.join(tables)}" if tables else ""
        raise CbnormError(f"{store.root} holds no runs{of} to publish")
    if not force:
        _refuse_mixture([*wanted, *there.values()])
    for record in wanted:
        _copy(store.folder(record["id"]), to / RECORDS / record["id"], _last_epoch(record))
        outcome.copied.append(record["id"])
    return outcome


def _unfit(records: Records, names: Sequence[str]) -> dict[str, str]:
    """Why records don't stand in a table as they should, by id."""
    found = {record["id"]: "of no table" for record in records.all if record.get("experiment") not in names}
    for name in names:
        found |= dict(gather(name, records, {}).left_out)
    return found


def _dirty(record: Record) -> str:
    versions = record.get("versions", {})
    commits = [versions.get("commit", ""), *versions.get("earlier_commits", "").split(", ")]
    dirty = next((commit for commit in commits if commit.endswith("-dirty")), "")
    return f"trained by uncommitted code ({dirty})" if dirty else ""


def _conflict(record: Record, there: dict[str, Record]) -> str:
    other = there.get(record["id"])
    if other is None or _gives_way(other, record) or agree(other.get("metrics"), record.get("metrics")):
        return ""
    return "in conflict with the published record, which is kept"


def _without_epochs(store: Store, run: str) -> str:
    try:
        store.history(run)
    except CbnormError as error:
        return f"damaged: {error}"
    return ""


def _gives_way(other: Record, record: Record) -> bool:
    """Whether a published record is one of a run that failed, and this one's has ended with numbers."""
    return other["status"] == "failed" != record["status"]


def _refuse_mixture(records: Sequence[Record]) -> None:
    versions = sorted({str(record["identity"].get("numerics_version")) for record in records})
    if len(versions) > 1:
        raise CbnormError(
            f"numbers of versions {', '.join(versions)} would lie together: publish to another folder with "
            "to=FOLDER, or add force=true"
        )


def _last_epoch(record: Record) -> int:
    """The last epoch at which the test set was read."""
    return max((entry["epoch"] for entry in record.get("metrics", {}).get("moments", [])), default=0)


def _copy(source: Path, target: Path, epoch: int) -> None:
    # Of grids of samples the last; earlier ones stay in the store.
    grids = sorted(path.name for path in source.glob(f"last_epoch{epoch}_*.png"))
    for name in (*grids, *_FILES):
        path = source / name
        try:
            if path.is_file() and (path.stat().st_size <= _LARGEST or name == "record.json"):
                write_bytes(target / name, path.read_bytes())
        except OSError as error:
            raise cannot_read(path, error) from error


def rebuild(to: Path) -> str:
    """Make the tables of a folder of evidence again from its records."""
    evidence = Evidence([Store(to / RECORDS)], to / "figures" / "looks")
    return collect_all(evidence, {}, to)
