"""Every choice in conf/ composes, and what Hydra sweeps is what the tables are made of."""

import pytest

from cbnorm.config.canonical import canonical
from cbnorm.config.compose import compose_run, compose_sweep_params, groups, ignored_options, tell_ignored
from cbnorm.config.locations import conf_dir
from cbnorm.runs.plan import choose_rows, expand, plan, read_controls, read_rows

CHOICES = [(group, name) for group, names in groups().items() for name in names]


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes(group: str, name: str) -> None:
    words = [f"{group}={name}"]
    if group == "partition" and name != "none":
        words.append("norm=scb")
    if name == "digits":
        words.append("budget=smoke")  # the only one that digits has enough images for
    if name in {"usps", "digits_negatives", "oxford_pets", "oxford_pets_sample"}:
        words.append("dataset.train_images=null")  # they have fewer than budget=small takes
    if name == "dcgan":
        words.append("task=gan")  # nothing else trains it
    if name == "imagefolder":
        words.append("dataset.folder=photographs")  # whose photographs, only the user knows
    run = compose_run(words)
    assert run.seed == 0


@pytest.mark.parametrize(
    "path", sorted(conf_dir().rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_every_config_file_says_what_it_is(path) -> None:
    first, *rest = path.read_text(encoding="utf8").splitlines()
    comment = rest[0] if first.startswith("# @package") else first
    assert comment.startswith("# ")
    assert len(comment) > 20


def test_scb_gets_a_partition_unless_one_is_chosen() -> None:
    assert compose_run(["norm=scb"]).partition.name == "gmm"
    assert compose_run(["norm=scb", "partition=random"]).partition.name == "random"
    assert compose_run(["norm=bn"]).partition.name == "none"


def test_the_command_line_wins_over_presets() -> None:
    run = compose_run(
        ["budget=smoke", "dataset=cifar10", "trainer.max_epochs=7", "protocol=paper", "norm=ucb"]
    )
    assert (run.dataset.name, run.trainer.max_epochs, run.norm.eval_stats) == ("cifar10", 7, "params")


def test_the_declared_hydra_sweep_is_the_published_table() -> None:
    params = compose_sweep_params(["experiment=table5"])
    swept = {str(canonical(compose_run(["experiment=table5", *words]))) for words in expand([], params)}
    assert swept == {str(canonical(item.config)) for item in plan("table5")}
    assert len(swept) == len(read_rows("table5")) == 10


def test_ignored_options_are_named() -> None:
    words = ["norm=bn", "norm.components=5", "norm.eps=0.001"]
    assert ignored_options(compose_run(words), words) == ["norm.components"]


@pytest.mark.parametrize(
    ("words", "ignored"),
    [
        ("norm=bn partition=gmm partition.clusters=7", ["partition", "partition.clusters"]),
        ("norm=scb partition=gmm partition.clusters=7", []),
        ("norm=scb partition=superclass partition.clusters=7 dataset=cifar100", ["partition.clusters"]),
        ("norm=scb partition=gmm partition.attribute=species", ["partition.attribute"]),
        ("norm=bn partition=none", []),
    ],
)
def test_a_partition_that_nobody_reads_is_named(words: str, ignored: list[str]) -> None:
    assert ignored_options(compose_run(words.split()), words.split()) == ignored


def test_of_several_runs_what_none_reads_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["norm.components=5", "norm.eps=0.001", "partition.clusters=4"]
    tell_ignored([compose_run(["norm=bn", *words]), compose_run(["norm=ln", *words])], words)
    told = capsys.readouterr().err.splitlines()
    assert told == ["cbnorm: norm.components, partition.clusters: ignored by norm=bn and norm=ln"]
    tell_ignored([compose_run(["norm=bn", *words]), compose_run(["norm=mn", *words])], words[:2])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("norm=ucb", "placement", [2]),
        ("norm=ucb", "eval_stats", "batch"),
        ("norm=scb", "placement", [3]),
        ("norm=scb", "rollback", True),
        ("norm=bn", "rollback", False),
        ("norm=scb", "test", "refit"),
        ("norm=scb", "partition", "random"),
        ("norm=scb dataset=digits budget=smoke", "partition", "gmm"),
    ],
)
def test_a_protocol_speaks_of_single_norms_and_data_sets(words: str, key: str, value: object) -> None:
    run = compose_run(["protocol=released", *words.split()])
    found = {
        "placement": run.model.placement,
        "rollback": run.trainer.rollback,
        "eval_stats": run.norm.eval_stats,
        "partition": run.partition.name,
        "test": run.partition.test,
    }
    assert found[key] == value


def test_the_command_line_wins_over_what_a_protocol_says_of_a_norm() -> None:
    run = compose_run(["protocol=released", "norm=ucb", "model.placement=[3]", "norm.eval_stats=params"])
    assert (run.model.placement, run.norm.eval_stats, run.norm.eps) == ([3], "params", 1e-3)


def test_rows_are_chosen_by_label_or_as_a_set() -> None:
    assert [row.label for row in choose_rows("table5", ["controls"])] == [
        row.label for row in read_controls("table5")
    ]
    assert len(choose_rows("table5", ["all"])) == len(choose_rows("table5")) + 14
    assert [row.label for row in choose_rows("table5", ["No-norm-2", "BN-1"])] == ["BN-1", "No-norm-2"]


def test_every_control_is_a_row_of_its_own() -> None:
    rows = [str(canonical(item.config)) for item in plan("table5", labels=["all"])]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model.placement=[]", "norm=ucb", "norm.eps=0.1"], "norm, norm.eps: ignored by model.placement=[]"),
        (["dataset.split=last", "dataset.split_seed=3"], "dataset.split_seed: ignored by dataset.split=last"),
        (["experiment=dcgan", "trainer.patience=3"], "trainer.patience: ignored by task=gan"),
    ],
)
def test_options_that_change_the_id_but_no_number_are_told(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_ignored([compose_run(words)], words)
    assert capsys.readouterr().err == f"cbnorm: {told}\n"
    tell_ignored([compose_run(["norm=ucb", "trainer.patience=3"])], ["norm=ucb", "trainer.patience=3"])
    assert capsys.readouterr().err == ""


def test_what_keras_trained_has_its_eps() -> None:
    found = {
        (experiment, protocol): compose_run(
            [f"experiment={experiment}", f"protocol={protocol}"]
        ).optimizer.eps
        for experiment in ("table5", "table6", "table7", "table8", "dcgan")
        for protocol in ("sound", "released")
    }
    assert {key for key, eps in found.items() if eps == 1e-7} == {
        (experiment, "released") for experiment in ("table5", "table6", "table7", "table8")
    }
    assert set(found.values()) == {1e-7, 1e-8}
