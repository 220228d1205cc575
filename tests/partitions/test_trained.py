"""Clusters of what the network of a finished run sees: end to end, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cbnorm.config.compose import compose_run
from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.runs import weights
from cbnorm.runs.build import build
from cbnorm.runs.execute import execute
from cbnorm.runs.identity import run_id
from cbnorm.runs.store import Store
from cbnorm.runs.trained import _refuse_other_images
from cbnorm.tasks.classification import ClassificationReader
from cbnorm.tasks.predictions import predict

WORDS = [
    "budget=smoke",
    "dataset.train_images=60",
    "dataset.val_images=20",
    "dataset.test_images=30",
    "trainer.max_epochs=2",
    "trainer.moments=[100]",
    "trainer.batch_size=20",
    "trainer.precision=fp32",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with one finished run of batch normalization."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CBNORM_DATA_DIR", str(folder / "data"))
        execute(compose_run([*WORDS, "norm=bn"]), Store(folder / "runs"))
    return Store(folder / "runs")


def config(store: Store, *words: str) -> RunConfig:
    return compose_run([*WORDS, "norm=scb", f"store={store.root}", *words])


def with_network(store: Store, *words: str) -> RunConfig:
    return config(
        store, "partition=mn_components", f"partition.run={run_id(compose_run([*WORDS, 'norm=bn']))}", *words
    )


def test_a_run_keeps_the_weights_of_its_best_epoch(store: Store) -> None:
    run = run_id(compose_run([*WORDS, "norm=bn"]))
    state = weights.read(store.folder(run), run)
    parts = build(compose_run([*WORDS, "norm=bn"]), torch.device("cpu"))
    parts.task.model.load_state_dict(state)
    assert isinstance(parts.reader, ClassificationReader)
    predicted = predict(parts.task, parts.reader.test).predicted
    with np.load(store.folder(run) / "predictions.npz") as saved:
        assert predicted.tolist() == saved["best_epoch2"].tolist()
    assert (store.folder(run) / weights.NAME).stat().st_size < weights.LARGEST


def test_large_networks_keep_no_weights(tmp_path: Path) -> None:
    weights.write(tmp_path, "a", 1, {"w": torch.zeros(weights.LARGEST // 4 + 1)})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CbnormError, match="kept no weights"):
        weights.read(tmp_path, "a")


@pytest.mark.parametrize("content", [b"", b"not a tensor", None])
def test_weights_that_cannot_be_used_are_refused(tmp_path: Path, content: bytes | None) -> None:
    weights.write(tmp_path, "another", 1, {"w": torch.zeros(3)})
    if content is not None:
        (tmp_path / weights.NAME).write_bytes(content)
    with pytest.raises(CbnormError, match="can't be used") as caught:
        weights.read(tmp_path, "a")
    assert "\n" not in str(caught.value)


def test_a_run_trains_with_components_of_another_run_s_activations(own_data: Path, store: Store) -> None:
    run = with_network(store, "partition.clusters=2")
    record = execute(run, store)
    assert record is not None
    about = record["partition"]
    assert (about["method"], about["clusters"], about["layer"]) == ("mn_components", 2, 3)
    assert about["feature_dimensions"] == 128
    assert about["run"] == run.partition.run
    assert sum(about["sizes"]["test"]) == 30
    with np.load(store.folder(record["id"]) / "clusters.npz") as saved:
        ids = saved["train"]
    parts = build(run, torch.device("cpu"))
    assert parts.clusters["train"].tolist() == ids.tolist()
    assert run_id(run) != run_id(with_network(store, "partition.clusters=2", "partition.layer=2"))


def test_activations_serve_as_features(own_data: Path, store: Store) -> None:
    run = with_network(store).partition.run
    words = [
        "partition=kmeans",
        "partition.features=activations",
        f"partition.run={run}",
        "partition.layer=4",
    ]
    parts = build(config(store, *words), torch.device("cpu"))
    assert parts.partition is not None
    assert parts.partition.summary()["feature_dimensions"] == 256
    assert parts.partition.summary()["features"] == "activations"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["partition.run=0123456789ab"], "is no finished run"),
        (["partition.layer=9"], "layer 9 is none of the network's 4 normalization layers"),
        (["dataset.split_seed=1"], "was trained with dataset.split_seed=0, not 1"),
        (["dataset.split=last"], "was trained with dataset.split=stratified, not last"),
        (["dataset.val_images=30"], "was trained with dataset.val_images=20, not 30"),
    ],
)
def test_networks_that_do_not_fit_are_refused(
    own_data: Path, store: Store, words: list[str], message: str
) -> None:
    chosen = with_network(store)
    given = (
        []
        if any(word.startswith("partition.run") for word in words)
        else [f"partition.run={chosen.partition.run}"]
    )
    with pytest.raises(CbnormError, match=message) as caught:
        build(config(store, "partition=mn_components", *given, *words), torch.device("cpu"))
    assert "\n" not in str(caught.value)


def earlier(store: Store, root: Path, change: Callable[[dict], object]) -> Store:
    """A store with the run as an earlier version might have recorded it."""
    run = run_id(compose_run([*WORDS, "norm=bn"]))
    shutil.copytree(store.folder(run), root / run)
    record = json.loads((root / run / "record.json").read_text())
    change(record["config"])
    (root / run / "record.json").write_text(json.dumps(record))
    return Store(root)


def test_networks_of_earlier_versions_are_looked_at_as_well(
    own_data: Path, store: Store, tmp_path: Path
) -> None:
    """Their records lack options that came later, and have presets that are gone."""

    def change(config: dict) -> None:
        for group, key in (("dataset", "split"), ("model", "head"), ("trainer", "keep"), ("task", "labels")):
            del config[group][key]
        config["presets"]["scb"] = {"scale": "consistent"}

    old = earlier(store, tmp_path / "old", change)
    parts = build(with_network(old, "partition.clusters=2"), torch.device("cpu"))
    expected = build(with_network(store, "partition.clusters=2"), torch.device("cpu"))
    assert parts.clusters["train"].tolist() == expected.clusters["train"].tolist()


@pytest.mark.parametrize(("group", "key", "value"), [("model", "gone", 1), ("optimizer", "lr", 0.5)])
def test_a_record_whose_config_means_something_else_is_refused(
    own_data: Path, store: Store, tmp_path: Path, group: str, key: str, value: float
) -> None:
    old = earlier(store, tmp_path / "old", lambda config: config[group].update({key: value}))
    with pytest.raises(CbnormError, match="comes from an earlier version: train it again"):
        build(with_network(old), torch.device("cpu"))


def test_fewer_or_other_training_images_are_no_obstacle(own_data: Path, store: Store) -> None:
    """They are a subset of what both may train on, and no image that is held out."""
    parts = build(with_network(store, "dataset.train_images=40"), torch.device("cpu"))
    assert len(parts.clusters["train"]) == 40


def test_a_network_that_takes_clusters_itself_is_refused(own_data: Path, store: Store) -> None:
    clustered = config(store, "partition=kmeans", "seed=3", "trainer.max_epochs=1")
    execute(clustered, store)
    with pytest.raises(CbnormError, match="takes clusters itself"):
        build(
            config(store, "partition=mn_components", f"partition.run={run_id(clustered)}"),
            torch.device("cpu"),
        )


def test_a_run_of_another_fold_is_refused() -> None:
    """Also where the seed chooses it: seed 1 tests on what seed 0 trains on."""
    ours = compose_run([*WORDS, "norm=bn"])
    folded = ours.model_copy(update={"dataset": ours.dataset.model_copy(update={"folds": 10, "fold": None})})
    other = folded.model_copy(update={"seed": 1})
    _refuse_other_images(folded, folded, "a")
    with pytest.raises(CbnormError, match=r"was trained with dataset\.fold=1, not 0"):
        _refuse_other_images(other, folded, "a")
