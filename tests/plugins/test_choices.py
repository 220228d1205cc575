"""What other packages declare can be chosen like our own, and is imported only when it is."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cbnorm import plugins
from cbnorm.config.canonical import canonical
from cbnorm.config.compose import compose_run, groups, ignored_options
from cbnorm.errors import CbnormError
from cbnorm.report.ledger import read_cells
from cbnorm.runs.identity import identity, run_id
from cbnorm.runs.plan import find_experiment, plan

Install = Callable[..., None]
STRIPES = ["dataset=stripes", "budget=full"]


def refusal(*words: str) -> str:
    with pytest.raises(CbnormError) as refused:
        compose_run(words)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("norm", "rms"),
        ("norm", "cluster_shift"),
        ("model", "small_cnn"),
        ("dataset", "stripes"),
        ("experiment", "rms_table"),
    ],
)
def test_every_kind_can_be_chosen_and_is_suggested(kind: str, name: str) -> None:
    assert name in groups()[kind]
    run = compose_run([f"{kind}={name}", "budget=full"])
    assert getattr(getattr(run, kind), "name", run.experiment) == name
    misspelt = name[:-1] + "x"
    assert refusal(f"{kind}={misspelt}") == f"unknown {kind} '{misspelt}': did you mean '{name}'?"


def test_without_packages_there_are_only_our_own_names() -> None:
    assert all(plugins.names(kind) == [] for kind in plugins.GROUPS)
    assert "rms" not in groups()["norm"]


@pytest.mark.usefixtures("example")
def test_a_norm_with_clusters_gets_a_partition_and_others_none() -> None:
    assert compose_run(["norm=cluster_shift"]).partition.name == "gmm"
    assert compose_run(["norm=cluster_shift", "partition=random"]).partition.name == "random"
    assert canonical(compose_run(["norm=rms", "partition=gmm"]))["partition"] == {"name": "none"}
    assert "norm=cluster_shift needs clusters" in refusal("norm=cluster_shift", "partition=none")


@pytest.mark.usefixtures("example")
def test_the_identity_names_the_package_and_holds_what_is_read_alone() -> None:
    words = [
        *STRIPES,
        "norm=rms",
        "norm.options.eps=0.1",
        "norm.eps=0.1",
        "model=small_cnn",
        "model.head=flatten",
    ]
    values = canonical(compose_run(words))
    assert values["norm"] == {"name": "cbnorm-example:rms", "options": {"eps": 0.1}}
    assert values["model"] == {"name": "cbnorm-example:small_cnn", "placement": [3], "options": {}}
    assert values["dataset"]["name"] == "cbnorm-example:stripes"
    assert ignored_options(compose_run(words), words) == ["model.head", "norm.eps"]
    others = [words[:3], [*words[:3], "norm.options.eps=0.2"], ["norm=bn"], words]
    assert len({run_id(compose_run(other)) for other in others}) == 4


def test_the_identity_of_our_own_runs_stays(example_site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose_run(["norm=scb", "seed=41"])
    before = identity(config)
    monkeypatch.syspath_prepend(example_site)
    assert identity(config) == before
    assert "options" not in before["config"]["norm"].keys() | before["config"]["model"].keys()


@pytest.mark.usefixtures("example")
def test_a_data_set_says_what_its_config_holds_and_numbers_are_checked() -> None:
    run = compose_run(STRIPES)
    assert (run.dataset.val_images, run.dataset.image_size) == (30, 32)
    varied = run.dataset.augmentation.model_dump()
    assert (varied["flip"], varied["rotation"], varied["zoom"]) == (False, 0.0, 0.0)
    assert "Stripes has 300 training images" in refusal("dataset=stripes", "budget=small")


@pytest.mark.usefixtures("example")
def test_an_experiment_is_planned_with_its_rows_and_cells() -> None:
    planned = plan(find_experiment("rms_table"), STRIPES)
    assert [item.row for item in planned] == ["BN", "RMS", "RMS-0.1", "Shift"]
    assert planned[2].config.norm.options == {"eps": 0.1}
    assert read_cells("rms_table") == {("Stripes", "BN", 100, "accuracy"): 90.0}
    with pytest.raises(CbnormError, match="did you mean 'rms_table'"):
        find_experiment("rms_tabel")


@pytest.mark.parametrize(
    "words", ["norm=rmss", "norm=rms lr=0.1", "model=small_cnn optimizer.lr=-1", "dataset=stripes seed=-1"]
)
def test_refusals_import_neither_torch_nor_norms_and_models(words: str, example_site: Path) -> None:
    code = (
        "import sys; from cbnorm.cli import main; status = main(['train', *sys.argv[1:]]); "
        "assert not {'torch', 'cbnorm_example.rms', 'cbnorm_example.small_cnn'} & set(sys.modules); "
        "assert 'numpy' not in sys.modules; sys.exit(status)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *words.split()],
        env={**os.environ, "PYTHONPATH": str(example_site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_name_of_our_own_is_refused_with_the_package_that_declares_it_too(install: Install) -> None:
    install("taker", {"cbnorm.norms": {"bn": "taker:BN"}, "cbnorm.datasets": {"digits": "taker:D"}})
    message = "norm 'bn' is cbnorm's own, but package taker 2.0 (cbnorm.norms) declares it too: "
    assert message in refusal("norm=bn", "seed=42")
    assert message in refusal("seed=42")
    assert "dataset 'digits' is cbnorm's own" in refusal("norm=ucb", "budget=smoke", "seed=42")
    assert compose_run(["norm=ucb", "seed=42"]).norm.name == "ucb"


def test_a_name_that_two_packages_declare_is_refused_with_both(install: Install) -> None:
    install("one", {"cbnorm.norms": {"twice": "one:Norm", "once": "one:Norm"}})
    install("Two_x", {"cbnorm.clustered_norms": {"twice": "two_x:Norm"}})
    message = refusal("norm=twice")
    assert "package one 2.0 (cbnorm.norms)" in message
    assert "package two-x 2.0 (cbnorm.clustered_norms)" in message
    assert compose_run(["norm=once"]).norm.name == "once"


def test_the_first_of_two_copies_of_a_package_counts(install: Install, example_site: Path) -> None:
    install("cbnorm.example", {"cbnorm.norms": {"rms": "elsewhere:RMS"}})
    sys.path.append(str(example_site))
    try:
        assert plugins.find("norm", "rms").version == "2.0"
    finally:
        sys.path.remove(str(example_site))


@pytest.mark.parametrize("text", ["cbnorm.norms", "[cbnorm.norms]\nx", "[cbnorm.norms]\n= :\n", "\0[cbnorm."])
def test_broken_metadata_concern_nobody_else(text: str, install: Install, tmp_path: Path) -> None:
    install("fine", {"cbnorm.norms": {"fine": "fine:Norm"}})
    install("odd", {})
    next((tmp_path / "odd").glob("*/entry_points.txt")).write_text(text)
    assert plugins.names("norm") == ["fine"]


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("gone", "", "norm 'x' of package gone 2.0 can't be imported (AttributeError: "),
        ("bad", "import no_such_module", "(ModuleNotFoundError: No module named 'no_such_module'): mend or"),
        ("quits", "raise SystemExit(3)", "norm 'x' of package quits 2.0 can't be imported (SystemExit: 3)"),
        ("wordy", "raise ValueError('a\\nb')", "(ValueError: a): mend or uninstall the package"),
    ],
)
def test_a_package_that_fails_on_import_is_named_when_its_thing_is_asked_for(
    name: str, code: str, message: str, install: Install
) -> None:
    install(name, {"cbnorm.norms": {"x": f"{name}:Norm"}}, code)
    assert compose_run(["norm=x"]).norm.name == "x"
    with pytest.raises(plugins.PluginError) as failed:
        plugins.load("norm", "x")
    assert message in str(failed.value)
    assert "\n" not in str(failed.value)


@pytest.mark.usefixtures("example")
def test_options_of_that_kind_are_refused_for_our_own() -> None:
    assert refusal("norm=ucb", "norm.options.eps=0.1").startswith(
        "'norm.options.eps': only a norm of another"
    )
    assert "model.options" in refusal("+model.options.width=3")
    assert refusal("norm=rms", "lrr=3").startswith("unknown option 'lrr'")
    assert "norm.options" in refusal("norm=rms", "norm.options.eps=nan")
