"""Runs that are read under further conditions: what they need is a run of its own, trained once."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from cbnorm.config.compose import compose_run
from cbnorm.config.readings import plainly_read
from cbnorm.data.images import load
from cbnorm.errors import CbnormError
from cbnorm.report.endpoints import early_stopping
from cbnorm.runs import execute as execution
from cbnorm.runs import outcome
from cbnorm.runs.build import build, build_network
from cbnorm.runs.claim import claim
from cbnorm.runs.execute import execute
from cbnorm.runs.guesses import probabilities
from cbnorm.runs.identity import run_id
from cbnorm.runs.needed import group_classifier
from cbnorm.runs.plan import plan
from cbnorm.runs.store import Store
from cbnorm.tasks.classification import ClassificationReader

FEW = [
    "dataset=digits",
    "budget=smoke",
    "dataset.train_images=60",
    "dataset.val_images=20",
    "dataset.test_images=20",
    "trainer.batch_size=30",
    "trainer.precision=fp32",
    "trainer.max_epochs=1",
    "trainer.moments=[100]",
]
GROUPED = ["partition=superclass", "task.group=superclass"]
ALL = "task.readings=[unknown,predicted,averaged,permuted]"


def config(store: Store, *words: str) -> Any:
    return compose_run([*FEW, f"store={store.root}", *words])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with two runs that are read in every way, and the classifier that they share."""
    made = Store(tmp_path_factory.mktemp("readings") / "runs")
    for norm in ("scb", "scb_base"):
        execute(config(made, f"norm={norm}", *GROUPED, ALL), made)
    return made


def test_the_classifier_of_groups_is_one_run_for_all(store: Store) -> None:
    runs = {path.parent.name for path in store.root.glob("*/record.json")}
    wanted = [config(store, f"norm={norm}", *GROUPED, ALL) for norm in ("scb", "scb_base")]
    assert {run_id(group_classifier(one)) for one in wanted} < runs
    assert len(runs) == 3


def test_a_plan_counts_the_classifier(store: Store) -> None:
    planned = plan("table7", ["budget=smoke"], seeds=[0, 1], labels=["ViT+SCB-Norm"])
    rows = [item.row for item in planned]
    assert rows == ["classifier of superclass", "ViT+SCB-Norm"] * 2
    assert [item.config.seed for item in planned] == [0, 0, 1, 1]


def test_the_classifier_is_the_run_that_a_command_can_name(store: Store) -> None:
    named = config(store, "norm=none", "model.placement=[]", "task.labels=superclass")
    assert run_id(named) == run_id(group_classifier(config(store, "norm=scb", *GROUPED, ALL)))
    # Also under a protocol that rolls SCB-Norm back, and gives it other options.
    scb = config(store, "protocol=released", "norm=scb", *GROUPED, ALL)
    none = config(store, "protocol=released", "norm=none", "model.placement=[]", "task.labels=superclass")
    assert run_id(none) == run_id(group_classifier(scb))


