"""SVHN's files in MATLAB's format 5, written here byte by byte, and by SciPy."""

import struct
import zlib

import numpy as np
import pytest
import torch
from scipy import io

from cbnorm.data import catalog, images, svhn
from cbnorm.errors import CbnormError

UINT8, INT8, INT32, UINT32, DOUBLE, MATRIX, COMPRESSED = 2, 1, 5, 6, 9, 14, 15
CLASS_UINT8, CLASS_DOUBLE, CLASS_CELL, CLASS_FUNCTION = 9, 6, 1, 16


def element(kind, content):
    """One data element: type, bytes, and padding up to eight."""
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def array(name, values, kind=UINT8, array_class=CLASS_UINT8):
    flags = element(UINT32, struct.pack("<II", array_class, 0))
    dimensions = element(INT32, struct.pack(f"<{values.ndim}i", *values.shape))
    # MATLAB counts the first dimension fastest.
    content = element(kind, values.tobytes(order="F"))
    return element(MATRIX, flags + dimensions + element(INT8, name.encode()) + content)


def compressed(packed):
    content = zlib.compress(packed)
    return struct.pack("<II", COMPRESSED, len(content)) + content  # not padded, as the format says


def mat(*elements):
    header = (
        b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + struct.pack("<H2s", 0x0100, b"IM")
    )
    return header + b"".join(elements)


PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 6), dtype=np.uint8)
LABELS = np.array([[1], [9], [10], [2], [10], [3]], dtype=np.uint8)
DIGITS = [1, 9, 0, 2, 0, 3]


@pytest.fixture
def written(tmp_path):
    def write(*elements):
        path = tmp_path / "train_32x32.mat"
        path.write_bytes(mat(*elements))
        return path

    return write


@pytest.mark.parametrize("pack", [lambda element: element, compressed], ids=["plain", "compressed"])
def test_images_and_digits_are_read_as_they_were_written(written, pack):
    found = svhn.read_digits(written(pack(array("X", PIXELS)), pack(array("y", LABELS))))
    assert found.images.shape == (6, 3, 32, 32)
    assert found.images.is_contiguous()
    for n, row, column, channel in ((0, 0, 0, 0), (5, 31, 2, 1), (3, 7, 30, 2)):
        assert found.images[n, channel, row, column] == PIXELS[row, column, channel, n]
    assert torch.equal(found.images, torch.from_numpy(PIXELS).permute(3, 2, 0, 1))
    assert found.labels.tolist() == DIGITS
    assert found.labels.dtype == torch.int64


def test_labels_may_be_doubles_and_other_variables_are_passed_over(written):
    labels = array("y", LABELS.astype(np.float64), DOUBLE, CLASS_DOUBLE)
    junk = compressed(array("extra", np.zeros((2, 2), np.uint8)))
    found = svhn.read_digits(written(junk, labels, compressed(array("X", PIXELS)), junk))
    assert found.labels.tolist() == DIGITS


@pytest.mark.parametrize("compress", [False, True])
def test_what_scipy_writes_is_read(tmp_path, compress):
    path = tmp_path / "test_32x32.mat"
    io.savemat(path, {"X": PIXELS, "y": LABELS}, do_compression=compress)
    found = svhn.read_digits(path)
    assert torch.equal(found.images, torch.from_numpy(PIXELS).permute(3, 2, 0, 1))
    assert found.labels.tolist() == DIGITS


GOOD = (compressed(array("X", PIXELS)), compressed(array("y", LABELS)))
SHORT = mat(*GOOD)[: 128 + 400]


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "no MATLAB file of format 5, or broken"),
        (b"not a file of MATLAB" * 20, "no MATLAB file of format 5, or broken"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "no MATLAB file of format 5, or broken"),
        (SHORT, "no MATLAB file of format 5, or broken"),
        (mat(GOOD[0]), "holds no array y"),
        (mat(GOOD[1]), "holds no array X"),
        (mat(GOOD[0], array("y", LABELS[:5])), r"X of uint8 \(32, 32, 3, 6\) and 5 labels"),
        (mat(array("X", PIXELS[:16]), GOOD[1]), r"X of uint8 \(16, 32, 3, 6\) and 6 labels"),
        (mat(GOOD[0], array("y", LABELS - 1)), "labels other than 1 to 10"),
        (mat(array("X", PIXELS.astype(float), DOUBLE, CLASS_DOUBLE), GOOD[1]), "X of float64"),
        (mat(GOOD[0], array("y", np.array([[2.5]] * 6), DOUBLE, CLASS_DOUBLE)), "labels other than 1 to 10"),
        (mat(GOOD[0], array("y", np.array([[np.nan]] * 6), DOUBLE, CLASS_DOUBLE)), "labels other than"),
        (mat(GOOD[0], compressed(array("y", LABELS))[:-6]), "no MATLAB file of format 5, or broken"),
        (mat(GOOD[0], element(COMPRESSED, b"no deflate stream")), "no MATLAB file of format 5, or broken"),
        (mat(array("X", PIXELS[:0]), array("y", LABELS[:0])), "and 0 labels"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, content, wrong):
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(content)
    with pytest.raises(CbnormError, match=wrong) as caught:
        svhn.read_digits(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_cell_array_in_place_of_labels_is_refused(tmp_path):
    path = tmp_path / "train_32x32.mat"
    io.savemat(path, {"X": PIXELS, "y": np.array([[1], ["two"]], dtype=object)})
    with pytest.raises(CbnormError, match="y of object, not numbers"):
        svhn.read_digits(path)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(CbnormError, match=r"train_32x32.mat can't be read \(No such file"):
        svhn.read(tmp_path)


def test_both_files_make_up_the_set(tmp_path, monkeypatch):
    for name, count in (("train", 60), ("test", 12)):
        labels = np.resize(np.arange(1, 11, dtype=np.uint8), (count, 1))
        (tmp_path / f"{name}_32x32.mat").write_bytes(
            mat(array("X", np.resize(PIXELS, (32, 32, 3, count))), array("y", labels))
        )
    entry = catalog.find("svhn")
    small = type(entry)(**(vars(entry) | {"counts": {"train": 60, "test": 12}}))
    monkeypatch.setattr(catalog, "DATA_SETS", {**catalog.DATA_SETS, "svhn": small})
    monkeypatch.setattr("cbnorm.data.sources.require", lambda key: tmp_path)
    data = images.load("svhn", val_images=10, download=False)
    assert data.train.images.shape == (50, 3, 32, 32)
    assert data.train.labels.bincount().tolist() == [5] * 10
    assert len(data.test) == 12


@pytest.mark.real_data("svhn")
def test_the_real_svhn_is_the_published_one():
    from cbnorm.data import sources

    try:
        train, test = svhn.read(sources.require("svhn"))
    except CbnormError as error:
        pytest.skip(f"no real SVHN: {error}")
    assert (len(train), len(test)) == (73_257, 26_032)
    assert train.labels.bincount().tolist() == [4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659]
