"""Where numbers of a table belong: data set, protocol and budget of a block, and words for data sets."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cbnorm.config.choices import groups
from cbnorm.config.schema import RunConfig
from cbnorm.data import catalog
from cbnorm.errors import CbnormError
from cbnorm.report.endpoints import Record
from cbnorm.report.pool import Records
from cbnorm.runs.plan import choose_rows, row_configs
from cbnorm.spelling import nearest


class Name(NamedTuple):
    """What tells blocks apart; `data` is the fingerprint of a data set that is not the same everywhere."""

    dataset: str
    protocol: str
    budget: str
    data: str | None = None

    def words(self) -> list[str]:
        """The overrides of all rows."""
        words = [f"dataset={self.dataset}", f"protocol={self.protocol}", f"budget={self.budget}"]
        entry = catalog.find(self.dataset)
        # Whose folder it was is not recorded, and does not matter here.
        return [*words, "dataset.folder=unknown"] if entry.open and entry.folder is None else words


def name_of(record: Record) -> Name:
    """The block that a record would stand in."""
    dataset = record["config"]["dataset"]["name"]
    data = record["identity"]["data"] if is_open(dataset) else None
    return Name(dataset, record["protocol"], record["budget"], data)


def is_open(dataset: str) -> bool:
    """Whether a data set is whatever lies in a folder, so that its name doesn't tell its content."""
    try:
        return catalog.find(dataset).open
    except CbnormError:  # a data set that is gone, or of a package that is not here
        return False


def alike(experiment: str, records: Records) -> list[Record]:
    """Records that may fill cells of a table though they were trained for another one."""
    try:
        config = usual(experiment)
    except CbnormError:  # nothing of the table can be composed; that is said where it is asked for
        return []
    found = records.by_model.get((config.task.name, config.model.name), [])
    if any(row.dataset for row in choose_rows(experiment, ["all"])):
        found = [record for record in found if record["config"]["dataset"]["name"] == config.dataset.name]
    return found


def usual(experiment: str) -> RunConfig:
    """A config of the table as it is without any override."""
    return next(iter(row_configs(experiment, [], [choose_rows(experiment)[0].label]).values()))


def block_names(records: Iterable[Record], filters: dict[str, str]) -> list[Name]:
    """The blocks that records would stand in, and the one that is asked for by all three filters."""
    names = {name_of(record) for record in records}
    names = {n for n in names if all(getattr(n, key) == value for key, value in filters.items())}
    if len(filters) == 3 and not (names and is_open(filters["dataset"])):
        names.add(Name(**filters))
    order = {"full": 0, "small": 1, "smoke": 2}
    return sorted(names, key=lambda name: (order.get(name.budget, 3), [text or "" for text in name]))


@dataclass(frozen=True)
class Place:
    """What a word for a data set means in a table.

    Attributes:
        key: The data set of the runs, as in configs.
        title: As the ledger calls what was read.
        read: The same where a run is read on several data sets, else empty.
    """

    key: str
    title: str
    read: str = ""


def find_place(experiment: str, word: str, label: str = "") -> Place:
    """What a word for a data set means in a table, and for one of its rows.

    Raises:
        CbnormError: It means nothing there; names the nearest, or what the row is read on.
    """
    rows = choose_rows(experiment, [label] if label else ["all"])
    read = list(dict.fromkeys(row.dataset for row in rows if row.dataset))
    if not read:
        return Place(*_find_dataset(word))
    named = next((name for name in read if name.lower() == word.lower()), None)
    if named is None:
        what = label or experiment
        raise CbnormError(f"'{word}': {what} is read on {' and '.join(read)}; name one of them")
    return Place(usual(experiment).dataset.name, named, named)


def _find_dataset(word: str) -> tuple[str, str]:
    """Key and title of a data set that is named by either."""
    known = {}
    for key in groups()["dataset"]:
        try:
            known[key] = catalog.find(key).name
        except CbnormError:  # of a package that is broken, which matters to who names it
            if word.lower() == key.lower():
                raise
    for key, title in known.items():
        if word.lower() in {key.lower(), title.lower()}:
            return key, title
    raise CbnormError(f"unknown data set '{word}': {nearest(word, [*known, *known.values()])}")
