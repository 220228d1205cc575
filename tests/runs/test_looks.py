"""What trained networks see, summed up: measures against scipy, and a whole look at a small network."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from cbnorm.cli import main
from cbnorm.config.compose import compose_run
from cbnorm.errors import CbnormError
from cbnorm.metrics.distributions import channels
from cbnorm.metrics.separation import plane, separation
from cbnorm.report.blocks import Collection
from cbnorm.report.collect import collect
from cbnorm.report.evidence import Evidence
from cbnorm.report.figures.distributions import distributions
from cbnorm.report.figures.drawing import draw
from cbnorm.report.figures.material import Material
from cbnorm.report.figures.planes import planes_of_cnn
from cbnorm.report.summary import Collected
from cbnorm.runs import weights
from cbnorm.runs.build import build, load_data
from cbnorm.runs.execute import execute
from cbnorm.runs.identity import run_id
from cbnorm.runs.looks import look
from cbnorm.runs.plan import row_configs
from cbnorm.runs.store import Store

SMALL = [
    *("dataset=digits", "budget=smoke", "dataset.train_images=60", "dataset.val_images=20"),
    *("dataset.test_images=40", "trainer.max_epochs=2", "trainer.moments=[100]", "trainer.batch_size=20"),
]
TWO = ["BN-1", "SCB-Norm-1"]
KEEP = ("trainer.keep=best", "trainer.keep=moments")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two rows of Table V on a few digits, one without clusters, one with, and a control."""
    folder = tmp_path_factory.mktemp("looks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CBNORM_DATA_DIR", str(folder / "data"))
        for config in row_configs("table5", SMALL, ["BN-1", "SCB-Norm-1", "No-norm-1"]).values():
            execute(config, Store(folder / "runs"))
    return Store(folder / "runs")


def test_runs_of_densenet_keep_what_figure_9_shows(tmp_path: Path) -> None:
    words = ["experiment=densenet", *SMALL, "trainer.moments=[50,100]", "model.depth=10", "norm=scb"]
    config, other = compose_run(words), compose_run([*words, "trainer.keep=best"])
    assert config.trainer.keep == "moments"
    assert run_id(config) == run_id(other)
    store = Store(tmp_path / "runs")
    record = execute(config, store)
    found = look(config, record, store.folder(record["id"]), load_data(config), 30)
    assert found["percents"].tolist() == [50, 100]
    assert found["plane"].shape == (2, 30, 2)
    # The layer is on the image, which has none of the channels of Fig. 2.
    assert len(found["skewness"]) == 3
    assert len(found["channels"]) == 0


def test_channels_are_described_as_scipy_does() -> None:
    draws = np.random.default_rng(0).gamma(2.0, size=(50, 13, 16))
    found = channels(torch.from_numpy(draws))
    values = draws[:, 4].ravel()
    assert found["channels"].tolist() == [4, 12]
    assert found["skewness"][4] == pytest.approx(stats.skew(values))
    assert found["kurtosis"][4] == pytest.approx(stats.kurtosis(values))
    expected = stats.kstest(values, "norm", args=(values.mean(), values.std())).statistic
    assert found["distance"][4] == pytest.approx(expected)
    assert found["counts"].sum(1).tolist() == [800, 800]


def test_a_dead_channel_is_described_too() -> None:
    values = np.random.default_rng(0).normal(size=(50, 5, 16))
    values[:, 4] = 0.5
    found = channels(torch.from_numpy(values))
    assert found["means"][0].tolist() == [0.5] * 3
    assert found["weights"][0] == pytest.approx(np.full(3, 1 / 3))
    assert np.isfinite(found["fitted_distance"]).all()
    assert np.isnan(found["skewness"]).tolist() == [False] * 4 + [True]


def test_a_mixture_that_is_there_is_found() -> None:
    draws = np.random.default_rng(0)
    centres, shares = np.array([-3.0, 7.0, 27.0]), np.array([0.2, 0.5, 0.3])
    values = draws.choice(centres, 6000, p=shares) + draws.normal(size=6000)
    found = channels(torch.from_numpy(np.tile(values[:, None, None], (1, 5, 1))))
    assert found["means"][0] == pytest.approx(centres, abs=0.2)
    assert found["deviations"][0] == pytest.approx(np.ones(3), abs=0.1)
    assert found["weights"][0] == pytest.approx(shares, abs=0.03)
    assert found["fitted_distance"][0] < 0.02 < 0.1 < found["distance"][4]


