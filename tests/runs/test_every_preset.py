"""Every experiment, protocol, norm and partition is composed, built, and makes one step.

On a few of the embedded digits: what is tested is that the parts of every choice fit together.
"""

import pytest
import torch

from cbnorm.config.compose import compose_run, groups
from cbnorm.config.locations import experiments_dir
from cbnorm.runs.build import build
from cbnorm.runs.plan import choose_rows

FEW = [
    "dataset=digits",
    "budget=smoke",
    "dataset.train_images=60",
    "dataset.val_images=20",
    "dataset.test_images=20",
    "trainer.batch_size=8",
    "trainer.precision=fp32",
    "trainer.channels_last=false",
]
#: Partitions that need what digits or a first run don't have; tests/partitions builds them.
NEED_MORE = {"none", "attribute", "domain", "species", "superclass", "file", "mn_components"}
SIZES = {"oxford_cnn": 128}
_DEEP = "DenseNet-100 SCB-Norm"
EXPERIMENTS = sorted(path.parent.name for path in experiments_dir().glob("*/rows.csv"))


def cases() -> list[tuple[str, ...]]:
    found: dict[tuple[str, ...], None] = {}
    for experiment in EXPERIMENTS:
        config = compose_run([f"experiment={experiment}"])
        if config.task.name != "classification" or experiment == "table8_sample":
            continue  # tests/tasks builds and steps the others; the sample's rows are those of table8
        # Rows of the shallow CNN are shared by several tables.
        lead = [] if config.model.name == "shallow_cnn" else [f"experiment={experiment}"]
        # Rows of the second published rate are those of the first with another number.
        rows = [row for row in choose_rows(experiment, ["all"]) if not row.label.endswith("-2")]
        if experiment in {"densenet", "uan"}:  # of the deep networks, which take seconds, one is enough
            rows = [row for row in rows if "model.depth=40" in row.overrides or row.label == _DEEP]
        protocols = groups()["protocol"] if experiment in {"table5", "uan"} else ["sound"]
        for protocol in protocols:
            for row in rows:
                # Some readings need the run of another network: tests/runs/test_readings.py has them.
                words = [word for word in row.overrides if not word.startswith("task.readings=")]
                found[(*lead, f"protocol={protocol}", *words)] = None
    for norm in groups()["norm"]:
        found[(f"norm={norm}",)] = None
    for model in sorted(set(groups()["model"]) - {"dcgan"}):  # of tests/runs/test_gan.py
        found[(f"model={model}", f"dataset.image_size={SIZES.get(model, 32)}")] = None
    for optimizer in groups()["optimizer"]:
        found[(f"optimizer={optimizer}",)] = None
    for partition in sorted(set(groups()["partition"]) - NEED_MORE):
        found[("norm=scb", f"partition={partition}")] = None
    return list(found)


@pytest.mark.parametrize("words", cases(), ids=" ".join)
def test_one_step(words: tuple[str, ...]) -> None:
    config = compose_run([*FEW, *words])
    parts = build(config, torch.device("cpu"))
    optimizer = parts.task.configure_optimizers()
    before = {name: p.detach().clone() for name, p in parts.task.model.named_parameters()}
    parts.task.train()
    loss = parts.task.training_step(next(iter(parts.train.epoch(0))), 0)
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    moved = {name for name, p in parts.task.model.named_parameters() if not torch.equal(p, before[name])}
    # A bias before a layer that subtracts means has no gradient; weights always have one.
    assert {name for name in before if name.endswith("weight") and "norms" not in name} <= moved
    reading = parts.reader.read(parts.task)
    assert 0 <= (reading.metrics["accuracy"] or 0) <= 100
    assert reading.metrics["loss"] is not None
    assert reading.arrays["predicted"].shape == (20,)
