"""The page of protocols: ``python -m cbnorm.report.protocols_page`` prints docs/protocols.md."""

from typing import Any

from cbnorm.config.compose import compose_run
from cbnorm.report.protocols import (
    DATA_SETS,
    DCGAN,
    DENSENET,
    METHODS,
    PROTOCOLS,
    TABLE5,
    TABLE6,
    TABLE7,
    TABLE8,
    Part,
    cell,
    read_details,
)

_INTRO = """# Protocols

The paper's text, the code its authors released, and a sound comparison are three things. Each is a preset
of `conf/protocol/`: `protocol=paper` takes the text literally and mends it only where it could not run;
`protocol=released` does what the authors' notebooks and packages do, method by method; `protocol=sound`,
the default, keeps the paper's conditions, treats all rows alike, and removes leaks and confounds or marks
them (*oracle*, *transductive*) with a fair reading beside the published one. Any option can be overridden
on top; the table is then marked as customised.

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
a fit of their own (`test=refit`, which looks at the test images). The notebooks for Tiny ImageNet can't be
meant and are not imitated: they put SCB-Norm on the image itself, past three of the four convolutions, give
its base form clusters that are all zero, and declare images of 32x32 where those fed have 64x64. Precision is
a matter of time, not of protocol: `spread` has rows that measure what float32 changes.

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