def test_classes_that_lie_apart_score_high_and_random_ones_low() -> None:
    draws = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 25)
    apart = 20 * np.eye(4)[labels] + draws.normal(size=(100, 4))
    good, bad = separation(apart, labels, labels), separation(apart, draws.permutation(labels), labels)
    assert good["neighbours"] == 100.0
    assert good["silhouette_true"] > 0.8
    assert bad["silhouette_true"] < 0.1
    assert bad["neighbours"] < 60
    assert separation(apart, labels, np.zeros(100, int))["silhouette_predicted"] == 0.0
    near = np.linalg.norm(plane(apart)[:, None] - plane(apart)[None], axis=2) + 1e9 * np.eye(100)
    assert (labels[near.argmin(1)] == labels).mean() > 0.95


@pytest.mark.parametrize("row", ["BN-1", "SCB-Norm-1"])
def test_a_look_sees_what_the_run_predicted(store: Store, row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBNORM_DATA_DIR", str(store.root.parent / "data"))
    config = row_configs("table5", SMALL, [row])[row]
    run = run_id(config)
    record = store.record(run)
    assert record is not None
    found = look(config, record, store.folder(run), load_data(config), images=40)
    with np.load(store.folder(run) / "predictions.npz") as saved:
        same = found["predicted"][-1] == saved["best_epoch2"]
        assert found["labels"].tolist() == saved["labels"].tolist()
    # A run may predict in bfloat16; a look is in float32.
    assert same.mean() >= 0.9
    assert found["plane"].shape == (1, 40, 2)
    assert found["percents"].tolist() == [100]
    parts = build(config, torch.device("cpu"))
    assert found["skewness"].shape == (parts.task.model.convs[2].out_channels,)


def test_weights_are_kept_at_every_moment_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    words = [word for word in SMALL if "moments" not in word] + ["trainer.moments=[50,100]"]
    plain, kept = (row_configs("table5", [*words, more], ["BN-1"])["BN-1"] for more in KEEP)
    assert run_id(plain) == run_id(kept)
    records = [execute(config, Store(tmp_path / config.trainer.keep)) for config in (plain, kept)]
    assert records[0]["metrics"] == records[1]["metrics"]
    folders = [tmp_path / keep / run_id(plain) for keep in ("best", "moments")]
    names = [{path.name for path in folder.glob("*.pt")} for folder in folders]
    assert names == [{"weights.pt"}, {"weights.pt", "weights-50.pt", "weights-100.pt"}]
    found = look(kept, records[1], folders[1], load_data(kept), images=40)
    assert found["percents"].tolist() == [50, 100]
    assert found["plane"].shape == (2, 40, 2)
    with np.load(folders[1] / "predictions.npz") as saved:
        for at, epoch in enumerate((1, 2)):
            same = found["predicted"][at] == saved[f"best_epoch{epoch}"]
            assert same.mean() >= 0.9


def customised(*_: object, store: Store, labels: Sequence[str] = ("all",), **__: object) -> Collection:
    """Collects the rows of `store`, whose numbers of images are its own."""
    filters = {"dataset": "digits", "protocol": "sound", "budget": "smoke"}
    records = Evidence([store]).records
    return collect("table5", records, filters=filters, overrides=SMALL[2:], labels=labels)


def test_the_command_looks_once_and_figures_follow(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CBNORM_DATA_DIR", str(store.root.parent / "data"))
    assert main(["look", "table5", f"store={store.root}", f"out={tmp_path}"]) == 0
    assert "no run of table5 keeps weights" in capsys.readouterr().out

    def runs_of(*rows: str) -> set[str]:
        return {run_id(config) for config in row_configs("table5", SMALL, rows).values()}

    monkeypatch.setattr("cbnorm.look.collect", partial(customised, store=store))
    for told in ("SCB-Norm-1, Digits (60 training images), seed 0: looking", "looked at already"):
        assert main(["look", "table5", f"store={store.root}", f"out={tmp_path}", "images=30"]) == 0
        assert told in capsys.readouterr().out
    assert main(["look", "table5", f"store={store.root}", f"out={tmp_path / 'others'}", "seeds=1..4"]) == 0
    assert "keeps weights of its network (seeds=1..4 leaves others out)" in capsys.readouterr().out
    assert {path.stem for path in tmp_path.glob("*.npz")} == runs_of("BN-1", "SCB-Norm-1")
    named = ["rows=BN-1,No-norm-1", f"out={tmp_path / 'named'}", "images=30"]
    assert main(["look", "table5", f"store={store.root}", *named]) == 0
    assert {path.stem for path in (tmp_path / "named").iterdir()} == runs_of("BN-1", "No-norm-1")
    entry = Collected(customised(store=store), [], runnable=True)
    material = Material(Evidence([store], tmp_path), [entry], tmp_path)
    for maker, name in ((planes_of_cnn, "fig1"), (distributions, "fig2")):
        made = maker(material)
        assert not isinstance(made, str)
        assert made[0].name == f"{name}-digits-smoke-sound-0-001"
        assert "Not looked at yet: MN, SCB-Norm-base, UCB-Norm." in made[0].caption
        assert draw(made[0], "png").startswith(b"\x89PNG")
    for agrees in (True, False):
        (run,) = runs_of("SCB-Norm-1")
        answer_like_the_record(tmp_path / f"{run}.npz", material.evidence.correct(run, 2, "best") == agrees)
        told = "Trained again, with other answers than the published runs: SCB-Norm-1." in one_caption(
            material
        )
        assert told != agrees
        # A verdict names the published run: it doesn't count what another network looks like.
        fresh = Evidence([store], tmp_path)
        assert (fresh.shape(run, "normal_distance") is not None) == agrees


def answer_like_the_record(path: Path, right: np.ndarray) -> None:
    """Make a look one at a network that is right for these images."""
    with np.load(path) as saved:
        found = dict(saved)
    labels = found["labels"]
    found["predicted"][-1] = np.where(right[: len(labels)], labels, labels + 1)
    np.savez(path, **found)


def one_caption(material: Material) -> str:
    made = distributions(material)
    assert not isinstance(made, str)
    return made[0].caption


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["look"], "which table?"),
        (["look", "table5", "images=few"], "images=few"),
        (["look", "table9"], "unknown experiment 'table9'"),
        (["look", "table5", "dataset=cifar01"], "unknown dataset 'cifar01'"),
        (["look", "table5", "rows=BN-1,BN-11"], "unknown row 'BN-11' of table5: did you mean 'BN-1'?"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_in_one_line(
    words: list[str], told: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, f"store={store.root}"]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_network_that_cannot_be_looked_at_leaves_the_others(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(store.root, tmp_path / "store"))
    rows = {label: run_id(config) for label, config in row_configs("table5", SMALL, TWO).items()}
    (root / rows["BN-1"] / weights.NAME).write_bytes(b"nothing")
    monkeypatch.setenv("CBNORM_DATA_DIR", str(store.root.parent / "data"))
    monkeypatch.setattr("cbnorm.look.collect", partial(customised, store=store))
    words = [f"store={root}", f"out={tmp_path / 'looks'}", "images=30"]
    assert main(["look", "table5", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "can't be used" in error
    assert [path.stem for path in (tmp_path / "looks").iterdir()] == [rows["SCB-Norm-1"]]


def test_weights_of_another_network_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBNORM_DATA_DIR", str(store.root.parent / "data"))
    config = row_configs("table5", SMALL, ["BN-1"])["BN-1"]
    record = store.record(run_id(config))
    assert record is not None
    other = compose_run([*SMALL, "norm=none"])
    with pytest.raises(CbnormError, match="don't fit its network"):
        look(other, record, store.folder(record["id"]), load_data(config), images=20)


def test_a_look_at_fewer_images_or_at_an_earlier_training_is_made_anew(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CBNORM_DATA_DIR", str(store.root.parent / "data"))
    monkeypatch.setattr("cbnorm.look.collect", partial(customised, store=store))
    words = ["look", "table5", f"store={store.root}", f"out={tmp_path}", "rows=SCB-Norm-1"]
    (run,) = (run_id(config) for config in row_configs("table5", SMALL, ["SCB-Norm-1"]).values())
    right = Evidence([store]).correct(run, 2, "best")
    for images, agrees, told in (
        (30, True, "looking"),
        (30, True, "looked at already"),
        (25, False, "looking"),
        (25, True, "looking"),
        (25, True, "looked at already"),
    ):
        assert main([*words, f"images={images}"]) == 0
        assert f"seed 0: {told}" in capsys.readouterr().out
        answer_like_the_record(tmp_path / f"{run}.npz", right == agrees)
