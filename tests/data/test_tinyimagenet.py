"""Tiny ImageNet, whole or in part: known by what is there, and named by it."""

import dataclasses
import hashlib
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from cbnorm.data import catalog, images, manifest, opensets, overview, pixels, prepared, sources, tinyimagenet
from cbnorm.data.entry import Archive
from cbnorm.data.layout import natural
from cbnorm.errors import CbnormError


def test_labels_count_the_ids_in_alphabetical_order(little_folder):
    found = tinyimagenet.layout(little_folder)
    assert found.class_names == ("goldfish (n01)", "bullfrog (n02)", "boa (n03)")
    assert [label for _, label in found.train] == [0] * 4 + [1] * 4 + [2] * 4
    assert [label for _, label in found.test] == [2, 0, 1, 2, 0, 1]


def test_images_are_in_the_order_of_their_numbers(little_folder):
    found = tinyimagenet.layout(little_folder)
    assert [name for name, _ in found.train[:4]] == [f"train/n01/images/n01_{n}.JPEG" for n in (0, 2, 9, 10)]
    assert [name for name, _ in found.test] == [f"val/images/val_{n}.JPEG" for n in range(6)]


def test_its_name_tells_how_many_images_there_are(little_folder, monkeypatch):
    assert tinyimagenet.layout(little_folder).name == "Tiny ImageNet (4 of 500 images per class)"
    (little_folder / "train/n02/images/n02_9.JPEG").unlink()
    assert tinyimagenet.layout(little_folder).name == "Tiny ImageNet (3 to 4 of 500 images per class)"
    (little_folder / "train/n01/images/n01_9.JPEG").unlink()
    (little_folder / "train/n03/images/n03_9.JPEG").unlink()
    monkeypatch.setattr(tinyimagenet, "PER_CLASS", 3)
    assert tinyimagenet.layout(little_folder).name == "Tiny ImageNet"


def test_it_is_loaded_at_32_pixels_by_area_or_as_it_is(little_folder):
    small, whole = (images.load("tinyimagenet", val_images=3, image_size=size) for size in (32, 64))
    raw = np.asarray(Image.open(little_folder / "val/images/val_4.JPEG")).astype(float)
    assert np.array_equal(whole.test.images[4].numpy(), raw.transpose(2, 0, 1))
    means = raw.reshape(32, 2, 32, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.array_equal(small.test.images[4].numpy(), np.rint(means))
    assert small.name == "Tiny ImageNet (4 of 500 images per class)"
    assert (len(small.train), len(small.val), small.num_classes) == (9, 3, 3)
    assert small.val.labels.tolist() == [0, 1, 2]
    assert small.checksums["manifest"] == f"sha256:{opensets.find('tinyimagenet').known.digest}"


def test_grey_images_have_three_equal_channels(little_folder):
    data = images.load("tinyimagenet", val_images=0, image_size=64)
    grey = (data.train.images[:, :1] == data.train.images).flatten(1).all(1)
    assert grey.nonzero().flatten().tolist() == [2, 6, 10]


def test_numbers_are_checked_against_what_is_there(little_folder):
    with pytest.raises(CbnormError, match=r"val_images=12 .* \(4 of 500 images per class\) has 12 training"):
        images.load("tinyimagenet", val_images=12)
    with pytest.raises(CbnormError, match="test_images=7 is impossible"):
        images.load("tinyimagenet", val_images=3, test_images=7)
    with pytest.raises(CbnormError, match="Tiny ImageNet has 100000 training images"):
        images.load("tinyimagenet", val_images=100_000)


def fingerprint():
    opensets._fingerprints.clear()
    return catalog.fingerprint("tinyimagenet")


def test_the_fingerprint_is_of_the_content_not_of_place_or_time(little_folder, tmp_path, monkeypatch):
    first = fingerprint()
    shutil.copytree(little_folder, tmp_path / "moved/tiny-imagenet-200", copy_function=shutil.copyfile)
    for path in (tmp_path / "moved").rglob("*.JPEG"):
        os.utime(path, (10, 10))
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "moved"))
    assert fingerprint() == first
    assert len(first) == 16


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "train/n01/images/n01_0.JPEG").unlink(),
        lambda folder: shutil.copy(folder / "val/images/val_0.JPEG", folder / "train/n01/images/n01_0.JPEG"),
        lambda folder: shutil.copy(folder / "val/images/val_0.JPEG", folder / "train/n01/images/n01_5.JPEG"),
        lambda folder: (folder / "val/val_annotations.txt").write_text(
            (folder / "val/val_annotations.txt").read_text().replace("val_0.JPEG\tn03", "val_0.JPEG\tn01")
        ),
    ],
)
def test_the_fingerprint_changes_with_any_image_or_label(little_folder, change):
    first = fingerprint()
    change(little_folder)
    assert fingerprint() != first


