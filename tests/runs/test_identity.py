"""A run's id depends on everything that can change its numbers, and on nothing else."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbnorm.config.canonical import canonical, flatten
from cbnorm.config.compose import compose_run
from cbnorm.config.options import (
    LATER_OPTIONS,
    MODEL_OPTIONS,
    NORM_OPTIONS,
    OPTIMIZER_OPTIONS,
    SCHEDULE_OPTIONS,
    TASK_OPTIONS,
)
from cbnorm.config.schema import RunConfig
from cbnorm.runs.identity import digest, identity, row_of, run_id

BASE = compose_run(["norm=ucb"])
SCB = compose_run(["norm=scb"])

OTHER_VALUES: dict[str, Any] = {
    "dataset.name": "digits",
    "dataset.image_size": 64,
    "dataset.train_images": 9000,
    "dataset.val_images": 4000,
    "dataset.test_images": 100,
    "dataset.split_seed": 1,
    "dataset.augmentation.flip": False,
    "dataset.augmentation.rotation": 1.0,
    "dataset.augmentation.zoom": 0.1,
    "model.placement": [2],
    "norm.components": 4,
    "norm.eps": 1e-3,
    "norm.momentum": 0.2,
    "norm.update": "moving_average",
    "norm.train_stats": "params",
    "norm.eval_stats": "batch",
    "norm.posterior": "joint",
    "optimizer.lr": 0.002,
    "optimizer.weight_decay": 0.0,
    "optimizer.decay": "absolute",
    "optimizer.decay_norms": True,
    "optimizer.betas": [0.8, 0.999],
    "optimizer.eps": 1e-7,
    "trainer.max_epochs": 21,
    "trainer.batch_size": 128,
    "trainer.precision": "fp32",
    "trainer.channels_last": False,
    "trainer.threads": 2,
    "trainer.moments": [50, 100],
    "seed": 1,
}
#: Groups of one choice: nothing else can be put there yet.
SINGLE = {"model.name", "norm.name", "optimizer.name", "task.name", "partition.name"}


def change(config: RunConfig, key: str, value: Any) -> RunConfig:
    """A copy of a config with one dotted key changed."""
    head, _, rest = key.partition(".")
    if not rest:
        return config.model_copy(update={head: value})
    return config.model_copy(update={head: change(getattr(config, head), rest, value)})


@pytest.mark.parametrize("key", sorted(flatten(canonical(BASE)).keys() - SINGLE))
def test_every_value_that_can_change_numbers_changes_the_id(key: str) -> None:
    assert key in OTHER_VALUES, f"give another value of {key} to this test"
    assert run_id(change(BASE, key, OTHER_VALUES[key])) != run_id(BASE)


@pytest.mark.parametrize(
    ("key", "value"),
    {
        "logger.name": "wandb",
        "logger.project": "other",
        "store": "/elsewhere",
        "experiment": "table5",
        "protocol": "other",
        "budget": "other",
        "trainer.device": 3,
        "trainer.accelerator": "gpu",
    }.items(),
)
def test_names_places_and_loggers_do_not(key: str, value: str) -> None:
    assert run_id(change(BASE, key, value)) == run_id(BASE)


LATER_VALUES: dict[str, Any] = {
    "dataset.split": "last",
    "dataset.statistics": "imagenet",
    "model.bn_eps": 1e-3,
    "model.bn_momentum": 0.01,
    "model.last_kernel": 5,
    "model.head": "flatten",
    "optimizer.schedule": "cosine",
    "norm.temper": True,
    "norm.init": "first_batch",
    "norm.separate": True,
    "partition.test": "refit",
    "task.test_curve": True,
    "task.confident": True,
    "task.labels": "superclass",
    "task.group": "superclass",
    "task.readings": ["unknown"],
    "task.select": "loss",
    "task.components": 5,
    "trainer.rollback": True,
    "trainer.patience": 10,
    "dataset.folds": 5,
    "dataset.fold": 1,
    "dataset.augmentation.shift": 0.1,
    "dataset.augmentation.shear": 0.1,
    "dataset.augmentation.fill": "nearest",
    "dataset.augmentation.crop": 4,
}


@pytest.mark.parametrize("key", sorted(LATER_OPTIONS))
def test_a_later_option_is_left_out_only_at_the_value_that_changes_nothing(key: str) -> None:
    base = BASE if key.startswith("norm.") else SCB
    if key == "norm.separate":
        base = change(SCB, "norm.name", "cluster_bn")
    assert key not in flatten(canonical(base))
    assert run_id(change(base, key, LATER_OPTIONS[key])) == run_id(base)
    assert run_id(change(base, key, LATER_VALUES[key])) != run_id(base)


def test_where_the_images_lie_does_not_count() -> None:
    assert run_id(change(BASE, "dataset.folder", "/elsewhere")) == run_id(BASE)


@pytest.mark.parametrize("norm", sorted(NORM_OPTIONS))
@pytest.mark.parametrize(
    "option", sorted(RunConfig.model_fields["norm"].annotation.model_fields.keys() - {"name"})
)
def test_options_that_a_norm_ignores_do_not(norm: str, option: str) -> None:
    config = compose_run([f"norm={norm}"])
    value = getattr(config.norm, option)
    others = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v / 2, type(None): lambda _: 2}
    others[dict] = lambda _: {"width": 2}
    other = others.get(type(value), lambda _: "x")(value)
    changed = config.model_copy(update={"norm": config.norm.model_copy(update={option: other})})
    assert (run_id(changed) == run_id(config)) == (option not in NORM_OPTIONS[norm])


@pytest.mark.parametrize("model", sorted(MODEL_OPTIONS))
def test_options_that_a_model_ignores_do_not(model: str) -> None:
    config = compose_run([f"model={model}", *(["task=gan"] if model == "dcgan" else [])])
    read = {"placement", *MODEL_OPTIONS[model]}
    others = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v + 0.1, list: lambda v: [9, *v]}
    for option in config.model.model_fields_set - {"name", "options"}:
        value = getattr(config.model, option)
        other = others.get(type(value), lambda _: "other")(value)
        assert (run_id(change(config, f"model.{option}", other)) == run_id(config)) == (option not in read)


@pytest.mark.parametrize("schedule", sorted(SCHEDULE_OPTIONS))
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZER_OPTIONS))
def test_options_that_an_optimizer_ignores_do_not(optimizer: str, schedule: str) -> None:
    config = compose_run([f"optimizer={optimizer}", f"optimizer.schedule={schedule}"])
    read = {"schedule", *OPTIMIZER_OPTIONS[optimizer], *SCHEDULE_OPTIONS[schedule]}
    others = {bool: lambda v: not v, float: lambda v: v + 0.1, list: lambda _: [0.1, 0.2]}
    for option in config.optimizer.model_fields_set - {"name", "schedule"}:
        value = getattr(config.optimizer, option)
        other = others.get(type(value), lambda _: "absolute")(value)
        changed = change(config, f"optimizer.{option}", other)
        assert (run_id(changed) == run_id(config)) == (option not in read)


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # the other values need not be possible ones
@pytest.mark.parametrize("task", sorted(TASK_OPTIONS))
def test_options_that_a_task_ignores_do_not(task: str) -> None:
    config = change(BASE, "task.name", task)
    others = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v / 2, list: lambda v: [*v, "x"]}
    for option in config.task.model_fields_set - {"name"}:
        value = getattr(config.task, option)
        changed = change(config, f"task.{option}", others.get(type(value), lambda _: "other")(value))
        assert (run_id(changed) == run_id(config)) == (option not in TASK_OPTIONS[task])


def test_the_partition_counts_only_for_norms_that_take_clusters() -> None:
    assert run_id(compose_run(["norm=bn", "partition=gmm"])) == run_id(compose_run(["norm=bn"]))
    ids = {run_id(compose_run(["norm=scb", f"partition={p}"])) for p in ("gmm", "kmeans", "random")}
    assert len(ids) == 3
    assert run_id(change(SCB, "partition.clusters", 5)) != run_id(SCB)
    assert run_id(change(SCB, "partition.features", "raw")) != run_id(SCB)


def test_a_row_is_all_runs_that_differ_only_in_the_seed() -> None:
    assert row_of(identity(change(BASE, "seed", 7))) == row_of(identity(BASE))
    assert row_of(identity(change(BASE, "optimizer.lr", 0.5))) != row_of(identity(BASE))


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.text(), st.one_of(st.integers(), st.booleans(), st.text()), min_size=2), st.randoms()
)
def test_the_order_of_keys_does_not_matter(content: dict[str, Any], random) -> None:
    keys = list(content)
    random.shuffle(keys)
    assert digest({key: content[key] for key in keys}) == digest(content)


def test_equal_numbers_written_differently_are_the_same_run() -> None:
    assert run_id(compose_run(["optimizer.lr=1e-3"])) == run_id(compose_run(["optimizer.lr=0.001"]))
    assert run_id(compose_run(["model.placement=[3,2,3]"])) == run_id(compose_run(["model.placement=[2,3]"]))
    assert run_id(compose_run(["optimizer.weight_decay=0"])) == run_id(
        compose_run(["optimizer.weight_decay=0.0"])
    )
