"""Layers, networks and images of other packages: built with their own options, and verified."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cbnorm import plugins
from cbnorm.cli import main
from cbnorm.config.compose import compose_run
from cbnorm.data import catalog, extend
from cbnorm.data.images import load
from cbnorm.data.overview import describe_all
from cbnorm.errors import CbnormError
from cbnorm.norms import cluster_ids, convert_norm, create_norm
from cbnorm.report.collect import collect
from cbnorm.runs.build import build_network
from cbnorm.runs.plan import choose_rows, read_rows
from cbnorm.tasks.optimizers import create_optimizer

Install = Callable[..., None]
BLOCK = {"dataset": "cifar10", "protocol": "sound", "budget": "small"}
LAYER = "from torch import nn\nclass Norm(nn.Module):\n    def __init__(self, C, *, width, eps=1e-5):\n"
LAYER += "        super().__init__()\n"


def network(*words: str) -> nn.Module:
    return build_network(compose_run(["budget=smoke", *words]), 10, 3)


@pytest.mark.usefixtures("example")
def test_a_run_is_built_with_a_norm_and_a_model_and_their_options() -> None:
    model = network("norm=rms", "norm.options.eps=0.5", "model=small_cnn", "model.options.width=8")
    kinds = [(type(norm).__name__, norm.eps) for norm in model.norms]
    assert kinds == [("BatchNorm2d", 1e-5), ("BatchNorm2d", 1e-5), ("RMSNorm", 0.5)]
    assert model.linear.weight.shape == (10, 8 * 16)
    shifted = network("norm=cluster_shift", "partition=kmeans", "model=small_cnn", "model.placement=[1]")
    assert shifted.norms[0].shift.shape == (4, 16)
    with torch.no_grad():
        shifted.norms[0].shift.copy_(torch.arange(4.0)[:, None].expand(4, 16))
        same = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
        logits = shifted.eval()(same, torch.tensor([0, 2]))
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "norm=rms norm.options.epps=1",
            "norm=rms (package cbnorm-example) has no option 'epps'; did you mean 'eps'? It takes: eps",
        ),
        (
            "norm=cluster_shift norm.options.num_clusters=2",
            "takes 'num_clusters' from elsewhere in the config",
        ),
        ("model=small_cnn model.options.image_size=2", "takes 'image_size' from elsewhere in the config"),
        ("model=small_cnn model.options.depth=2", "has no option 'depth'; did you mean 'width'?"),
    ],
)
def test_options_are_compared_with_what_is_called(words: str, message: str) -> None:
    with pytest.raises(CbnormError) as refused:
        network(*words.split())
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("group", "code", "message"),
    [
        ("cbnorm.norms", LAYER, "norm=theirs (package made) needs the option 'width'"),
        ("cbnorm.clustered_norms", LAYER, "norm=theirs (package made) must take the argument 'num_clusters'"),
        ("cbnorm.norms", "Norm = 3", "norm=theirs (package made) is of type int, which can't be called"),
        (
            "cbnorm.norms",
            LAYER.replace("width", "width=1") + "        self.takes_clusters = True\n",
            "norm 'theirs' of package made 2.0 is declared under cbnorm.norms, but takes_clusters is True",
        ),
        (
            "cbnorm.clustered_norms",
            LAYER.replace("width", "num_clusters"),
            "is declared under cbnorm.clustered_norms, but takes_clusters is False",
        ),
    ],
)
def test_a_norm_that_does_not_fit_is_refused(group: str, code: str, message: str, install: Install) -> None:
    install("made", {group: {"theirs": "made:Norm"}}, code)
    with pytest.raises(CbnormError) as refused:
        network("norm=theirs")
    assert message in str(refused.value)


@pytest.mark.usefixtures("example")
def test_the_library_finds_norms_of_other_packages() -> None:
    assert type(create_norm("rms", 4, eps=0.1)).__name__ == "RMSNorm"
    with pytest.raises(ValueError, match=r"'rsm'; did you mean 'rms'\? There are: none, bn, .*, rms"):
        create_norm("rsm", 4)
    with pytest.raises(TypeError, match="'rms' has no option 'epps'; did you mean 'eps'"):
        create_norm("rms", 4, epps=1)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=1e-3)).double()
    nn.init.constant_(model[1].weight, 2.0)
    convert_norm(model, "rms")
    assert (model[1].eps, model[1].weight.tolist(), model[1].weight.dtype) == (1e-3, [2.0] * 8, torch.float64)


@pytest.mark.usefixtures("example")
def test_ids_reach_their_norms_in_a_model_that_knows_of_none() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    convert_norm(model, "cluster_shift", num_clusters=2)
    with torch.no_grad(), cluster_ids(torch.tensor([0, 1, -1])):
        model[1].shift.copy_(torch.arange(3.0)[:, None].expand(3, 4))
        outputs = model(torch.zeros(1, 3, 8, 8).expand(3, -1, -1, -1))
    assert (outputs - outputs[0]).mean(dim=(1, 2, 3)).tolist() == pytest.approx([0, 1, 2])


def test_a_gamma_of_another_form_is_left_alone(install: Install) -> None:
    code = LAYER.replace(", *, width", "")
    code += "        self.weight = nn.Parameter(nn.init.zeros_(nn.Conv2d(1, C, 1).weight))\n"
    install("shaped", {"cbnorm.norms": {"shaped": "shaped:Norm"}}, code)
    model = nn.Sequential(nn.BatchNorm2d(8))
    assert convert_norm(model, "shaped")["0"].weight.abs().max() == 0


def test_a_broken_norm_is_a_value_error_in_the_library(install: Install) -> None:
    install("broken", {"cbnorm.norms": {"theirs": "broken:Norm"}}, "import no_such_module")
    with pytest.raises(ValueError, match=r"norm 'theirs' of package broken 2\.0 can't be imported"):
        create_norm("theirs", 4)
    assert create_norm("bn", 4).num_features == 4


@pytest.mark.usefixtures("example")
def test_parameters_of_their_norms_decay_no_more_than_ours() -> None:
    model = nn.Sequential(nn.Linear(4, 4), create_norm("rms", 4))
    config = compose_run(["norm=rms"]).optimizer
    plain, norms = create_optimizer(model, config).param_groups
    assert [len(plain["params"]), len(norms["params"])] == [2, 1]
    assert (plain["weight_decay"], norms["weight_decay"]) == (1e-4, 0.0)


@pytest.mark.usefixtures("example")
def test_images_are_read_split_and_verified() -> None:
    data = load("stripes", val_images=30, image_size=32)
    assert (len(data.train), len(data.val), len(data.test)) == (270, 30, 100)
    assert data.train.images.shape == (270, 3, 32, 32)
    assert data.class_names == ("lying", "standing")
    assert data.checksums == {"images": extend.find("stripes").checksum}


def parts(images: object, labels: object) -> Callable[[Path], tuple]:
    return lambda _: ((images, labels), (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2)))


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checksum": "sha1:0"}, "what was read has the checksum 'sha1:758e6bcd8f5f231d"),
        ({"counts": {"train": 299, "test": 100}}, "300 train images were read, its package says 299"),
        ({"class_names": ("one",)}, "its train labels are 0 to 1, for 1 classes"),
        (
            {"read": parts(torch.zeros(3, 1, 8, 8), torch.zeros(3))},
            "float32 (3, 1, 8, 8), not uint8 (N, 1 or 3",
        ),
        (
            {"read": parts(torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(3))},
            "not uint8 (N, 1 or 3, H, W)",
        ),
        ({"read": lambda _: [1]}, "must give two parts, train and test, not 1"),
    ],
)
def test_images_that_are_not_what_the_package_says_are_refused(
    changes: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = replace(extend.find("stripes"), **changes)
    monkeypatch.setattr(extend, "find", lambda _: changed)
    with pytest.raises(CbnormError) as refused:
        extend.read("stripes", Path())
    assert message in str(refused.value)


def test_data_sets_that_are_none_are_refused_alone_and_listed_as_broken(install: Install) -> None:
    install("numbers", {"cbnorm.datasets": {"four": "numbers:FOUR"}}, "FOUR = 4")
    install("failing", {"cbnorm.datasets": {"five": "failing:FIVE"}}, "1 / 0")
    for key, message in (
        ("four", "is of type int, not cbnorm.data.extend.ImageSet"),
        ("five", "can't be imported"),
    ):
        with pytest.raises(CbnormError) as refused:
            compose_run([f"dataset={key}", "budget=full"])
        assert message in str(refused.value)
        assert str(refused.value).startswith(f"dataset '{key}' of package ")
    with pytest.raises(CbnormError, match="did you mean 'four'"):
        catalog.find("fours")
    states = {known["key"]: known["state"] for known in describe_all()}
    assert (states["four"], states["five"], states["digits"]) == ("broken", "broken", "built-in")


def test_an_experiment_is_a_folder_with_rows(install: Install, tmp_path: Path) -> None:
    code = f"from pathlib import Path\nGOOD = Path({str(tmp_path)!r})\nBAD = GOOD / 'none'\n"
    install(
        "tables", {"cbnorm.experiments": {"good": "tables:GOOD", "bad": "tables:BAD", "own": "tables"}}, code
    )
    rows = "row,overrides\nA,norm=ucb\n"
    for folder in (tmp_path, tmp_path / "tables"):
        (folder / "rows.csv").write_text(rows)
    assert [row.label for row in (*read_rows("good"), *read_rows("own"))] == ["A", "A"]
    with pytest.raises(CbnormError, match=r"package tables 2\.0 is .* not the path of a folder"):
        read_rows("bad")


def test_what_takes_any_option_takes_any() -> None:
    assert plugins.misfit(lambda C, **options: None, {"x": 1}, given=["num_clusters"], positional=1) is None
    assert plugins.misfit(dict.fromkeys, {}, positional=1) is None


def test_a_package_that_is_broken_hides_no_table_but_its_own(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {"cbnorm.experiments": {"theirs": "broken:TABLE"}, "cbnorm.datasets": {"images": "broken:DATA"}}
    install("broken", points, "import no_such_module")
    folder = tmp_path / "runs"
    folder.mkdir()
    assert main(["explain", "table5", "CIFAR-10", "BN-1", f"store={folder}"]) == 0
    assert "no runs yet" in capsys.readouterr().out
    assert main(["collect", "all", f"store={folder}"]) == 0
    assert "theirs: no runs" in capsys.readouterr().out
    for words in (["explain", "table5", "images", "BN-1"], ["collect", "theirs"]):
        assert main([*words, f"store={folder}"]) == 2
        assert "of package broken 2.0 can't be imported" in capsys.readouterr().err


def test_rows_may_take_away_a_key_and_a_table_without_rows_says_so(install: Install, tmp_path: Path) -> None:
    code = f"from pathlib import Path\nTABLE = Path({str(tmp_path)!r})\n"
    install("tables", {"cbnorm.experiments": {"theirs": "tables:TABLE"}}, code)
    (tmp_path / "rows.csv").write_text("row,overrides\nA,norm=ucb\n")
    (tmp_path / "controls.csv").write_text("row,overrides\nB,norm=ucb ~logger\n")
    assert collect("theirs", [], filters=BLOCK).blocks[0].rows[0].label == "A"
    (tmp_path / "rows.csv").write_text("row,overrides\n")
    with pytest.raises(CbnormError, match=r"rows\.csv of theirs has no rows"):
        choose_rows("theirs")