def test_the_fingerprint_ignores_what_is_not_read(little_folder):
    first = fingerprint()
    (little_folder / "train/n01/n01_boxes.txt").unlink()
    shutil.rmtree(little_folder / "test")
    assert fingerprint() == first


def test_a_thousand_fingerprints_are_as_fast_as_one(little_folder, monkeypatch):
    first = fingerprint()
    monkeypatch.setattr(manifest, "read_bytes", None)
    monkeypatch.setattr(manifest, "_status", None)
    assert {catalog.fingerprint("tinyimagenet") for _ in range(1000)} == {first}


def test_facts_are_those_of_the_folder(little_folder):
    facts = catalog.facts("tinyimagenet")
    assert (facts.name, facts.num_classes) == ("Tiny ImageNet (4 of 500 images per class)", 3)
    assert facts.counts == {"train": 12, "test": 6}
    assert catalog.facts("cifar10") is catalog.find("cifar10")


def emptied(folder):
    for path in (folder / "train/n02/images").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        (emptied, "train/n02/images holds no images"),
        (lambda f: (f / "wnids.txt").write_text("n01 n01 n02"), "wnids.txt is broken: it should name 3"),
        (
            lambda f: (f / "val/val_annotations.txt").write_text("val_0.JPEG\tn77\t0"),
            r"val_annotations.txt, line 1, is broken: 'val_0.JPEG\\tn77\\t0'",
        ),
        (
            lambda f: (f / "val/val_annotations.txt").write_text("val_0.JPEG\tn01\t0"),
            "val_1.JPEG has no line in",
        ),
        (lambda f: (f / "words.txt").write_bytes(b"\xff\xfe"), "Tiny ImageNet can't be read"),
        (
            lambda f: (f / "train/n03/images/n03_2.JPEG").write_bytes(b"\xff\xd8 no image"),
            r"train/n03/images/n03_2.JPEG can't be decoded \(.*\); replace or delete it",
        ),
    ],
)
def test_a_broken_folder_is_one_line_that_names_the_file(little_folder, damage, wrong):
    damage(little_folder)
    with pytest.raises(CbnormError, match=wrong) as caught:
        images.load("tinyimagenet", val_images=3)
    assert "\n" not in str(caught.value)


def test_half_a_folder_is_not_overwritten(little_folder):
    (little_folder / "words.txt").unlink()
    with pytest.raises(CbnormError, match=r"words\.txt is missing; complete .*, or delete it and run"):
        sources.ensure("tinyimagenet")
    assert (little_folder / "wnids.txt").exists()


@pytest.fixture
def official(little, site, make_zip, monkeypatch):
    """The official archive, on a server."""
    site.body = make_zip({f"tiny-imagenet-200/{name}": content for name, content in little.items()})
    url = site.url.replace("tiny.tar.gz", "tiny-imagenet-200.zip")
    archive = Archive(url, hashlib.md5(site.body).hexdigest(), len(site.body))
    entry = dataclasses.replace(catalog.find("tinyimagenet"), sources=(archive,))
    monkeypatch.setattr(catalog, "DATA_SETS", {**catalog.DATA_SETS, "tinyimagenet": entry})
    return site


def test_the_official_archive_is_fetched_when_a_fingerprint_is_asked_for(official, little):
    assert len(fingerprint()) == 16
    folder = sources.require("tinyimagenet")
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == little
    assert len(official.asked) == 1


