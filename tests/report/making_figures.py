"""Blocks with histories, predictions and samples, made up in the form that runs leave; loaded by path."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cbnorm.config.compose import compose_run
from cbnorm.report.blocks import Block, Cell, Collection, TableRow
from cbnorm.report.endpoints import Endpoint
from cbnorm.report.evidence import Evidence
from cbnorm.report.figures.material import Material
from cbnorm.report.summary import Collected
from cbnorm.runs.identity import digest
from cbnorm.runs.store import Store

EPOCHS = 20
MOMENTS = {25: 5, 50: 10, 75: 15, 100: 20}
History = list[dict[str, Any]]


def row(
    label: str,
    norm: str,
    *words: str,
    seeds: int = 2,
    metrics: Mapping[str, float] | None = None,
    **more: Any,
) -> TableRow:
    """A row with these metrics at every moment, of the best and the last weights."""
    config = compose_run([f"norm={norm}", *words])
    metrics = metrics or {"accuracy": 70.0}
    ids = tuple(digest([label, seed, *words]) for seed in range(seeds))
    cells = tuple(
        Cell(
            percent,
            epoch,
            reading,
            metric,
            more.get("reading", ""),
            values=tuple(value * (1 + 1 / epoch) + seed / 10 for seed in range(seeds)),
            runs=ids,
            seeds=tuple(range(seeds)),
        )
        for metric, value in metrics.items()
        for percent, epoch in MOMENTS.items()
        for reading in ("best", "last")
    )
    first, *further = metrics
    endpoint = Endpoint(first, "last" if first != "accuracy" else "best", further=tuple(further))
    return TableRow(label, config, cells, endpoint=endpoint, dataset=more.get("dataset", ""))


def material(
    root: Path,
    experiment: str,
    rows: list[TableRow],
    history: Callable[[TableRow, int], History] = lambda row, seed: [],
    *,
    budget: str = "small",
) -> Material:
    """One block of these rows, with the history of every run and an empty record beside it."""
    for entry in rows:
        for seed, run in enumerate(entry.cells[0].runs):
            (root / run).mkdir(parents=True, exist_ok=True)
            (root / run / "record.json").write_text("{}")
            lines = "".join(json.dumps(line) + "\n" for line in history(entry, seed))
            (root / run / "history.jsonl").write_text(lines)
    block = Block(experiment, "made-up data", "cifar100", 1000, "sound", budget, tuple(rows))
    evidence = Evidence([], root)
    evidence.stores = [Store(root)]
    return Material(evidence, [Collected(Collection(experiment, [block]), [], runnable=True)], root)


def falling(entry: TableRow, seed: int) -> History:
    """Losses and errors that fall, at a pace of the norm's own."""
    pace = 1 + len(entry.config.norm.name) / 8 + seed / 10
    return [
        {
            "epoch": epoch,
            "train_loss": 4.6 * math.exp(-pace * epoch / EPOCHS),
            "val_loss": 4.6 * math.exp(-pace * epoch / EPOCHS) + 0.05 * epoch,
            "test_loss": 4.6 * math.exp(-pace * epoch / EPOCHS) + 0.06 * epoch,
            "train_accuracy": 100 - 90 * math.exp(-pace * epoch / EPOCHS),
            "val_accuracy": 90 - 80 * math.exp(-pace * epoch / EPOCHS),
            "test_accuracy": 88 - 80 * math.exp(-pace * epoch / EPOCHS),
        }
        for epoch in range(1, EPOCHS + 1)
    ]


def exploding(entry: TableRow, seed: int) -> History:
    """Variances of gradients that explode for one norm; its run ends early."""
    growth = 1.5 if entry.config.norm.name == "none" else 0.05
    last = 15 if entry.config.norm.name == "none" else EPOCHS
    return [
        {"epoch": epoch}
        | {
            f"gradients.{of}.{domain}.{key}": factor * math.exp(growth * epoch) * (1 + seed)
            for of in ("logits", "loss")
            for domain in ("source", "target")
            for key, factor in (("max", 100.0), ("mean", 10.0), ("std", 20.0))
        }
        for epoch in range(1, last + 1)
    ]


def densenet(root: Path) -> Material:
    """Two depths, five norms."""
    rows = [
        row(f"DenseNet-{depth} {norm}", norm, "model=densenet", f"model.depth={depth}", "model.placement=[0]")
        for depth in (40, 100)
        for norm in ("bn", "mn", "scb_base", "scb", "ucb")
    ]
    return material(root, "densenet", rows, falling)


def adaptation(root: Path) -> Material:
    """Four runs of gradients, each in a row of either domain."""
    rows = [
        row(f"AdaMatch {norm}", norm, dataset=domain, reading=reading)
        for norm in ("none", "scb_base", "scb", "ucb")
        for domain, reading in (("MNIST", "source"), ("USPS", ""))
    ]
    return material(root, "table6_usps", rows, exploding)


def vit(root: Path) -> Material:
    """Three rows of losses; the clustered ones keep principal components."""
    rows = [row(f"ViT+{norm}", norm, seeds=1) for norm in ("bn", "scb_base", "scb")]
    made = material(root, "table7", rows, falling)
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 100, 3000)
    groups = labels // 5
    values = draw.normal(size=(3000, 5)) + 2 * draw.normal(size=(20, 5))[groups]
    folder = root / rows[2].cells[0].runs[0]
    shares = np.array([0.4, 0.2, 0.1, 0.05, 0.02])
    kept = {"components_best_epoch20": values, "explained_best_epoch20": shares}
    np.savez(folder / "predictions.npz", labels=labels, **{k: v.astype(np.float16) for k, v in kept.items()})
    np.savez(folder / "clusters.npz", test=groups)
    return made


def gan(root: Path, *, fid: bool = True, budget: str = "small") -> Material:
    """Three rows under two conditions with distances, the floor, and grids of noise."""
    metrics = {"frechet_mobilenet_v2": 60.0, "frechet_pixels": 25.0} | ({"fid": 70.0} if fid else {})
    names = {"BN": "bn", "MN": "mn", "UCB-Norm": "ucb"}
    rows = [row(f"DCGAN-{name}", norm, metrics=metrics) for name, norm in names.items()]
    by_batch = {key: 1.2 * value for key, value in metrics.items()}
    rows += [
        replace(row(f"DCGAN-{name}-batch", norm, metrics=by_batch, reading="batch"), control=True)
        for name, norm in names.items()
    ]
    floor = {key: 0.1 * value for key, value in metrics.items()}
    rows.append(replace(row("Held-out", "bn", metrics=floor, reading="floor"), control=True))
    made = material(root, "dcgan", rows, budget=budget)
    draw = np.random.default_rng(0)
    for entry in rows[:3]:
        for epoch in (5, 20):
            for name in ("samples", "batch_samples"):
                noise = draw.integers(0, 255, (64, 64, 3), dtype=np.uint8)
                path = root / entry.cells[0].runs[0] / f"last_epoch{epoch}_{name}.png"
                Image.fromarray(noise).save(path)
    return made


def sweep(root: Path) -> Material:
    """Rows of the experiment k_sweep."""
    rows = [row("BN", "bn")]
    rows += [
        row(f"SCB-Norm-K{k}", "scb", f"partition.clusters={k}", metrics={"accuracy": 70.0 + k})
        for k in (1, 2, 8)
    ]
    rows += [row(f"UCB-Norm-K{k}", "ucb", f"norm.components={k}", metrics={"accuracy": 71.0}) for k in (1, 5)]
    return material(root, "k_sweep", rows)
