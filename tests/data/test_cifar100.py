"""CIFAR-100's Python version: fine labels, superclasses, and nothing executed."""

import pickle
import struct

import numpy as np
import pytest

from cbnorm.data import catalog, cifar, images, pixels, superclasses
from cbnorm.data.failure import SourceError
from cbnorm.errors import CbnormError


def text(value):
    return b"U" + bytes([len(value)]) + value


def batch(noise, fine, coarse):
    """Write what Python 2 wrote for its authors: protocol 2, keys in the order of the real files."""
    data = noise.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00" + text(b"b") + b"tR"
        b"(K\x01(M" + struct.pack("<H", len(noise)) + b"M\x00\x0ctcnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", len(data))
        + data
        + b"tb"
    )
    lists = [b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e" for labels in (fine, coarse)]
    names = b"](" + b"".join(text(b"bos_taurus_s_000507.png") for _ in fine) + b"e"
    parts = {
        b"filenames": names,
        b"batch_label": text(b"training batch 1 of 1"),
        b"fine_labels": lists[0],
        b"coarse_labels": lists[1],
        b"data": array,
    }
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in parts.items()) + b"u."


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)


FINE, COARSE = [19, 29, 0, 11, 99, 86], [11, 15, 4, 14, 1, 5]


def test_the_files_made_up_here_are_what_python_reads(noise):
    found = pickle.loads(batch(noise, FINE, COARSE), encoding="latin1")
    assert (found["fine_labels"], found["coarse_labels"]) == (FINE, COARSE)
    assert np.array_equal(found["data"], noise)


def test_pixels_labels_and_superclasses_are_read(noise, tmp_path):
    (tmp_path / "train").write_bytes(batch(noise, FINE, COARSE))
    split = cifar.read_pickled_split(tmp_path / "train")
    assert np.array_equal(split.images.numpy(), noise.reshape(6, 3, 32, 32))
    assert split.labels.tolist() == FINE
    assert split.attributes["superclass"].tolist() == COARSE


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (lambda good: good[:-5000], "can't be read"),
        (lambda good: good[:40], "can't be read"),
        (lambda _: b"", "can't be read"),
        (lambda good: good.replace(b"coarse_labels", b"course_labels"), "18432 pixels, 6 and 0 labels"),
        (lambda good: good.replace(b"K\x1d", b""), "18432 pixels, 5 and 6 labels"),
    ],
)
def test_a_broken_file_is_one_line(noise, tmp_path, content, wrong):
    (tmp_path / "train").write_bytes(content(batch(noise, FINE, COARSE)))
    with pytest.raises(SourceError, match=wrong):
        cifar.read_pickled_split(tmp_path / "train")
    with pytest.raises(CbnormError, match="CIFAR-100 can't be read: train"):
        cifar.read_cifar100(tmp_path)


def test_superclasses_follow_their_images_into_the_splits(noise, tmp_path, monkeypatch):
    many = np.tile(noise, (20, 1))
    coarse = [label % 20 for label in range(120)]
    for name in ("train", "test"):
        (tmp_path / name).write_bytes(batch(many, list(range(100)) + list(range(20)), coarse))
    monkeypatch.setattr("cbnorm.data.sources.require", lambda key: tmp_path)
    data = images.load("cifar100", val_images=20, train_images=50, test_images=30, download=False)
    for split in (data.train, data.val, data.test):
        assert split.attributes["superclass"].tolist() == [coarse[place] for place in split.indices.tolist()]


@pytest.mark.real_data("cifar100")
def test_the_real_cifar100_is_the_published_one(cifar100):
    train, test = cifar.read_cifar100(cifar100)
    assert train.images.shape == (50_000, 3, 32, 32)
    assert train.labels.bincount().tolist() == [500] * 100
    assert test.labels.bincount().tolist() == [100] * 100
    names = catalog.find("cifar100").class_names
    # The first images are of cattle and a dinosaur and, in the test set, of mountains.
    assert [names[label] for label in train.labels[:4]] == ["cattle", "dinosaur", "apple", "boy"]
    assert [names[label] for label in test.labels[:4]] == ["mountain", "forest", "seal", "mushroom"]
    mean, std = pixels.channel_moments(train.images)
    assert mean == pytest.approx((0.5071, 0.4865, 0.4409), abs=5e-5)
    assert std == pytest.approx((0.2673, 0.2564, 0.2762), abs=5e-5)


@pytest.mark.real_data("cifar100")
def test_the_real_superclass_is_a_function_of_the_class(cifar100):
    train, test = cifar.read_cifar100(cifar100)
    pairs = {
        pair
        for part in (train, test)
        for pair in zip(part.labels.tolist(), part.attributes["superclass"].tolist(), strict=True)
    }
    assert len(pairs) == 100
    assert np.bincount([coarse for _, coarse in pairs]).tolist() == [5] * 20
    assert dict(pairs) == dict(enumerate(superclasses.CIFAR100))


@pytest.mark.real_data("cifar100")
def test_the_class_names_are_those_of_the_meta_file(cifar100):
    meta = (cifar100 / "meta").read_bytes()
    for name in catalog.find("cifar100").class_names:
        assert text(name.encode()) in meta
    places = [meta.index(text(name.encode())) for name in catalog.find("cifar100").class_names]
    assert places == sorted(places)


@pytest.mark.real_data("cifar100")
def test_the_real_cifar100_is_split_by_class(cifar100):
    data = images.load("cifar100", val_images=5000, download=False)
    assert data.train.labels.bincount().tolist() == [450] * 100
    assert data.val.labels.bincount().tolist() == [50] * 100
    assert data.val.attributes["superclass"].bincount().tolist() == [250] * 20
