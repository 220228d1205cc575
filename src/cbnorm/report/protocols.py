"""What every protocol says about every detail of every experiment, method by method, as composed from conf/.

``python -m cbnorm.report.protocols`` prints docs/protocols.md.
"""

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


_INTRO = """# Protocols

The paper's text, the code its authors released, and a sound comparison are three things. Each is a preset
of `conf/protocol/`: `protocol=paper` takes the text literally and mends it only where it could not run;
`protocol=released` does what the authors' notebooks and packages do, method by method; `protocol=sound`,
the default, keeps the paper's conditions, removes every leak and confound, and treats all rows alike. Any
option can be overridden on top; the table is then marked as customised.

This page is made by `make docs-protocols` from the configs; a test compares the two.

## Settings of Table V

First what text and code say, then what the three presets set. What differs for single methods or data
sets follows the usual setting. What a method does not read is not listed for it: SCB- and UCB-Norm have
no gamma and beta in any protocol, and only SCB-Norm, its base form and the controls with clusters have
ids.

"""

_NOTES = """
No code for MN by the authors is known: under `released` it gets what BN gets. Their UCB-Norm layer cannot
be trained on images as published for torch, and where it runs it multiplies by about sqrt(K/eps) in training;
`released` takes its placement and its use of batch statistics at test, not that defect (see
[errata](errata.md)). The released lists of ids exist only as files; `released` draws ids with the
properties that were measured on them: on CIFAR-10 training ids unrelated to the images, and test ids from
a fit of their own (`test=refit`, which looks at the test images).

"""

_TABLE6 = """
## Settings of Table VI

AdaMatch, MNIST to SVHN; the page on [Table VI](table6.md) says what is made of it. `none` is the row
without a layer on the image. The authors' code builds on the Keras example of AdaMatch, whose forms
`released` has; `paper` and `sound` have those of AdaMatch's own paper, which the text cites.

"""


_TABLE7 = """
## Settings of Table VII

ViT on CIFAR-100 with superclasses as clusters; [its page](table7.md) says what is wrong with the published
condition and what stands beside it.

"""

_TABLE8 = """
## Settings of Table VIII

OxfordCNN on Oxford-IIIT Pet with cat and dog as clusters; [its page](table8.md) has the rest. `none` is the
row without an extra layer.

"""

_DENSENET = """
## Settings of DenseNet

DenseNet-40 and -100 on CIFAR-100 (Fig. 6 to 8), and UAN's table; see [their page](densenet.md).

"""

_DCGAN = """
## Settings of DCGAN

DCGAN on CIFAR-100 (Fig. 10 and 11); see [its page](dcgan.md). The authors' notebook isn't public: where the
paper is silent, `released` is chainer-gan-lib, whose default optimizer is the paper's.

"""


def page() -> str:
    """The whole of docs/protocols.md."""
    tables = ((_TABLE6, TABLE6), (_TABLE7, TABLE7), (_TABLE8, TABLE8))
    figures = ((_DENSENET, DENSENET), (_DCGAN, DCGAN))
    parts = "".join(intro + _settings(part) for intro, part in (*tables, *figures))
    return _INTRO + _settings(TABLE5) + _NOTES + _sizes() + parts


def _settings(part: Part) -> str:
    rows = [
        [detail.name, detail.paper, detail.released]
        + [cell(detail, protocol, part) for protocol in PROTOCOLS]
        for detail in read_details(part.experiment)
    ]
    head = ["detail", "the paper says", "the authors' code does", *(f"`{name}`" for name in PROTOCOLS)]
    return _table(head, rows)


def _sizes() -> str:
    rows = [
        [protocol, dataset, *(f"{parameters(protocol, method, dataset):,}" for method in METHODS)]
        for protocol in PROTOCOLS
        for dataset in DATA_SETS
    ]
    work = ", ".join(f"{protocol} {multiplications(protocol) / 1e6:.0f} million" for protocol in PROTOCOLS)
    return (
        "## Parameters\n\n"
        + _table(["protocol", "data set", *METHODS], rows)
        + f"\nMultiplications per image in a forward pass, norm layers not counted: {work}.\n"
    )


def parameters(protocol: str, method: str, dataset: str) -> int:
    """Number of trained values of a row's network."""
    return sum(p.numel() for p in _network(protocol, method, dataset).parameters())


def multiplications(protocol: str) -> int:
    """Multiply-adds of convolutions and the linear layer for one CIFAR-10 image."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    size = compose_run([f"protocol={protocol}"]).dataset.image_size
    with FlopCounterMode(display=False) as counter:
        _network(protocol, "bn", "cifar10").eval()(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops()) // 2


def _network(protocol: str, method: str, dataset: str) -> Any:
    from cbnorm.runs.build import build_network

    config = compose_run([f"protocol={protocol}", f"norm={method}", f"dataset={dataset}", "budget=full"])
    return build_network(config, DATA_SETS[dataset], config.partition.clusters)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    print(page(), end="")
