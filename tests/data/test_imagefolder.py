"""A user's own images: the folders are the classes, and only what they hold counts."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from cbnorm.data import catalog, images, opensets, sources
from cbnorm.data.imagefolder import HELD_OUT
from cbnorm.errors import CbnormError


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(opensets, "_fingerprints", {})


@pytest.fixture
def pictures(tmp_path, put, make_image):
    """Three classes of 10, 5 and 12 images of several kinds and sizes, without a part for testing."""
    files, seed = {}, 0
    for name, count in (("cat", 10), ("ant", 5), ("dog", 12)):
        for number in range(count):
            kind = ("JPEG", "PNG", "GIF")[number % 3]
            files[f"{name}/{number}.{kind.lower()}"] = make_image(seed, (40 + seed, 50), kind=kind)
            seed += 1
    files |= {"cat/notes.txt": b"no image", ".hidden/x.png": b"", "cat/.thumb.png": b"", "readme.md": b""}
    return put(tmp_path / "pictures", files)


@pytest.fixture
def divided(tmp_path, put, make_image):
    """Two classes with parts for training and testing."""
    names = [f"{part}/{name}/{n}.png" for part in ("train", "test", "val") for name in "ab" for n in range(3)]
    return put(tmp_path / "own", {name: make_image(i, (32, 32), kind="PNG") for i, name in enumerate(names)})


def load(folder, **options):
    return images.load("imagefolder", folder=str(folder), **{"val_images": 3, **options})


def found(folder):
    opensets._fingerprints.clear()
    return opensets.find("imagefolder", str(folder))


def test_folders_are_classes_in_alphabetical_order(pictures):
    data = load(pictures)
    assert data.class_names == ("ant", "cat", "dog")
    assert (len(data.train) + len(data.val), len(data.test)) == (8 + 4 + 10, 2 + 1 + 2)
    assert data.train.images.shape[1:] == (3, 32, 32)
    assert load(pictures, image_size=48).train.images.shape[1:] == (3, 48, 48)


def test_its_name_tells_that_images_were_held_out(pictures, divided):
    assert load(pictures).name == "pictures (20% of each class held out for testing)"
    assert load(divided, val_images=1).name == "own"


def test_a_fifth_of_each_class_is_held_out_by_content(pictures, tmp_path):
    layout = found(pictures).layout
    tested = {(pictures / name).read_bytes() for name, _ in layout.test}
    assert np.bincount([label for _, label in layout.test]).tolist() == [1, 2, 2]
    assert HELD_OUT == 0.2
    for name, _ in (*layout.train, *layout.test):
        path = pictures / name
        path.rename(path.with_name(f"other {path.name[::-1]}{path.suffix}"))
    again = found(pictures).layout
    assert {(pictures / name).read_bytes() for name, _ in again.test} == tested
    assert not set(again.test) & set(again.train)


def test_the_share_that_is_held_out_is_rounded_to_the_nearest(pictures):
    for number in range(8, 12):
        next((pictures / "dog").glob(f"{number}.*")).unlink()
    # A fifth of 5, 10 and 8 images.
    assert load(pictures).test.labels.bincount().tolist() == [1, 2, 2]


def test_the_fingerprint_is_of_the_content_not_of_place_or_time(pictures, tmp_path):
    first = catalog.fingerprint("imagefolder", str(pictures))
    shutil.copytree(pictures, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    for path in (tmp_path / "elsewhere").rglob("*.png"):
        os.utime(path, (5, 5))
    assert catalog.fingerprint("imagefolder", str(tmp_path / "elsewhere")) == first
    relative = os.path.relpath(pictures)
    assert catalog.fingerprint("imagefolder", relative) == first
    (tmp_path / "elsewhere/cat/0.jpeg").write_bytes((pictures / "dog/0.jpeg").read_bytes())
    assert found(tmp_path / "elsewhere").fingerprint != first


def test_what_is_no_image_does_not_count(pictures):
    first = found(pictures).fingerprint
    (pictures / "cat/notes.txt").write_text("changed")
    (pictures / ".hidden/x.png").unlink()
    assert found(pictures).fingerprint == first


def test_parts_for_training_and_testing_are_respected(divided):
    layout = found(divided).layout
    assert [name for name, _ in layout.test] == [f"test/{name}/{n}.png" for name in "ab" for n in range(3)]
    shutil.rmtree(divided / "test")
    layout = found(divided).layout
    assert {name.split("/")[0] for name, _ in layout.test} == {"val"}
    assert [label for _, label in layout.train] == [0, 0, 0, 1, 1, 1]


def test_images_deeper_in_a_class_belong_to_it(divided, make_image, put):
    put(divided, {"train/a/more/x.png": make_image(99, (32, 32), kind="PNG")})
    assert ("train/a/more/x.png", 0) in found(divided).layout.train


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        (shutil.rmtree, r"dataset\.folder=.*pictures is no folder"),
        (lambda f: [shutil.rmtree(f / name) for name in ("cat", "dog")], "1 folders of images: two classes"),
        (lambda f: (f / "ant/0.jpeg").unlink(), r"ant holds 4 images, 5 or more .* test/, one is enough"),
        (lambda f: (f / "empty").mkdir(), "empty holds 0 images"),
        (lambda f: (f / "dog/3.jpeg").write_bytes(b"no"), r"dog/3\.jpeg can't be decoded .*; replace or"),
    ],
)
def test_what_cannot_be_used_is_one_line(pictures, damage, wrong):
    damage(pictures)
    with pytest.raises(CbnormError, match=wrong) as caught:
        load(pictures)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        (lambda f: [shutil.rmtree(f / part) for part in ("test", "val")], "neither test/ nor val/ beside it"),
        (lambda f: (f / "test/c").mkdir(), "test/c is a class without training images"),
        (lambda f: [path.unlink() for path in f.glob("train/a/*")], "train/a holds 0 images"),
        (lambda f: [path.unlink() for path in f.glob("test/*/*")], "test holds no images"),
        (lambda f: shutil.rmtree(f / "train/a"), "1 folders of images"),
    ],
)
def test_parts_that_do_not_fit_are_one_line(divided, damage, wrong):
    damage(divided)
    with pytest.raises(CbnormError, match=wrong):
        load(divided, val_images=1)


def test_the_folder_is_needed_there_and_refused_elsewhere(pictures):
    with pytest.raises(CbnormError, match=r"needs the folder of the images: dataset\.folder=PATH"):
        images.load("imagefolder", val_images=3)
    with pytest.raises(CbnormError, match=r"digits reads no dataset\.folder"):
        images.load("digits", val_images=3, folder=str(pictures))
    with pytest.raises(CbnormError, match=r"needs the folder"):
        catalog.fingerprint("imagefolder")


def test_more_validation_images_than_there_are_is_one_line(pictures):
    with pytest.raises(CbnormError, match=r"val_images=22 is impossible: pictures .* has 22 training images"):
        load(pictures, val_images=22)


def test_pixels_come_from_the_scaled_centre(tmp_path, put):
    picture = np.zeros((64, 128, 3), dtype=np.uint8)
    picture[:, 24:104] = 250
    for name in "ab":
        for number in range(5):
            (tmp_path / "own" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture - number).save(tmp_path / "own" / name / f"{number}.png")
    assert load(tmp_path / "own").train.images.min() >= 246


def test_the_folder_itself_is_left_as_it_is(pictures):
    before = sorted(pictures.rglob("*"))
    load(pictures)
    assert sorted(pictures.rglob("*")) == before
    assert {path.name for path in sources.data_dir().iterdir()} == {"prepared"}