def test_the_classifier_sees_the_same_images_and_learns_their_groups(store: Store) -> None:
    ours = config(store, "norm=scb", *GROUPED, ALL)
    theirs = build(group_classifier(ours), torch.device("cpu"))
    data = load("digits", val_images=20, train_images=60, test_images=20)
    assert torch.equal(theirs.data.train.indices, data.train.indices)
    assert torch.equal(theirs.data.train.labels, data.train.labels // 2)
    assert theirs.data.num_classes == 5
    assert theirs.partition is None


def test_readings_are_in_the_record_and_predictions_beside_it(store: Store) -> None:
    run = run_id(config(store, "norm=scb", *GROUPED, ALL))
    record = store.record(run)
    best = record["metrics"]["moments"][-1]["best"]
    with np.load(store.folder(run) / "predictions.npz") as arrays:
        epoch = record["metrics"]["moments"][-1]["epoch"]
        for name in ("unknown", "predicted", "averaged", "permuted"):
            share = (arrays[f"{name}.best_epoch{epoch}"] == arrays["labels"]).mean()
            assert best[f"{name}.accuracy"] == pytest.approx(100 * share)
            assert best[f"{name}.top5"] >= best[f"{name}.accuracy"]
    assert record["partition"]["oracle"] is True


def test_guessed_ids_are_those_of_the_classifiers_best_weights(store: Store) -> None:
    ours = config(store, "norm=scb", *GROUPED, ALL)
    found, run = probabilities(ours)
    record = store.record(run)
    torch.testing.assert_close(found.sum(1), torch.ones(20))
    with np.load(store.folder(run) / "predictions.npz") as arrays:
        labels = torch.from_numpy(arrays["labels"])
        share = (found.argmax(1) == labels).float().mean().item()
    assert record["metrics"]["moments"][-1]["best"]["accuracy"] == pytest.approx(100 * share, abs=5.1)
    reader = build(ours, torch.device("cpu")).reader
    assert torch.equal(reader.conditions["predicted"].ids, found.argmax(1))
    assert torch.equal(reader.conditions["averaged"].weights, found)
    assert sorted(reader.conditions["permuted"].ids.tolist()) == sorted((labels // 1).tolist())


def test_guesses_come_from_the_best_weights_at_the_end(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([10.0, 50.0, 40.0])
    scripted = lambda *_: {"val_loss": 1.0, "val_accuracy": next(scores)}  # noqa: E731
    monkeypatch.setattr(ClassificationReader, "validate", scripted)
    store = Store(tmp_path / "runs")
    words = ["trainer.max_epochs=3", "trainer.moments=[33,100]", "optimizer.lr=0.05"]
    ours = config(store, "norm=scb", *GROUPED, ALL, *words)
    execute(group_classifier(ours), store)
    found, run = probabilities(ours)
    with np.load(store.folder(run) / "predictions.npz") as arrays:
        kept = {key: arrays[f"probabilities_{key}"] for key in ("best_epoch1", "best_epoch3", "last_epoch3")}
    assert not np.array_equal(kept["best_epoch3"], kept["best_epoch1"])
    assert not np.array_equal(kept["best_epoch3"], kept["last_epoch3"])
    torch.testing.assert_close(found, torch.from_numpy(kept["best_epoch3"]).float(), atol=2e-3, rtol=0)


def test_the_seed_decides_how_ids_are_permuted(tmp_path) -> None:
    def ids(seed: int) -> torch.Tensor:
        words = ["norm=scb", *GROUPED, "task.readings=[permuted]", f"seed={seed}"]
        parts = build(config(Store(tmp_path / "runs"), *words), torch.device("cpu"))
        return parts.reader.conditions["permuted"].ids

    assert torch.equal(ids(0), ids(0))
    assert not torch.equal(ids(0), ids(1))


def test_nothing_is_trained_a_second_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_train", None)
    assert execute(config(store, "norm=scb", *GROUPED, ALL), store)["status"] == "done"


def test_a_run_waits_while_another_process_trains_its_classifier(tmp_path) -> None:
    store = Store(tmp_path / "runs")
    wanted = config(store, "norm=scb", *GROUPED, ALL)
    with claim(store.folder(run_id(group_classifier(wanted)))) as held:
        assert held is not None
        assert execute(wanted, store) is None
    assert store.status(run_id(wanted)) is None


def test_folds_follow_the_seed_where_none_is_named() -> None:
    words = ["dataset=oxford_pets_sample", "dataset.train_images=null", "task.group=species"]
    for fold, seed, expected in (("null", 13, 3), ("null", 0, 0), ("7", 13, 7)):
        chosen = compose_run([*words, f"dataset.fold={fold}", f"seed={seed}"])
        assert chosen.fold == group_classifier(chosen).fold == expected
    assert compose_run(["seed=4"]).fold == 0


def test_speed_can_be_measured_before_the_classifier_is_there(tmp_path) -> None:
    wanted = config(Store(tmp_path / "runs"), "norm=scb", *GROUPED, ALL)
    with pytest.raises(CbnormError, match=r"the classifier of superclass, has no usable probabilities"):
        build(wanted, torch.device("cpu"))
    parts = build(plainly_read(wanted), torch.device("cpu"))
    assert parts.reader.conditions == {}
    assert parts.task.model.state_dict().keys() == build_network(wanted, 10, 5).state_dict().keys()


def test_withheld_ids_are_the_same_function_known_or_not(tmp_path) -> None:
    store = Store(tmp_path / "runs")
    wanted = config(
        store,
        "norm=scb",
        "norm.convention=released",
        *GROUPED,
        "partition.withheld=true",
        "task.readings=[unknown]",
    )
    record = execute(wanted, store)
    best = record["metrics"]["moments"][-1]["best"]
    assert best["unknown.loss"] == best["loss"]
    assert record["partition"]["oracle"] is False
    assert record["partition"]["withheld"] is True
    assert record["partition"]["sizes"]["test"] == [0] * 5


def test_masking_a_plain_network(tmp_path) -> None:
    store = Store(tmp_path / "runs")
    best = execute(config(store, "norm=bn", "task.group=superclass", "task.readings=[masked]"), store)[
        "metrics"
    ]["moments"][-1]["best"]
    assert best["masked.accuracy"] >= best["accuracy"]
    assert best["masked.top5"] == 100


def test_a_network_that_diverged_has_no_components_and_is_read_all_the_same(tmp_path) -> None:
    store = Store(tmp_path / "runs")
    words = ["norm=bn", "task.components=2", "optimizer.lr=1e30", "trainer.max_epochs=2"]
    record = execute(config(store, *words), store)
    assert record["status"] == "diverged"
    with np.load(store.folder(record["id"]) / "predictions.npz") as arrays:
        assert not [name for name in arrays if "components" in name]


def test_uan_is_read_by_running_moments_beside_those_of_the_batch(tmp_path) -> None:
    store = Store(tmp_path / "runs")
    words = ["task.readings=[running,batch,batch16]", "norm.components=2", "trainer.max_epochs=2"]
    record = execute(config(store, "norm=uan", *words), store)
    ucb = execute(config(store, "norm=ucb", "norm.eval_stats=running", *words), store)
    uan, ours = (one["metrics"]["moments"][-1]["last"] for one in (record, ucb))
    # The layers train alike: each is the other's reading.
    assert uan["batch.loss"] == uan["loss"] == ours["batch.loss"]
    assert uan["running.loss"] == ours["loss"] == ours["running.loss"]
    assert len({uan["loss"], uan["running.loss"], uan["batch16.loss"]}) == 3
    with np.load(store.folder(record["id"]) / "predictions.npz") as arrays:
        share = (arrays["running.last_epoch2"] == arrays["labels"]).mean()
    assert uan["running.accuracy"] == pytest.approx(100 * share)
    without = config(store, "norm=uan", "task.readings=[]", *words[1:])
    assert run_id(without) != record["id"]


def test_the_test_set_is_read_once_where_training_would_have_stopped(tmp_path, monkeypatch) -> None:
    losses = iter([2.0, 2.5, 1.0, 4.0] * 2)
    scripted = lambda *_: {"val_loss": next(losses), "val_accuracy": 10.0}  # noqa: E731
    monkeypatch.setattr(ClassificationReader, "validate", scripted)
    store = Store(tmp_path / "runs")
    words = ["norm=bn", "trainer.max_epochs=4", "task.select=loss"]
    record = execute(config(store, *words, "trainer.patience=1"), store)
    entries = record["metrics"]["moments"]
    assert [(e["percent"], e["epoch"], e["best_epoch"], e.get("stopped")) for e in entries] == [
        (None, 2, 1, True),
        (100, 4, 3, None),
    ]
    lines = (store.folder(record["id"]) / "history.jsonl").read_text().splitlines()
    told = early_stopping(record, [json.loads(line) for line in lines], 1)
    assert (told.epoch, told.best_epoch, told.test_accuracy) == (2, 1, entries[0]["best"]["accuracy"])
    # A reading more: the identity tells the two runs apart, training does not.
    without = execute(config(store, *words), store)
    assert without["id"] != record["id"]
    assert without["metrics"]["moments"][-1]["last"] == entries[-1]["last"]


def test_of_equal_scores_the_first_epoch_is_the_best(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = lambda *_: {"val_loss": 1.0, "val_accuracy": 10.0}  # noqa: E731
    monkeypatch.setattr(ClassificationReader, "validate", scripted)
    record = execute(config(Store(tmp_path / "runs"), "norm=bn", "trainer.max_epochs=2"), Store(tmp_path))
    assert record["metrics"]["moments"][-1]["best_epoch"] == 1


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["norm=bn", "task.readings=[unknown]"], "unknown needs a norm that takes clusters, not bn"),
        (["norm=scb", *GROUPED, "task.readings=[masked]"], "masked needs a norm that takes none"),
        (["norm=bn", "task.readings=[masked]"], r"add task.group=superclass"),
        (
            ["norm=scb", "partition=gmm", "task.group=superclass", "task.readings=[predicted]"],
            "partition=gmm",
        ),
        (["norm=scb", "partition=superclass", "task.readings=[averaged]"], "they need task.group=superclass"),
        (["norm=none", "task.labels=superclass", "task.readings=[unknown]"], "learns groups"),
        (
            ["norm=bn", "task.readings=[running]"],
            "running is of layers .* ucb and uan, not of bn",
        ),
        (["norm=scb", *GROUPED, "task.readings=[batch16]"], "batch16 is of layers"),
        (
            ["norm=uan", "norm.train_stats=params", "task.readings=[running]"],
            "running needs averages, which norm.train_stats=params",
        ),
        (["norm=bn", "task.readings=[guessed]"], "task.readings=guessed must be"),
    ],
)
def test_readings_that_make_no_sense_are_one_line(words: list[str], wrong: str) -> None:
    with pytest.raises(CbnormError, match=wrong) as caught:
        compose_run([*FEW, *words])
    assert "\n" not in str(caught.value)


def test_an_attribute_that_images_lack_is_one_line() -> None:
    for words in (["task.labels=mood"], ["norm=bn", "task.group=mood", "task.readings=[masked]"]):
        with pytest.raises(CbnormError, match=r"^task\.(labels|group)=mood: the images .* have no attribute"):
            build(compose_run([*FEW, *words]), torch.device("cpu"))


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([0, 255], np.uint8),
        ([0, 256], np.int32),
        ([-1, 3], np.int32),
        ([], np.uint8),
        ([0.5, 1.0], np.float16),
    ],
)
def test_predictions_are_kept_in_the_smallest_numbers_that_hold_them(values: list[float], kept: type) -> None:
    found = outcome._small(torch.tensor(values, dtype=None if values else torch.int64))
    assert (found.dtype, found.tolist()) == (kept, values)
