"""What of a partition's options enters a run's identity, and what is refused before work."""

from pathlib import Path

import pytest

from cbnorm.config.compose import compose_run, groups
from cbnorm.errors import CbnormError
from cbnorm.partitions import METHODS
from cbnorm.partitions.choices import counted
from cbnorm.runs.identity import run_id

DEFAULTS = {
    "clusters": 3,
    "features": "pca64",
    "test": "predict",
    "attribute": None,
    "file": None,
    "run": None,
    "layer": None,
    "seed": None,
}
RUN = "0123456789ab"


def options(name: str, **changed: object) -> dict[str, object]:
    return DEFAULTS | {"name": name} | changed


def test_only_what_a_partition_reads_counts() -> None:
    assert counted(options("gmm")) == {
        "name": "gmm",
        "clusters": 3,
        "features": "pca64",
        "test": "predict",
    }
    assert counted(options("superclass", clusters=7)) == {"name": "superclass"}
    assert counted(options("superclass", withheld=True)) == {"name": "superclass", "withheld": True}
    assert counted(options("attribute", attribute="superclass")) == {"name": "superclass"}
    assert counted(options("mn_components", run=RUN, layer=3, features="activations")) == {
        "name": "mn_components",
        "clusters": 3,
        "test": "predict",
        "run": RUN,
        "layer": 3,
    }
    with_network = counted(options("kmeans", features="activations", run=RUN, layer=2))
    assert (with_network["run"], with_network["layer"]) == (RUN, 2)


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    for name, text in (("a.csv", "x"), ("b.csv", "x"), ("c.csv", "y")):
        (tmp_path / name).write_text(text)
    a, b, c = (counted(options("file", file=str(tmp_path / f"{name}.csv"))) for name in "abc")
    assert a == b != c
    assert str(tmp_path) not in str(a)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (options("kmeans", clusters=None), "needs a number of clusters"),
        (options("gmm", features="none"), "nothing to cluster by"),
        (options("mn_components", layer=3), "needs a trained network"),
        (options("gmm", features="activations", run=RUN), "needs a trained network"),
        (options("attribute"), "names no attribute"),
        (options("file"), "names no file"),
        (options("file", file="/nowhere/ids.csv"), "can't be read"),
        (options("label", test="refit"), "needs clusters that are fitted"),
    ],
)
def test_bad_options_are_refused_in_one_line(chosen: dict[str, object], message: str) -> None:
    with pytest.raises(CbnormError, match=message) as caught:
        counted(chosen)
    assert "\n" not in str(caught.value)


def test_test_ids_count_and_predicting_them_is_what_it_was() -> None:
    plain = run_id(compose_run(["norm=scb"]))
    assert run_id(compose_run(["norm=scb", "partition=gmm", "partition.test=predict"])) == plain
    assert run_id(compose_run(["norm=scb", "partition.test=refit"])) != plain


def test_options_that_are_not_read_do_not_change_a_run() -> None:
    superclass = ["norm=scb", "dataset=cifar100", "partition=superclass"]
    assert run_id(compose_run(superclass)) == run_id(compose_run([*superclass, "partition.layer=2"]))
    named = ["norm=scb", "dataset=cifar100", "partition=attribute", "partition.attribute=superclass"]
    assert run_id(compose_run(superclass)) == run_id(compose_run(named))


def test_a_seed_of_the_fit_s_own_counts() -> None:
    words = ["norm=scb", "dataset=cifar100", "partition=kmeans"]
    ids = {run_id(compose_run([*words, f"partition.seed={seed}"])) for seed in ("null", 0, 1)}
    assert len(ids) == 3


def test_released_k5_is_kmeans_on_raw_pixels_from_a_seed_of_its_own() -> None:
    chosen = compose_run(["dataset=cifar100", "partition=released_k5", "seed=9"]).partition
    assert (chosen.name, chosen.clusters, chosen.features) == ("kmeans", 5, "raw")
    assert chosen.seed is not None


def test_every_choice_is_fitted_given_or_none() -> None:
    given = {"superclass", "species", "domain", "attribute", "label", "file"}
    named = {compose_run([f"partition={name}"]).partition.name for name in groups()["partition"]}
    assert named == {*METHODS, *given, "none"}
