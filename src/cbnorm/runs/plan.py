"""Which runs a table is made of: its rows times seeds."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cbnorm.config.choices import experiment_dir, experiments
from cbnorm.config.compose import compose_run
from cbnorm.config.locations import experiments_dir
from cbnorm.config.overrides import parse, sweep_values
from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.runs.files import read_table
from cbnorm.runs.identity import run_id
from cbnorm.runs.needed import needed
from cbnorm.spelling import nearest

_DIGITS, _MOST_SEEDS = 9, 100_000


@dataclass(frozen=True)
class Row:
    """A row of a table: its label, the overrides that make it, and how its runs are read.

    Of the rows with the same `choice`, the one with the best validation accuracy is reported as chosen. Rows
    may share a run, which is trained once: `reading` is the condition under which the test set was read
    (empty for the usual one), `dataset` the name under which the ledger speaks of what was read, where that
    is not the run's data set.
    """

    label: str
    overrides: tuple[str, ...]
    choice: str = ""
    dataset: str = ""
    reading: str = ""


@dataclass(frozen=True)
class Planned:
    """A run of a plan: the row's label, the run's config and its id."""

    row: str
    config: RunConfig
    id: str


def find_experiment(name: str) -> str:
    """An experiment's name, if there is one with rows.

    Raises:
        CbnormError: If there is none; names the nearest.
    """
    known = experiments()
    if name not in known and (experiments_dir() / Path(name).name / "claims.csv").is_file():
        raise CbnormError(f"{name} has no rows to train, only claims: cbnorm collect all answers them")
    if name not in known:
        raise CbnormError(f"unknown experiment '{name}': {nearest(name, known)}")
    return name


def read_rows(experiment: str) -> list[Row]:
    """The rows of an experiment, in the order of the paper."""
    return _read(experiment_dir(find_experiment(experiment)) / "rows.csv")


def read_controls(experiment: str) -> list[Row]:
    """The rows that the paper lacks and its claims need; none for an experiment without ``controls.csv``."""
    path = experiment_dir(find_experiment(experiment)) / "controls.csv"
    return _read(path) if path.exists() else []


def _read(path: Path) -> list[Row]:
    further = ("choice", "dataset", "reading")
    return read_table(
        path,
        lambda line: Row(
            line["row"], tuple(line["overrides"].split()), **{key: line.get(key, "") for key in further}
        ),
    )


def choose_rows(experiment: str, labels: Sequence[str] = ()) -> list[Row]:
    """Rows and controls by label; ``rows`` (also when nothing is given), ``controls`` and ``all`` are sets.

    Raises:
        CbnormError: There is no such row; names the nearest.
    """
    rows, controls = read_rows(experiment), read_controls(experiment)
    if not rows:
        raise CbnormError(f"rows.csv of {experiment} has no rows: put the file back as it was shipped")
    sets = {"rows": rows, "controls": controls, "all": [*rows, *controls]}
    by_label = {
        row.label: [other for other in sets["all"] if other.label == row.label] for row in sets["all"]
    }
    by_label |= sets
    for label in labels:
        if label not in by_label:
            raise CbnormError(f"unknown row '{label}' of {experiment}: {nearest(label, by_label)}")
    wanted = {row.label for label in labels or ["rows"] for row in by_label[label]}
    if not wanted:
        raise CbnormError(f"{experiment} has no {' and no '.join(labels)}: leave rows= out for its rows")
    return [row for row in sets["all"] if row.label in wanted]


def row_configs(
    experiment: str, overrides: Sequence[str] = (), labels: Sequence[str] = ()
) -> dict[str, RunConfig]:
    """The config of every row of an experiment, with seed 0 unless an override says otherwise.

    Args:
        experiment: Name of the experiment.
        overrides: Hydra overrides for all rows, such as ``budget=smoke``.
        labels: What :func:`choose_rows` takes; none given means the table's own rows.

    Raises:
        CbnormError: Unknown rows, or an override of what distinguishes the rows.
    """
    rows = choose_rows(experiment, labels)
    own = {text.partition("=")[0] for row in rows for text in row.overrides}
    for override in parse(overrides):
        if override.is_sweep_override():
            raise CbnormError(
                f"'{override.input_line}' is a sweep: choose rows with rows=..., or use cbnorm train -m"
            )
        if override.key_or_group == "experiment":
            raise CbnormError(f"'{override.input_line}' names another table than {experiment}: name one")
        if override.key_or_group in own:
            raise CbnormError(
                f"'{override.key_or_group}' distinguishes the rows of {experiment}: "
                "choose rows with rows=..., or use cbnorm train"
            )
    common = [f"experiment={experiment}", *overrides]
    found: dict[str, RunConfig] = {}
    for row in rows:
        config = compose_run([*common, *row.overrides])
        if found.setdefault(row.label, config) != config:
            raise CbnormError(f"rows.csv of {experiment}: two rows are called '{row.label}', but differ")
    return found


def plan(
    experiment: str, overrides: Sequence[str] = (), *, seeds: Sequence[int] = (0,), labels: Sequence[str] = ()
) -> list[Planned]:
    """All runs of a table, each once, seed-major: the table is whole before a second seed begins.

    What a run is read with, the classifier of its groups, comes before it.

    Raises:
        CbnormError: As :func:`row_configs`, or an override of the seed.
    """
    for override in parse(overrides):
        if override.key_or_group == "seed":
            raise CbnormError(
                f"'{override.input_line}' is for cbnorm train: a table takes seeds=3 or seeds=0..4"
            )
    rows = row_configs(experiment, overrides, labels)
    planned: dict[str, Planned] = {}
    for seed, (label, row) in itertools.product(seeds, rows.items()):
        config = row.model_copy(update={"seed": seed})
        for other in needed(config):
            run = run_id(other)
            planned.setdefault(run, Planned(f"classifier of {config.task.group}", other, run))
        run = run_id(config)
        planned.setdefault(run, Planned(label, config, run))
    return list(planned.values())


def parse_seeds(text: str) -> list[int]:
    """Seeds written as ``0..4``, ``3`` or ``0,2,5..7``.

    >>> parse_seeds("0..2,7")
    [0, 1, 2, 7]
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        if not first.isdecimal() or (dots and not last.isdecimal()):
            raise CbnormError(f"seeds={text} is not a list of seeds: write 0..4 or 0,1,2")
        if dots and len(last) <= _DIGITS and int(last) < int(first[:_DIGITS]):
            raise CbnormError(f"seeds={text}: write the smaller seed first, as in {last}..{first}")
        if len(first) > _DIGITS or len(last) > _DIGITS or int(last or first) - int(first) > _MOST_SEEDS:
            raise CbnormError(f"seeds={text} is more than {_MOST_SEEDS} seeds, or one above 10^{_DIGITS}")
        seeds += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(seeds))


def expand(overrides: Sequence[str], params: dict[str, str] | None = None) -> list[list[str]]:
    """All combinations of a sweep, as Hydra's basic sweeper makes them.

    >>> expand(["norm=bn,mn", "seed=1"])
    [['norm=bn', 'seed=1'], ['norm=mn', 'seed=1']]
    """
    given = parse(overrides)
    keys = {override.key_or_group for override in given}
    axes = [
        [f"{o.key_or_group}={value}" for value in sweep_values(o)]
        if o.is_sweep_override()
        else [o.input_line]
        for o in (*parse([f"{k}={v}" for k, v in (params or {}).items() if k not in keys]), *given)
    ]
    return [[text for text in combination if text] for combination in itertools.product(*axes)]
