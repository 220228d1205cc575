"""A run on a folder of images, from command line to record; refused where the images don't suffice."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cbnorm.cli import main
from cbnorm.config.compose import compose_run
from cbnorm.config.readings import reads_by_batch
from cbnorm.errors import CbnormError
from cbnorm.runs.build import build, load_data
from cbnorm.runs.execute import execute
from cbnorm.runs.reading import mixed
from cbnorm.runs.store import Store

TINY = [
    "model.placement=[3]",
    "dataset=imagefolder",
    "dataset.val_images=4",
    "dataset.train_images=null",
    "trainer.max_epochs=1",
    "trainer.moments=[100]",
    "trainer.batch_size=8",
    "trainer.precision=fp32",
]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for name, shade in (("dark", 40), ("light", 200)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(15):
            pixels = draw.integers(shade, shade + 50, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{index}.png")
    return tmp_path / "pictures"


def test_a_folder_of_images_is_trained_on_and_its_place_is_not_recorded(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    store = Store(tmp_path / "store")
    words = [*TINY, f"dataset.folder={pictures}", f"store={store.root}"]
    assert main(["train", *words, "norm=scb", "partition.clusters=2"]) == 0
    (record,) = store.survey()[0]
    assert record["status"] == "done"
    assert record["data"]["images"] == {"train": 20, "val": 4, "test": 6}
    assert str(tmp_path) not in str(record)


def test_numbers_that_a_folder_cannot_give_leave_no_run_behind(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    words = [*TINY, f"dataset.folder={pictures}", f"store={tmp_path / 'store'}", "dataset.train_images=500"]
    with pytest.raises(SystemExit, match="2"):
        main(["train", *words])
    assert "train_images=500 is impossible" in capsys.readouterr().err
    assert not [path for path in (tmp_path / "store").glob("*") if path.is_dir()]


@pytest.mark.parametrize("what", ["broken", "constant"])
def test_a_run_that_its_images_refuse_is_not_left_behind_as_one_to_be_gone_on_with(
    what: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    if what == "broken":
        (pictures / "dark" / "3.png").write_bytes(b"no image")
    else:
        for path in pictures.glob("*/*.png"):
            Image.new("RGB", (32, 32), (10, 20, 30)).save(path)
    store = tmp_path / "store"
    with pytest.raises(SystemExit, match="2"):
        main(["train", *TINY, f"dataset.folder={pictures}", f"store={store}"])
    told = capsys.readouterr().err
    assert (
        "3.png can't be decoded (it begins like no image)"
        if what == "broken"
        else "a colour that never varies"
    ) in told
    assert told.count("\n") == 1
    assert Store(store).runs() == []


def test_the_last_images_of_a_folder_do_not_validate(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those of its last class, which would never be trained on."""
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    words = [*TINY, f"dataset.folder={pictures}", "protocol=released", "dataset.image_size=32"]
    assert load_data(compose_run(words)).val.labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(CbnormError, match=r"1 of 2 classes .*, light among them: choose .*stratified"):
        load_data(compose_run([*words, "dataset.split=last", "dataset.val_images=12"]))


def test_a_network_that_saw_another_folder_gives_no_clusters(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    store = Store(tmp_path / "store")
    words = [*TINY, f"dataset.folder={pictures}", f"store={store.root}"]
    record = execute(compose_run([*words, "norm=bn"]), store)
    assert record is not None
    clustered = ["norm=scb", "partition=mn_components", f"partition.run={record['id']}"]
    assert build(compose_run([*words, *clustered]), torch.device("cpu")).partition is not None
    other = shutil.copytree(pictures, tmp_path / "other")
    Image.new("RGB", (32, 32), (9, 99, 199)).save(other / "dark" / "one more.png")
    with pytest.raises(CbnormError, match="was trained on other files"):
        build(compose_run([*words, *clustered, f"dataset.folder={other}"]), torch.device("cpu"))


def test_images_that_are_read_by_the_batch_are_not_read_class_by_class(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    words = [*TINY, f"dataset.folder={pictures}", f"store={tmp_path / 'store'}"]
    plain, by_batch = compose_run([*words, "norm=ucb"]), compose_run([*words, "norm=uan"])
    data, places = mixed(plain, load_data(plain))
    assert places is None
    assert data.test.labels.tolist() == [0] * 3 + [1] * 3
    data, places = mixed(by_batch, load_data(by_batch))
    assert places is not None
    assert data.test.labels.tolist() != [0] * 3 + [1] * 3
    assert torch.equal(data.test.images[places], load_data(by_batch).test.images)
    assert torch.equal(mixed(by_batch, load_data(by_batch))[0].test.images, data.test.images)
    assert reads_by_batch(compose_run([*words, "norm=ucb", "norm.eval_stats=batch"]))
    # What is kept of a test image stays where the image is in the data set.
    store = Store(tmp_path / "store")
    runs = [execute(config, store) for config in (plain, by_batch)]
    arrays = [np.load(store.folder(run["id"]) / "predictions.npz") for run in runs]
    assert np.array_equal(arrays[0]["labels"], arrays[1]["labels"])
    parts = build(by_batch, torch.device("cpu"))
    told = parts.reader.read(parts.task).arrays["predicted"]
    logits = torch.cat([parts.task.eval()(images, ids) for images, _, ids in parts.reader.test])
    assert torch.equal(told, logits.argmax(1)[places])