def test_askers_at_the_same_time_get_the_same_folder_with_and_without_locks(official, little, monkeypatch):
    for locks in (True, False):
        if not locks:
            monkeypatch.setitem(sys.modules, "fcntl", None)
            shutil.rmtree(sources.require("tinyimagenet"))
        with ThreadPoolExecutor(4) as pool:
            folders = set(pool.map(lambda _: sources.ensure("tinyimagenet", progress=False), range(4)))
        assert folders == {sources.require("tinyimagenet")}
    assert len([path for path in folders.pop().rglob("*") if path.is_file()]) == len(little)


def test_what_cannot_be_fetched_is_one_line(official):
    official.plan = [{"status": 404}]
    with pytest.raises(CbnormError, match=r"^Tiny ImageNet could not be fetched: .*HTTP status 404"):
        fingerprint()
    assert not sources.folder_of(catalog.find("tinyimagenet")).exists()


def test_another_archive_is_refused(official, little, make_zip, monkeypatch):
    official.body = make_zip({"tiny-imagenet-200/wnids.txt": b"x"})
    with pytest.raises(CbnormError, match="its MD5 is"):
        fingerprint()
    archive = dataclasses.replace(
        catalog.find("tinyimagenet").sources[0], md5=hashlib.md5(official.body).hexdigest()
    )
    entry = dataclasses.replace(catalog.find("tinyimagenet"), sources=(archive,))
    monkeypatch.setitem(catalog.DATA_SETS, "tinyimagenet", entry)
    with pytest.raises(CbnormError, match=r"it holds no words\.txt"):
        fingerprint()


def test_fetching_decodes_as_well(little_folder):
    assert overview.fetch("tinyimagenet").endswith("(4 of 500 images per class), 12 train and 6 test images")
    assert len(list((little_folder.parent / "prepared").glob("tinyimagenet-*/train.npy"))) == 1


def test_names_are_sorted_as_people_count():
    assert sorted(["x_10.a", "x_9.a", "x_9.b", "y_1.a"], key=natural) == ["y_1.a", "x_9.a", "x_9.b", "x_10.a"]


@pytest.mark.real_data("tinyimagenet")
def test_the_real_tiny_imagenet_is_recognised(tinyimagenet_folder):
    data = images.load("tinyimagenet", val_images=5000, download=False)
    whole = opensets.find("tinyimagenet", download=False)
    per_class = torch.bincount(torch.tensor([label for _, label in whole.layout.train]), minlength=200)
    assert data.num_classes == 200
    assert per_class.unique().tolist() in ([150], [500])
    assert len(data.train) + len(data.val) == 200 * int(per_class[0])
    assert data.test.labels.bincount().tolist() == [50] * 200
    assert data.val.labels.bincount().tolist() == [25] * 200
    assert whole.layout.class_names[:2] == ("goldfish (n01443537)", "European fire salamander (n01629819)")
    if per_class[0] == 150:
        assert data.name == "Tiny ImageNet (150 of 500 images per class)"
        assert whole.fingerprint == "7d3aee907ded144a"
    # Two hundred kinds of photographs: brighter than half in no channel, red before green before blue.
    assert data.mean == pytest.approx((0.480, 0.448, 0.398), abs=2e-3)


@pytest.mark.real_data("tinyimagenet")
def test_the_real_tiny_imagenet_is_not_read_a_second_time(tinyimagenet_folder, monkeypatch):
    found = opensets.find("tinyimagenet", download=False)
    opensets.arrays(found, 64)
    monkeypatch.setattr(manifest, "read_bytes", None)
    monkeypatch.setattr(prepared, "decode", None)
    again = opensets.find("tinyimagenet", download=False)
    assert again.known == found.known
    assert len(opensets.arrays(again, 64).test) == 10_000


def test_halving_is_resizing_by_area():
    noise = torch.randint(
        0, 256, (300, 3, 8, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    squares = noise[..., :6, :]
    area = torch.nn.functional.interpolate(squares.float(), (3, 3), mode="area").round().to(torch.uint8)
    assert torch.equal(pixels.resize(squares, 3), area)
