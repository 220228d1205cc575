"""Where a cell comes from: its runs, what they differ in, and the command that repeats them."""

from collections.abc import Iterator, Sequence

from cbnorm.config.canonical import canonical, differences
from cbnorm.errors import CbnormError
from cbnorm.report.blocks import MARKS, Block, Collection, TableRow
from cbnorm.report.collect import collect
from cbnorm.report.endpoints import PRIMARY_PERCENT, READINGS, Record, read_endpoint
from cbnorm.report.evidence import Evidence
from cbnorm.report.ledger import read_paper
from cbnorm.report.places import find_place
from cbnorm.report.repeat import command
from cbnorm.report.statistics import mean_interval, summary
from cbnorm.report.words import digits_of, number
from cbnorm.runs.plan import choose_rows, find_experiment, row_configs
from cbnorm.spelling import nearest

_HEADS = {"best": "best on validation", "last": "last weights"}


def explain_cell(words: Sequence[str], evidence: Evidence, filters: dict[str, str]) -> str:
    """Everything behind one cell: ``TABLE DATASET ROW [MOMENT]``.

    Args:
        words: The table, the data set by either of its names, the row's label, and per cent of the epochs.
        evidence: The records.
        filters: ``budget`` and ``protocol``, if only one is wanted.

    Raises:
        CbnormError: One of the words names nothing; tells the nearest.
    """
    experiment = find_experiment(words[0])
    label = _row(experiment, words[2])
    place = find_place(experiment, words[1], label)
    percent = _moment(words[3] if len(words) > 3 else str(PRIMARY_PERCENT))
    found = collect(experiment, evidence.records, filters={**filters, "dataset": place.key})
    lines = [
        f"{experiment}, {place.title}, {label}, at {percent} % of the epochs",
        _published(found.experiment, place.title, label, percent),
    ]
    rows = [
        (block, row)
        for block in found.blocks
        if (row := block.row(label, place.read)) and row.cells and row.cells[0].values
    ]
    for block, row in rows:
        lines += ["", *_behind(block, row, percent, evidence)]
    if not rows:
        wanted = command(experiment, place.key, [label], range(5), filters, evidence)
        lines += ["", "no runs yet", f"get them: {wanted}"]
    lines += _near(found, place.key, label, evidence)
    return "\n".join(lines)


def _row(experiment: str, word: str) -> str:
    labels = {row.label.lower(): row.label for row in choose_rows(experiment, ["all"])}
    if word.lower() not in labels:
        raise CbnormError(f"unknown row '{word}' of {experiment}: {nearest(word, labels.values())}")
    return labels[word.lower()]


def _moment(word: str) -> int:
    text = word.removesuffix("%").strip()
    if not text.isdecimal() or not 0 < int(text) <= 100:
        raise CbnormError(f"moment '{word}' is no per cent of the epochs: write 25, 50, 75 or 100")
    return int(text)


def _published(experiment: str, title: str, label: str, percent: int) -> str:
    endpoint = read_endpoint(experiment)
    for cell in read_paper(experiment):
        place = (cell.dataset, cell.row, endpoint.percent(cell.moment), cell.metric)
        if place == (title, label, percent, endpoint.metric):
            return f"published: {number(cell.value, digits_of(cell.metric, cell.value))} {cell.note}".rstrip()
    return "published: nothing"


def _behind(block: Block, row: TableRow, percent: int, evidence: Evidence) -> Iterator[str]:
    own = row.cell(percent)
    if own is None:
        moments = ", ".join(str(cell.percent) for cell in row.main)
        yield f"{block.place}: no reading there; there are readings at {moments} %"
        return
    marks = "".join(f", {mark}: {MARKS[mark]}" for mark in row.marks)
    yield f"{block.place}, epoch {own.epoch}{marks}"
    beside = next(reading for reading in READINGS if reading != own.reading)
    yield f"  {'run':<12}  seed  {_HEADS[own.reading]:>18}  {_HEADS[beside]:>18}  code          hardware"
    records = {record["id"]: record for record in evidence.records.all}
    other = row.cell(percent, beside)
    others = dict(zip(other.runs, other.values, strict=True)) if other else {}
    digits = digits_of(own.metric, own.mean)
    for run, seed, value in zip(own.runs, own.seeds, own.values, strict=True):
        told = f"{number(value, digits):>18}  {number(others.get(run), digits):>18}"
        origin = _origin(records[run]) + (", diverged" if run in row.diverged else "")
        yield f"  {run}  {seed:>4}  {told}  {origin}"
    yield f"  {summary_of(own.values, digits)} ({own.metric}, {_HEADS[own.reading]})"
    if block.budget != "full":
        yield f"  budget {block.budget} is not the paper's: not comparable with the published number"
    yield f"  config differences from the row: {_apart(row, [records[run] for run in own.runs])}"
    place = {"protocol": block.protocol, "budget": block.budget}
    yield f"  repeat it: {command(block.experiment, block.key, [row.label], own.seeds, place, evidence)}"


def _apart(row: TableRow, records: Sequence[Record]) -> str:
    """In which values that can change a number runs differ from their row, besides the seed."""
    wanted = canonical(row.config)
    found = {
        f"{key}={value[1]} (not {value[0]})"
        for record in records
        for key, value in differences(wanted, record["identity"]["config"]).items()
        if key != "seed"
    }
    return ", ".join(sorted(found)) or "none"


def summary_of(values: Sequence[float], digits: int) -> str:
    """Mean, spread and interval of values, as far as there are enough of them."""
    mean, sd, n = summary(values)
    if sd is None:
        return f"{mean:.{digits}f}, one seed: no interval"
    told = f"mean {mean:.{digits}f}, standard deviation {sd:.{digits}f}, n = {n}"
    if n == 2:
        return f"{told}: no interval below 3"
    low, high = mean_interval(values)
    return f"{told}, 95 % interval {low:.{digits}f} to {high:.{digits}f}"


def _origin(record: Record) -> str:
    versions, hardware = record.get("versions", {}), record.get("hardware", {})
    code = versions.get("commit", f"version {versions.get('cbnorm', '?')}")
    place = hardware.get("gpu") or hardware.get("cpu") or "?"
    return f"{code}  {place}, numbers of version {record['identity'].get('numerics_version')}"


def _near(
    found: Collection,
    dataset: str,
    label: str,
    evidence: Evidence,
) -> list[str]:
    """Runs of the table that fill no cell, as far as this row is the one that they are nearest to."""
    experiment, reasons, lines = found.experiment, dict(found.left_out), []
    for record in evidence.records.by_experiment.get(experiment, []):
        if record["id"] not in reasons or record["config"]["dataset"]["name"] != dataset:
            continue
        place = {key: record[key] for key in ("protocol", "budget")}
        words = [f"dataset={dataset}", *(f"{key}={value}" for key, value in place.items())]
        try:
            configs = row_configs(experiment, words, ["all"])
        except CbnormError:
            continue  # of a budget or protocol that is no more; it must not hide the others
        own = record["identity"]["config"]
        apart = {row: len(differences(canonical(config), own)) for row, config in configs.items()}
        if min(apart, key=lambda row: apart[row]) == label:
            lines.append(f"  {record['id']}  budget {place['budget']}: {reasons[record['id']]}")
    return ["", "runs near this row that do not count:", *lines] if lines else []
