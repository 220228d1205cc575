"""CIFAR-10 in other forms becomes the binary version's records, whatever brought it."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from cbnorm.data import cifar, convert
from cbnorm.data.failure import SourceError
from cbnorm.data.pickles import read_pickled

PER_FILE = 7
NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


@pytest.fixture
def made_up(monkeypatch):
    """Images uint8 (6, 7, 3, 32, 32) and labels (6, 7), in the place of 10,000 per file."""
    monkeypatch.setattr(convert, "_IMAGES_PER_FILE", PER_FILE)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, PER_FILE, 3, 32, 32), dtype=np.uint8)
    return images, random.integers(0, 10, (6, PER_FILE))


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def assert_written(out, images, labels):
    for name, image, label in zip(NAMES, images, labels, strict=True):
        split = cifar.read_records(out / f"{name}.bin")
        assert np.array_equal(split.images.numpy(), image)
        assert split.labels.tolist() == label.tolist()


@pytest.fixture
def package(tmp_path, made_up):
    from PIL import Image

    images, labels = made_up
    for name, image in zip(NAMES, images, strict=True):
        sheet = image.transpose(0, 2, 3, 1).reshape(PER_FILE, 1024, 3)
        Image.fromarray(sheet).save(tmp_path / f"{name}.png")
    (tmp_path / "train_lables.json").write_text(json.dumps(labels[:5].flatten().tolist()))
    (tmp_path / "test_lables.json").write_text(json.dumps(labels[5].tolist()))
    return tmp_path


def test_png_sheets_become_records(package, out, made_up):
    convert.from_png_sheets(package, out)
    assert_written(out, *made_up)


@pytest.mark.parametrize("damage", ["data_batch_3.png", "test_lables.json"])
@pytest.mark.parametrize("content", [None, b"", b"[1, 2]"])
def test_a_package_with_other_files_is_refused(package, out, damage, content):
    if content is None:
        (package / damage).unlink()
    else:
        (package / damage).write_bytes(content)
    with pytest.raises(SourceError, match="not as expected"):
        convert.from_png_sheets(package, out)


def python2_pickle(data, labels, key="labels"):
    """Write what Python 2 wrote: strings as opcodes U and T, numbers as K, protocol 2."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"tR(K\x01\x89"
    )
    pixels = b"T" + struct.pack("<i", len(data)) + data
    parts = [
        (text(b"batch_label"), text(b"training batch 1 of 5")),
        (text(key.encode()), b"](" + numbers + b"e"),
        (text(b"data"), array + pixels + b"tb"),
        (text(b"filenames"), b"](" + text(b"a.png") + b"K\x03e"),
    ]
    return b"\x80\x02}(" + b"".join(name + value for name, value in parts) + b"u."


def test_pickles_become_records(tmp_path, out, made_up):
    for name, image, label in zip(NAMES, *made_up, strict=True):
        (tmp_path / name).write_bytes(python2_pickle(image.tobytes(), label.tolist()))
    convert.from_pickles(tmp_path, out)
    assert_written(out, *made_up)


def test_a_pickle_of_another_size_is_refused(tmp_path, out, made_up):
    (tmp_path / "data_batch_1").write_bytes(python2_pickle(b"few", [1, 2]))
    with pytest.raises(SourceError, match="data_batch_1 is not the file that its authors published"):
        convert.from_pickles(tmp_path, out)


def test_a_list_of_labels_is_chosen_by_its_key(tmp_path):
    path = tmp_path / "train"
    path.write_bytes(python2_pickle(b"x" * 300, [3, 1, 4], key="fine_labels"))
    assert read_pickled(path, "fine_labels") == (b"x" * 300, {"fine_labels": [3, 1, 4]})
    assert read_pickled(path, "coarse_labels").numbers == {"coarse_labels": []}


def test_nothing_in_a_pickle_is_executed(tmp_path):
    trap = tmp_path / "sprung"
    path = tmp_path / "evil"
    path.write_bytes(b"cpathlib\nPath\n(V" + str(trap).encode() + b"\ntRcpathlib\nPath.touch\n(g0\ntR.")
    read_pickled(path, "labels")
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02}T\xff\xff\xff\x7f", b"no pickle"])
def test_what_is_no_pickle_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SourceError, match="x can't be read"):
        read_pickled(tmp_path / "x", "labels")


def test_a_file_that_is_not_there_is_refused():
    with pytest.raises(SourceError, match="can't be read"):
        read_pickled(Path("/nowhere/x"), "labels")
