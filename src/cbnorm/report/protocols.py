"""What every protocol says about every detail of every experiment and method, as composed from conf/."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from cbnorm.config.canonical import flatten
from cbnorm.config.compose import compose_run
from cbnorm.config.locations import experiments_dir
from cbnorm.config.options import CLUSTERED_NORMS, NORM_OPTIONS
from cbnorm.config.schema import RunConfig
from cbnorm.runs.files import read_table

PROTOCOLS = ("paper", "released", "sound")
METHODS = ("bn", "mn", "scb_base", "scb", "ucb", "uan")
#: The data sets of Table V with their numbers of classes.
DATA_SETS = {"cifar10": 10, "cifar100": 100, "tinyimagenet": 200}


@dataclass(frozen=True)
class Part:
    """A part of the page: the rows that an experiment's details are about.

    Attributes:
        experiment: Its name.
        methods: Norms.
        datasets: Data sets.
        words: Further overrides of all rows.
    """

    experiment: str = "table5"
    methods: tuple[str, ...] = METHODS
    datasets: tuple[str, ...] = tuple(DATA_SETS)
    words: tuple[str, ...] = ()

    def compose(self, protocol: str, method: str, dataset: str) -> RunConfig:
        """The config of a row at the full budget."""
        words = [f"protocol={protocol}", f"norm={method}", f"dataset={dataset}", "budget=full"]
        # Table V's rows are runs by default.
        lead = [] if self.experiment == "table5" else [f"experiment={self.experiment}"]
        return compose_run([*lead, *words, *self.words])


TABLE5 = Part()
TABLE6 = Part("table6", ("none", "bn", "scb_base", "scb", "ucb"), ("mnist_svhn",))
TABLE7 = Part("table7", ("bn", "scb_base", "scb"), ("cifar100",), ("partition=superclass",))
DENSENET = Part("densenet", ("bn", "mn", "scb_base", "scb", "ucb"), ("cifar100",))
DCGAN = Part("dcgan", ("bn", "mn", "ucb"), ("cifar100",))
TABLE8 = Part("table8", ("none", "scb_base", "scb"), ("oxford_pets",), ("partition=species",))


@dataclass(frozen=True)
class Detail:
    """A detail of the experiment.

    Attributes:
        name: What it is about.
        keys: Config options that decide it; none if it is the same everywhere.
        fixed: What it is then.
        paper: What the paper says.
        released: What the authors' code does.
    """

    name: str
    keys: tuple[str, ...]
    fixed: str
    paper: str
    released: str


def read_details(experiment: str = "table5") -> list[Detail]:
    """The details on which text and code of the paper differ or are silent."""
    path = experiments_dir() / experiment / "details.csv"
    return read_table(
        path,
        lambda line: Detail(
            line["detail"], tuple(line["keys"].split()), line["fixed"], line["paper"], line["released"]
        ),
    )


def setting(detail: Detail, protocol: str, method: str, dataset: str, part: Part = TABLE5) -> str | None:
    """What holds for one method on one data set at the full budget; None if it does not concern the method.

    Raises:
        KeyError: A key of the detail is no option.
    """
    if not detail.keys:
        return detail.fixed
    config = part.compose(protocol, method, dataset)
    values = flatten(config.model_dump())
    read = [key for key in detail.keys if _reads(method, key)]
    return ", ".join(f"{key.rpartition('.')[2]}={_text(values[key])}" for key in read) or None


def _reads(method: str, key: str) -> bool:
    group, _, option = key.partition(".")
    if group == "norm":
        return option in NORM_OPTIONS[method]
    return group != "partition" or method in CLUSTERED_NORMS


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "/".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def cell(detail: Detail, protocol: str, part: Part = TABLE5) -> str:
    """What a protocol says about a detail: the usual setting, then methods and data sets that differ."""
    found = {(m, d): setting(detail, protocol, m, d, part) for m in part.methods for d in part.datasets}
    concerned = {place: value for place, value in found.items() if value is not None}
    usual = Counter(concerned.values()).most_common(1)[0][0]
    parts = [usual]
    others: dict[str, list[tuple[str, str]]] = {}
    for place, value in concerned.items():
        if value != usual:
            others.setdefault(value, []).append(place)
    parts += [f"{_places(places, set(concerned))}: {value}" for value, places in others.items()]
    return "; ".join(parts)


def _places(places: list[tuple[str, str]], concerned: set[tuple[str, str]]) -> str:
    """Name places by method where it differs on all data sets, by data set where all methods differ."""
    methods = list(dict.fromkeys(method for method, _ in places))
    datasets = list(dict.fromkeys(dataset for _, dataset in places))
    if len({dataset for _, dataset in concerned}) == 1:
        return ", ".join(methods)
    if set(places) == {(m, d) for m, d in concerned if d in datasets}:
        return ", ".join(datasets)
    if set(places) == {(m, d) for m, d in concerned if m in methods}:
        return ", ".join(methods)
    return ", ".join(f"{method} on {dataset}" for method, dataset in places)
