"""Tables VII and VIII: which rows there are, what they say about a leak, and what the networks are."""

import csv
import runpy
from pathlib import Path
from typing import Any

import pytest

from cbnorm.config.compose import compose_run
from cbnorm.config.locations import experiments_dir
from cbnorm.data import catalog
from cbnorm.report.collect import collect
from cbnorm.report.ledger import names, read_claims, read_paper
from cbnorm.report.tables import long_form, paper_layout
from cbnorm.report.words import markdown
from cbnorm.runs.build import build_network
from cbnorm.runs.identity import run_id
from cbnorm.runs.needed import group_classifier, needed
from cbnorm.runs.plan import choose_rows, row_configs

record = runpy.run_path(str(Path(__file__).with_name("making.py")))["record"]
TABLES = ("table7", "table8", "table8_sample")


def rows(table: str, *words: str) -> dict[str, Any]:
    return row_configs(table, words, ["all"])


@pytest.mark.parametrize("table", ["table7", "table8"])
def test_published_rows_are_there_under_the_published_condition(table: str) -> None:
    readings = {row.label: row.reading for row in choose_rows(table, ["rows"])}
    published = {cell.row for cell in read_paper(table)}
    compared = {label for claim in read_claims(table) for label in (*names(claim.a), *names(claim.b))}
    assert compared <= published <= readings.keys()
    assert {readings[label] for label in published} == {""}


@pytest.mark.parametrize("table", TABLES)
def test_every_published_row_with_ids_has_its_rows_without_the_leak(table: str) -> None:
    found = {row.label: row for row in choose_rows(table, ["all"])}
    clustered = [label for label in found if label.endswith(("SCB-Norm", "SCB-Norm-base"))]
    assert len(clustered) == 2
    for label in clustered:
        for reading in ("unknown", "predicted", "averaged", "permuted"):
            other = found[f"{label}-{reading}-ids"]
            assert other.reading == reading
            # The same run, trained once.
            assert other.overrides == found[label].overrides
    headline = {row.reading for row in choose_rows(table, ["rows"])}
    assert headline == {"", "masked", "unknown", "predicted", "averaged"}


@pytest.mark.parametrize("table", ["table7", "table8_sample"])
def test_six_runs_make_a_table_one_of_them_the_classifier_of_groups(table: str) -> None:
    configs = rows(table, "budget=smoke")
    ids = {label: run_id(config) for label, config in configs.items()}
    assert len(set(ids.values())) == 6
    (classifier,) = (label for label in configs if label.endswith("-classifier"))
    wanted = {run_id(other) for config in configs.values() for other in needed(config)}
    assert wanted == {ids[classifier]}
    assert group_classifier(configs[classifier].model_copy()).norm.name == "none"


def test_the_sample_has_the_rows_of_the_whole_and_no_published_numbers() -> None:
    folder = experiments_dir()
    for name in ("rows.csv", "controls.csv", "endpoint.csv"):
        assert (folder / "table8_sample" / name).read_text() == (folder / "table8" / name).read_text()
    assert not (folder / "table8_sample" / "cells.csv").exists()
    assert not (folder / "table8_sample" / "claims.csv").exists()
    assert catalog.find("oxford_pets_sample").name != catalog.find("oxford_pets").name


@pytest.mark.parametrize(
    ("table", "row", "classes", "clusters", "parameters"),
    [
        ("table7", "norm=none model.placement=[]", 100, None, 21_759_012),
        ("table7", "norm=bn", 100, None, 21_759_012 + 6),
        ("table7", "norm=scb partition=superclass", 100, 20, 21_759_012 + 120),
        ("table7", "norm=scb_base partition=superclass", 100, 20, 21_759_012 + 126),
        ("table8", "norm=none model.placement=[]", 37, None, 1_647_493),
        ("table8", "norm=scb partition=species", 37, 2, 1_647_493 + 1024),
        ("table8", "norm=scb_base partition=species", 37, 2, 1_647_493 + 1536),
    ],
)
def test_networks_have_the_published_sizes(
    table: str, row: str, classes: int, clusters: int | None, parameters: int
) -> None:
    words = [f"experiment={table}", "budget=full", *row.split()]
    network = build_network(compose_run(words), classes, clusters)
    assert sum(p.numel() for p in network.parameters()) == parameters


def said(table: str, protocol: str, budget: str = "full") -> dict[str, Any]:
    config = compose_run([f"experiment={table}", f"protocol={protocol}", f"budget={budget}", "norm=none"])
    a, d, o, t = config.dataset.augmentation, config.dataset, config.optimizer, config.trainer
    return {
        "augmentation": tuple(a.model_dump().values()),
        "images": (d.name, d.image_size, d.statistics, d.split, d.folds),
        "optimizer": (o.name, o.lr, o.weight_decay if o.name == "adamw" else None),
        "trainer": (t.batch_size, t.max_epochs, t.rollback, t.patience),
        "select": config.task.select,
    }


def test_protocols_say_what_sources_say_of_the_vit() -> None:
    keras = (True, 7.2, 0.2, 0.0, 0.0, "reflect", 0)
    found = {protocol: said("table7", protocol) for protocol in ("sound", "paper", "released")}
    assert {p: s["augmentation"] for p, s in found.items()} == {
        "sound": keras,
        "released": keras,
        "paper": (True, 0.0, 0.0, 0.0, 0.0, "reflect", 4),
    }
    assert {p: s["trainer"][0] for p, s in found.items()} == {"sound": 256, "paper": 256, "released": 216}
    assert {p: s["images"][3] for p, s in found.items()} == {
        "sound": "stratified",
        "paper": "stratified",
        "released": "last",
    }
    for settings in found.values():
        assert settings["images"][:3] == ("cifar100", 32, "train")
        assert settings["optimizer"] == ("adamw", 0.001, 0.0001)
        assert (settings["trainer"][2:], settings["select"]) == ((False, 10), "accuracy")


def test_protocols_say_what_sources_say_of_oxfordcnn() -> None:
    generator = (True, 30.0, 0.1, 0.1, 0.1, "nearest", 0)
    found = {protocol: said("table8", protocol) for protocol in ("sound", "paper", "released")}
    assert found["sound"]["augmentation"] == found["released"]["augmentation"] == generator
    assert found["paper"]["augmentation"] == (True, 0.0, 0.0, 0.0, 0.0, "nearest", 32)
    assert {p: s["images"][2] for p, s in found.items()} == {
        "sound": "none",
        "released": "none",
        "paper": "train",
    }
    for settings in found.values():
        assert settings["images"][:2] == ("oxford_pets", 256)
        assert settings["images"][3:] == ("stratified", 10)
        assert settings["optimizer"][:2] == ("adam", 0.0001)
        assert (settings["trainer"], settings["select"]) == ((32, 200, False, 10), "loss")


@pytest.mark.parametrize("table", TABLES)
def test_the_smoke_budget_needs_no_data(table: str) -> None:
    assert said(table, "sound", "smoke")["images"][0] == "digits"


@pytest.fixture
def told() -> Any:
    """Table VII from records of two runs: one with an oracle, one that is also read with one."""
    made = []
    for label in ("ViT+BN", "ViT+SCB-Norm"):
        (row,) = (row for row in choose_rows("table7", [label]))
        run = record("experiment=table7", "budget=small", "dataset=cifar100", *row.overrides)
        run["partition"] = {"oracle": True} if "partition=superclass" in row.overrides else None
        for entry in run["metrics"]["moments"]:
            for weights in ("best", "last"):
                entry[weights] |= {f"{name}.accuracy": 10.0 for name in ("masked", "unknown", "permuted")}
        made.append(run)
    place = {"dataset": "cifar100", "protocol": "sound", "budget": "small"}
    return collect("table7", made, filters=place)


def test_rows_with_an_oracle_are_marked_wherever_they_are_shown(told: Any) -> None:
    marked = {row.label for block in told.blocks for row in block.rows if "oracle" in row.marks}
    assert marked == {"ViT+SCB-Norm", "ViT+BN-masked"}
    for text in (markdown(told), paper_layout(told.blocks)):
        assert "ViT+SCB-Norm (oracle)" in text
        assert "ViT+BN-masked (oracle)" in text
        assert "unknown-ids (oracle)" not in text
        assert "ViT+BN (oracle)" not in text
    kinds = {line["row"]: line["kind"] for line in csv.DictReader(long_form(told.blocks).splitlines())}
    assert kinds["ViT+SCB-Norm"] == "row, oracle"
    assert kinds["ViT+SCB-Norm-unknown-ids"] == "row"
    assert kinds["ViT+SCB-Norm-permuted-ids"] == "control"


def test_validation_stands_only_beside_the_reading_that_it_is_of(told: Any) -> None:
    found = {row.label: row.mean_validation for block in told.blocks for row in block.rows}
    assert found["ViT+SCB-Norm"] == found["ViT+BN"] == 80
    assert found["ViT+SCB-Norm-unknown-ids"] is found["ViT+BN-masked"] is None


def test_a_table_names_what_its_weights_were_selected_by(told: Any) -> None:
    assert "the weights with the best validation accuracy so far" in markdown(told)
    (row,) = (row for row in choose_rows("table8", ["OxfordCNN"]))
    words = ("budget=smoke", "dataset=digits")
    run = record("experiment=table8", *words, *row.overrides)
    place = {"dataset": "digits", "protocol": "sound", "budget": "smoke"}
    assert "the smallest validation loss so far" in markdown(collect("table8", [run], filters=place))
